"""The quantised weights of a GGUF file as the file has them: its codes are kept, not rounded anew.

Q4_1 holds 32 numbers as codes q of four bits with d and m in float16, w = q d + m; Q8_0 as signed codes of eight bits
with d alone. Here scale and offset are bfloat16, which torch's kernel takes: d and m + 8 d are rounded once, by as
much as bfloat16 weights are. (Layout of the blocks: ggml, ggml-common.h.)
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from specpress.models.quantized import GROUP, dequantized, packed_eight, packed_nibbles, paired

# llama.cpp's names of the linear maps of a Llama's layer -> transformers'
_LLAMA = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_blocks(path: str | Path, model: nn.Module, weights: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Codes and scales of the maps of a Llama that its GGUF file holds as Q4_1, and of a head that it holds as Q8_0.

    The maps of the layers are there for `weights` "q4" alone: eight bits are another format, rounded anew.

    Parameters
    ----------
    model : the same file's model, dequantised; a map whose weights are not what its blocks stand for is an error

    Returns
    -------
    dict of module name -> (codes, scales), see `specpress.models.quantized`; maps of other kinds are not in it

    Raises
    ------
    ValueError
        If blocks and model differ: the file orders its weights in a way that is not known here.
    """
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    found = {}
    for layer in range(model.config.num_hidden_layers if weights == "q4" else 0):
        for theirs, ours in _LLAMA.items():
            tensor = tensors.get(f"blk.{layer}.{theirs}.weight")
            if tensor is not None and tensor.tensor_type.name == "Q4_1":
                blocks = torch.from_numpy(_blocks(tensor.data, 20))
                if theirs in heads:  # llama.cpp interleaves the halves that rotary embeddings turn together
                    blocks = blocks.unflatten(0, (heads[theirs], -1, 2)).transpose(1, 2).flatten(0, 2)
                found[f"model.layers.{layer}.{ours}"] = four_bits(blocks)
    head = tensors.get("output.weight", tensors.get("token_embd.weight"))
    if head is not None and head.tensor_type.name == "Q8_0":
        found["lm_head"] = eight_bits(torch.from_numpy(_blocks(head.data, 34)))
    for name, (codes, scales) in found.items():
        _check(name, codes, scales, model.get_submodule(name).weight, path)
    return found


def _blocks(data: np.ndarray, size: int) -> np.ndarray:
    """Bytes of a tensor, (rows, blocks, bytes of a block)."""
    return np.array(data).reshape(data.shape[0], -1, size)


def four_bits(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of Q4_1: d and m, then 16 bytes whose lower halves are the first 16 codes."""
    d, m = blocks[..., :4].contiguous().view(torch.float16).float().unbind(-1)
    codes = torch.cat([blocks[..., 4:] & 15, blocks[..., 4:] >> 4], -1)
    return packed_nibbles(codes.flatten(1)), paired(d, m + 8 * d)


def eight_bits(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of Q8_0: d, then 32 signed codes."""
    d = blocks[..., :2].contiguous().view(torch.float16).float().squeeze(-1)
    return packed_eight(blocks[..., 2:].contiguous().view(torch.int8).flatten(1), d.bfloat16().float())


def _check(name: str, codes: Tensor, scales: Tensor, weight: Tensor, path) -> None:
    wide = weight.detach().float()
    difference = (dequantized(codes, scales, 2 * codes.shape[1] // weight.shape[1]) - wide).abs()
    largest = wide.abs().unflatten(1, (-1, GROUP)).amax(2).repeat_interleave(GROUP, 1)
    if (difference > 2**-6 * largest).any():
        raise ValueError(f"the blocks of {name} in {path} are not the weights that it holds: unknown order of its rows")
