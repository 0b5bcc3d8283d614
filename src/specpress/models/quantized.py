"""Weights in four or eight bits: what a model holds in place of the weights of its linear maps.

The numbers of a row go in groups of 32 that share a scale and an offset in bfloat16: w = (code - 8) scale + offset,
with a code of four bits. That is what torch's packed kernel computes, and what Q4_1 of GGUF is with other names. Eight
bits are two planes of such codes, w = (16 (high - 8) + (low - 8) + 8) scale, and their product is one over twice the
inputs. Nothing is trained or calibrated: codes are rounded to the nearest.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 32
PLANES = {"q4": 1, "q8": 2}  # planes of four bits of each kind of weights


class QuantizedLinear(nn.Module):
    """A linear map whose weights are codes.

    `codes` : uint8 (out features, planes x in features / 2), two codes a byte, the first in the lower half
    `scales` : bfloat16 (planes x in features / 32, out features, 2), scale and offset of each group

    `specpress.engine.linear` computes with the codes as they are; `forward` is the plain way, for what runs modules.
    """

    def __init__(self, in_features: int, out_features: int, planes: int, bias: nn.Parameter | None = None):
        super().__init__()
        self.in_features, self.out_features, self.planes, self.bias = in_features, out_features, planes, bias
        self.register_buffer("codes", torch.zeros(out_features, planes * in_features // 2, dtype=torch.uint8))
        groups = planes * in_features // GROUP
        self.register_buffer("scales", torch.zeros(groups, out_features, 2, dtype=torch.bfloat16))

    @property
    def weight(self) -> Tensor:
        """The weights that the codes stand for, rounded to bfloat16: (out features, in features)."""
        return dequantized(self.codes, self.scales, self.planes).to(self.scales.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes, scales and offsets."""
        return self.codes.nbytes + self.scales.nbytes

    def forward(self, x: Tensor) -> Tensor:
        """(..., in features) -> (..., out features)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)


def quantized_copy(model: nn.Module, bits: int, group: int = GROUP, symmetric: bool = False) -> nn.Module:
    """A copy of a model whose linear maps, the output head too, are held in fewer bits; all else it shares.

    Parameters
    ----------
    model : causal LM on a CPU; it stays as it is
    bits : 4 or 8
    group, symmetric : see `quantized`

    Maps whose inputs are not a multiple of 32 stay as they are: the copy drafts, and need not be small throughout.

    Raises
    ------
    ValueError
        If the machine has no kernel for codes, the model is held in fewer bits already, or none of its maps can be.
    """
    require_kernels(f"q{bits}", model.device)
    if getattr(model.config, "weights_format", None) is not None:
        raise ValueError(
            f"the model is held in {model.config.weights_format} already: a copy of it in {bits} bits saves nothing; "
            "give the model in full, or another drafter"
        )
    shared = {id(held): held for held in (*model.parameters(), *model.buffers())}
    copied, planes = copy.deepcopy(model, shared), PLANES[f"q{bits}"]
    linears = [(n, m) for n, m in copied.named_modules() if isinstance(m, nn.Linear) and not m.in_features % GROUP]
    if not linears:
        raise ValueError(
            f"no linear map of the model has inputs that are a multiple of {GROUP}: it cannot be quantised"
        )
    for name, linear in linears:
        packed = _like(linear, name, planes)
        packed.codes, packed.scales = quantized(linear.weight.detach(), planes, group, symmetric)
        copied.set_submodule(name, packed)
    return _marked(copied, f"q{bits}")


def quantize_model(model: nn.Module, weights: str, blocks: dict[str, tuple[Tensor, Tensor]] | None = None) -> nn.Module:
    """Hold the linear maps of `model` in four or eight bits from now on; returns the model.

    Embeddings and norms stay as they are. The output head, whose rounding reaches the logits directly, takes eight bits
    in either case; one that was tied to the embeddings no longer is.

    Parameters
    ----------
    model : causal LM on a CPU
    weights : "q4" or "q8"
    blocks : codes and scales of some maps by their names, in place of those rounded from their weights

    Raises
    ------
    ValueError
        If a map's rows do not divide into groups, or the machine has no kernel for codes.
    """
    require_kernels(weights, model.device)
    head = model.get_output_embeddings()
    for name, linear in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]:
        planes = PLANES["q8" if linear is head else weights]
        packed = _like(linear, name, planes)
        packed.codes, packed.scales = (blocks or {}).get(name) or quantized(linear.weight.detach(), planes)
        model.set_submodule(name, packed)
    return _marked(model, weights)


def with_empty_codes(model: nn.Module, weights: str) -> nn.Module:
    """`model` as `quantize_model` leaves it, with codes that are still to be loaded."""
    require_kernels(weights, model.device)
    head = model.get_output_embeddings()
    for name, linear in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]:
        model.set_submodule(name, _like(linear, name, PLANES["q8" if linear is head else weights]))
    return _marked(model, weights)


def _like(linear: nn.Linear, name: str, planes: int) -> QuantizedLinear:
    if linear.in_features % GROUP:
        raise ValueError(
            f"{name} has {linear.in_features} inputs, not a multiple of {GROUP}, the numbers that share a scale: this "
            "model cannot be held in four or eight bits; leave `weights` out"
        )
    return QuantizedLinear(linear.in_features, linear.out_features, planes, linear.bias)


def _marked(model: nn.Module, weights: str) -> nn.Module:
    config = model.config
    config.head_was_tied = config.tie_word_embeddings or getattr(config, "head_was_tied", False)
    config.tie_word_embeddings = False
    config.weights_format = weights
    return model.eval()


def require_kernels(weights: str, device: torch.device) -> None:
    """Refuse a kind of weights that is unknown, or that this device or torch cannot compute with.

    Raises
    ------
    ValueError
        With what to do instead.
    """
    if weights not in PLANES:
        raise ValueError(f"unknown weights {weights!r}; use q4, q8, or leave it out for the weights as they are")
    if device.type != "cpu":
        raise ValueError(
            f"weights in {weights} run on a CPU only, not on {device.type}: torch's kernel for them is the CPU's; set "
            "device to cpu, or leave `weights` out"
        )
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        raise ValueError(
            f"torch {torch.__version__} has no kernel for weights in {weights}: install torch 2.6 or later"
        )


def quantized(weight: Tensor, planes: int, group: int = GROUP, symmetric: bool = False) -> tuple[Tensor, Tensor]:
    """Codes and scales (see `QuantizedLinear`) nearest to a weight, (out features, in features).

    In one plane a group spans from its least to its greatest number (Q4_1), or, `symmetric`, from minus its largest to
    its largest without an offset; in two it is symmetric about 0 (Q8_0).

    group : numbers that share scale and offset, a multiple of 32; the last group of a row may have fewer. What is
        stored is a scale for every 32 of them in any case: a larger group is coarser, and no smaller.
    """
    groups = weight.float().unflatten(1, (-1, GROUP))
    least, most = _extremes(groups, group // GROUP)
    largest = torch.maximum(least.abs(), most.abs())
    if planes == 2:
        scale = (largest / 127).bfloat16()
        codes = (groups / _not_zero(scale)).round_().clamp_(-128, 127).to(torch.int16)
        return packed_eight(codes.flatten(1), scale[..., 0].float())
    scale = (largest / 7 if symmetric else (most - least) / 15).bfloat16().float()
    offset = torch.zeros_like(scale) if symmetric else (least + 8 * scale).bfloat16().float()
    codes = ((groups - offset) / _not_zero(scale)).round_().add_(8).clamp_(0, 15).to(torch.uint8)
    return packed_nibbles(codes.flatten(1)), paired(scale[..., 0], offset[..., 0])


def _extremes(groups: Tensor, together: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest number of each group, (out, groups, 1) each, `together` neighbouring ones as one."""
    least, most = groups.aminmax(dim=2)
    if together > 1:
        most, negated = (
            F.max_pool1d(x, together, ceil_mode=True).repeat_interleave(together, 1)[:, : x.shape[1]]
            for x in (most, -least)
        )
        least = -negated
    return least[..., None], most[..., None]


def packed_eight(codes: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Two planes of signed codes of eight bits, (out, in), with the scales of their groups, (out, in / 32)."""
    shifted = codes.to(torch.int16) + 128
    planes = torch.cat([shifted >> 4, shifted & 15], 1).to(torch.uint8)
    zero = torch.zeros_like(scale)
    return packed_nibbles(planes), torch.cat([paired(16 * scale, zero), paired(scale, 8 * scale)])


def packed_nibbles(codes: Tensor) -> Tensor:
    """Codes of four bits, uint8 (out, n), two a byte."""
    return codes[:, ::2] | codes[:, 1::2] << 4


def unpacked_nibbles(codes: Tensor) -> Tensor:
    """The codes, uint8 (out, n), that `packed_nibbles` packed."""
    return torch.stack([codes & 15, codes >> 4], -1).flatten(1)


def dequantized(codes: Tensor, scales: Tensor, planes: int) -> Tensor:
    """The weights that codes stand for, float32 (out features, in features): the oracle of the packed kernel."""
    scale, offset = scales.float().permute(2, 1, 0).unsqueeze(-1)
    numbers = unpacked_nibbles(codes).unflatten(1, (-1, GROUP)).float().sub_(8)
    return numbers.mul_(scale).add_(offset).unflatten(1, (planes, -1)).sum(1).flatten(1)


def parameters(model: nn.Module) -> int:
    """Numbers that a model was made with, in whatever bits it holds them; a head tied to the embeddings adds none."""
    tied = model.get_output_embeddings() if getattr(model.config, "head_was_tied", False) else None
    held = [module for module in model.modules() if isinstance(module, QuantizedLinear) and module is not tied]
    return model.num_parameters() + sum(m.in_features * m.out_features for m in held)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters, tied ones once, and of its codes."""
    held = sum(module.nbytes for module in model.modules() if isinstance(module, QuantizedLinear))
    return held + sum(parameter.nbytes for parameter in model.parameters())


def paired(scale: Tensor, offset: Tensor) -> Tensor:
    """Scale and offset of each group, (out, groups) each, as the kernel takes them: bfloat16 (groups, out, 2)."""
    return torch.stack([scale, offset], -1).transpose(0, 1).bfloat16().contiguous()


def _not_zero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1, scale).float()
