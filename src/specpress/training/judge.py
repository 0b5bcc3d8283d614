"""What a draft is worth: acceptance and cross-entropy on text it was not trained on."""

import torch
from torch import nn

from specpress.training.fit import IGNORED, covered, cross_entropy, predictions


@torch.inference_mode()
def judge(draft: nn.Module, target: nn.Module, windows: torch.Tensor, batch: int = 2) -> dict:
    """How well a draft predicts what the target would say, and the text itself.

    Parameters
    ----------
    draft, target : LlamaForCausalLM or GPTNeoXForCausalLM
    windows : LongTensor (n, length + 1)
        Each is one context; every position of it but the first is scored.

    Returns
    -------
    dict
        `acceptance`: mean over positions of sum_x min(p(x), q(x)) at temperature 1, the chance that speculative
        sampling accepts a draft token (Leviathan et al., 2023, section 3.2). `cross_entropy`: nats a token of the
        draft on the tokens its head covers; `coverage`: their share. `n_tokens`: positions scored.
    """
    ids = covered(draft)
    overlap = nll = scored = 0.0
    for rows in windows.to(draft.device).split(batch):
        p = target(rows[:, :-1], use_cache=False).logits.float().softmax(-1)[..., ids]
        logits, labels = predictions(draft, rows)
        overlap += torch.minimum(p, logits.float().softmax(-1)).sum().item()
        in_head = (labels != IGNORED).sum().item()
        nll += cross_entropy(logits, labels).item() * in_head
        scored += in_head
    count = windows.shape[0] * (windows.shape[1] - 1)
    return {
        "acceptance": overlap / count,
        "cross_entropy": nll / scored if scored else None,
        "coverage": scored / count,
        "n_tokens": count,
    }
