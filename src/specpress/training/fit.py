"""The training loop: cross-entropy over the tokens of the draft's head."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from specpress.study.draft_config import DraftConfig

HEAD_SCALES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)  # tried before training


IGNORED = -100  # target of a token outside the draft's head: no loss


def fit(
    draft: nn.Module,
    windows: torch.Tensor,
    config: DraftConfig,
    *,
    mixed_precision: bool,
    report: Callable[[int, float], None],
) -> None:
    """Train a draft on the next token of each window, in their order, by AdamW on the cross-entropy.

    Labels outside the draft's head carry no loss: it learns the law of the text given a token of its own. The model
    stays in eval mode: there is no dropout to draw.

    Parameters
    ----------
    draft : LlamaForCausalLM or GPTNeoXForCausalLM
        Float32, trained in place.
    windows : LongTensor (n, sequence + 1)
        `config.batch` of them a step.
    mixed_precision : bool
        Matrix products in bfloat16; the weights stay in float32.
    report : callable
        Called after each step with the tokens so far and the step's mean loss (nats a token).
    """
    trained = [parameter for parameter in draft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    steps = windows.split(config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine((step + 1) / len(steps)))
    soften_head(draft, steps[0])
    tokens = 0
    for rows in steps:
        with torch.autocast(draft.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
            logits, labels = predictions(draft, rows.to(draft.device))
            loss = cross_entropy(logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        tokens += labels.numel()
        report(tokens, loss.item())


def predictions(draft: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, length, k) after each token of the windows (n, length + 1) but the last, and their labels (n, length).

    A label is a row of the draft's head, or `IGNORED` for a token the head does not cover.
    """
    ids = covered(draft)
    row_of = torch.full((draft.config.vocab_size,), IGNORED, device=draft.device)
    row_of[ids] = torch.arange(len(ids), device=draft.device)
    return draft(rows[:, :-1], use_cache=False).logits, row_of[rows[:, 1:]]


def covered(draft: nn.Module) -> torch.Tensor:
    """Ids (k,) of the tokens a model's head covers."""
    ids = getattr(draft, "head_token_ids", None)
    return torch.arange(draft.config.vocab_size, device=draft.device) if ids is None else ids


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats over the labels that are not `IGNORED`; 0 if there is none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


@torch.no_grad()
def soften_head(draft: nn.Module, rows: torch.Tensor) -> float:
    """Scale the head's weights by the best of `HEAD_SCALES` on some windows, and return it.

    After a few layers the hidden state has the length it has after the last one, but not its direction: the target's
    head is sure of the wrong tokens. Smaller logits to begin with save the steps that unlearning this takes.
    """
    logits, labels = predictions(draft, rows.to(draft.device))
    best = min(HEAD_SCALES, key=lambda scale: cross_entropy(scale * logits, labels).item())
    draft.get_output_embeddings().weight.mul_(best)
    return best


def warmup_cosine(progress: float, warmup: float = 0.05) -> float:
    """The factor of the learning rate after a share `progress` (0 to 1) of the steps: linear to 1, then cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
