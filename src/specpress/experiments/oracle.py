"""Logits as exact as they can be had: the same weights in a wider number format, run by the model's own modules."""

from pathlib import Path

import torch
from torch import Tensor, nn

from specpress.hardware.devices import free_memory
from specpress.models.load import load_model

WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64}
_ROOM = 1.2  # memory for the wide weights and what a forward needs besides


def load_oracle(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The model of `folder`, which computes in `dtype`, in the wider format; on the CPU where `device` has no room."""
    model, _ = load_model(folder, dtype=WIDER[dtype], device="cpu")
    needed = _ROOM * sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    return model if device.type in ("cpu", "mps") or free_memory(device) < needed else model.to(device)


def logits(oracle: nn.Module, tokens: Tensor, keep: int = 1) -> Tensor:
    """The logits after each of the last `keep` of (1, n) tokens: (keep, head size), in the wider format, on the CPU."""
    with torch.inference_mode():
        return oracle(tokens.to(oracle.device), logits_to_keep=keep).logits[0].cpu()


def name_of(dtype: torch.dtype) -> str:
    """A number format as a metrics file calls it, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")
