"""A GGUF file that is read once holds what gguf finds in it, and gguf is as before when the block ends."""

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
gguf_file = pytest.importorskip("specpress.models.gguf_file")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_rope_freq_base(10000.5)
    writer.add_token_list(["a", "é", ""])
    writer.add_token_scores([0.5, -1.0, 2.0])
    writer.add_tensor("token_embd.weight", np.arange(192, dtype=np.float32).reshape(3, 64))
    halves = gguf.quants.quantize(
        np.linspace(-1, 1, 256, dtype=np.float32).reshape(4, 64), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("blk.0.attn_q.weight", halves, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_reader_finds_what_that_of_gguf_finds(file):
    ours, theirs = gguf_file.Reader(file), gguf.GGUFReader(file)
    assert type(theirs.data) is not type(ours.data) is np.ndarray
    assert list(ours.fields) == list(theirs.fields)
    assert "tokenizer.ggml.tokens" in ours.fields
    assert [field.contents() for field in ours.fields.values()] == [f.contents() for f in theirs.fields.values()]
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (one.name, one.tensor_type, one.n_elements) == (other.name, other.tensor_type, other.n_elements)
        assert one.shape.tolist() == other.shape.tolist()
        assert np.array_equal(one.data, other.data)


def test_inside_the_block_a_file_is_read_once(file):
    arch, reader, names = gguf.MODEL_ARCH.LLAMA, gguf.GGUFReader, gguf.get_tensor_name_map
    with gguf_file.read_once():
        assert gguf.GGUFReader(file) is gguf.GGUFReader(str(file))
        known = gguf.get_tensor_name_map(arch, 2)
        assert gguf.get_tensor_name_map(arch, 2) is known
        assert known.mapping == names(arch, 2).mapping
        assert gguf.get_tensor_name_map(arch, 1).mapping != known.mapping
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (reader, names)


def test_gguf_is_as_before_after_a_failure(tmp_path):
    reader = gguf.GGUFReader
    (tmp_path / "none.gguf").write_bytes(b"no such file")
    with pytest.raises(ValueError, match="magic"), gguf_file.read_once():
        gguf.GGUFReader(tmp_path / "none.gguf")
    assert gguf.GGUFReader is reader
