"""Studies of other models: those of the Pythia study, small and from a hub on the loopback interface, and one's own."""

import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from loopback_hub import REVISION, serve
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from tree import ROOT, Tree
from warm import warm_python

from specpress.models.build import random_model
from specpress.models.byte_level import byte_tokenizer
from specpress.models.save import save_model

pytestmark = pytest.mark.end_to_end

PYTHIA = yaml.safe_load((ROOT / "config" / "pythia.yaml").read_text())
TINY = yaml.safe_load((ROOT / "tests" / "study.yaml").read_text())
# What a published Pythia's config.json says, but for its sizes.
CONFIG = {
    **{"bos_token_id": 256, "eos_token_id": 256, "hidden_act": "gelu", "initializer_range": 0.02},
    **{"layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "rotary_emb_base": 10000, "rotary_pct": 0.25},
    **{"tie_word_embeddings": False, "torch_dtype": "float16", "use_parallel_residual": True, "vocab_size": 320},
}


def paragraphs() -> list[str]:
    return re.split(r"\n\s*\n", (ROOT / "tests" / "data" / "logbook.txt").read_text())


def parquet(rows: list[str], **columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": rows, **columns}), buffer)
    return buffer.getvalue()


def pythia_files(folder, layers: int, hidden: int, seed: int) -> dict[str, bytes]:
    """The files of a Pythia of a few thousand weights: its configuration class, a byte-level BPE tokenizer."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**CONFIG, **sizes, num_attention_heads=4)).to(torch.float16)
    for parameter in model.parameters():
        parameter.data *= 4 if parameter.dim() > 1 else 1  # laws that depend on the text
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts() -> dict[str, bytes]:
    """The two data sets: lines of WikiText, and books."""
    found = paragraphs()
    lines = []
    for number in range(0, len(found), 10):
        lines += ["", f" = Article {number} = \n", "", *(f" {text} \n" for text in found[number : number + 10])]
    books = ["\n\n".join(found[number::8]) for number in range(8)]
    return {
        PYTHIA["data"]["wikitext"]["source"]["file"]: parquet(lines),
        PYTHIA["data"]["pg19"]["source"]["file"]: parquet(books, short_book_title=[f"Book {i}" for i in range(8)]),
    }


def scaled_down() -> dict:
    """config/pythia.yaml at the loopback's revision: short texts, few prompts, the first value or two of each grid."""
    study = yaml.safe_load((ROOT / "config" / "pythia.yaml").read_text())
    for entry in [*study["models"].values(), *study["data"].values()]:
        entry["source"]["revision"] = REVISION
    for entry in study["models"].values():
        entry |= {"dtype": "float32"}
    for entry in study["data"].values():
        entry["test_fraction"] = 0.8
    few = {"prompt_tokens": 20, "max_new_tokens": 8}
    few |= {"precision": 0.5, "budget_seconds": 1, "least_prompts": 2, "most_prompts": 2}
    study["defaults"]["speed"] |= few
    study["defaults"]["chain"] |= few
    short = {"context": 60, "score": 16, "passages": 2, "decoding_interval": 8, "timed_steps": 2}
    study["defaults"]["perplexity"] |= short
    study["defaults"]["regime"] |= {"repeats": 1, "steps": 2, "max_new_tokens": 6}
    for experiment in study["experiments"]:
        experiment |= {key: value for key, value in {**few, **short}.items() if key in experiment}
        if "grid" in experiment:
            experiment["grid"] = {key: values[:1] for key, values in experiment["grid"].items()}
        if experiment["kind"] == "regime":
            experiment |= {"batches": [1, 2], "contexts": [16, 32]}
    return study


def test_the_pythia_study_runs_to_its_paper_from_a_hub(tmp_path, monkeypatch):
    """All of config/pythia.yaml, one experiment of each entry, on models of a few thousand weights."""
    tree = Tree(tmp_path / "tree")
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for seed, (name, layers) in enumerate((("target", 3), ("intermediate", 2), ("draft", 1))):
            repo = PYTHIA["models"][name]["source"]["repo"]
            hub.repositories["models", repo] = pythia_files(tmp_path / name, layers, 32 if layers < 3 else 64, seed)
        for (file, content), entry in zip(texts().items(), PYTHIA["data"].values(), strict=True):
            hub.repositories["datasets", entry["source"]["repo"]] = {file: content}
        tree.write_study(scaled_down(), "config/small.yaml")
        with warm_python(tree):  # some forty jobs that each would import torch
            output = tree.snakemake("--cores", "2", "--configfile", "config/small.yaml", "--", "paper/main.pdf")
    # a source that is not to be had shows before anything long has begun
    begun = re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE)
    assert begun[:5] == [*["prepare_data"] * 2, *["prepare_model"] * 3]
    assert (tree.path / "paper" / "main.pdf").read_bytes().startswith(b"%PDF")
    manifest = json.loads((tree.path / "resources/pythia/models/target/manifest.json").read_text())
    assert manifest["architecture"] == "gpt_neox"
    assert "model.safetensors" in manifest["downloads"]


def test_a_models_own_family_from_a_folder_elsewhere_with_a_draft_trained_from_it(tmp_path):
    """What config/README.md shows: a Llama in some folder, one's own text, a trained draft."""
    source = {"architecture": "llama", "hidden_size": 32, "layers": 3, "heads": 4, "kv_heads": 2, "seed": 5}
    save_model(*random_model(source, dtype=torch.float32), tmp_path / "my-llama", {})
    (tmp_path / "my-llama" / "manifest.json").unlink()
    study = {
        **TINY,
        "study": "own",
        "baseline": "mine",
        "models": {"mine": {"source": {"kind": "path", "path": str(tmp_path / "my-llama")}, "dtype": "float32"}},
        "drafts": {"draft": {**TINY["drafts"]["draft"], "target": "mine", "tokens": 2048}},
        "experiments": [
            {
                **{"id": "fast", "kind": "speed", "sampling": "greedy"},
                **{"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": 2}},
            }
        ],
    }
    tree = Tree(tmp_path / "tree")
    tree.write_study(study, "config/own.yaml")
    with warm_python(tree):
        tree.snakemake("--cores", "1", "--configfile", "config/own.yaml", "--", "results/own/metrics/fast.json")
    metrics = json.loads((tree.path / "results/own/metrics/fast.json").read_text())
    assert metrics["lossless"]["unexplained"] == 0
    assert metrics["lossless"]["compared"] > 0
