"""The training loop: the objectives over the lesson's windows by AdamW; it stops at a loss that is no number."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from specpress.study.draft_config import DraftConfig, DraftError
from specpress.training.checkpoint import Checkpoint
from specpress.training.lesson import Lesson
from specpress.training.objectives import loss_of, rows_of_tokens
from specpress.training.predictions import covered, predictions

HEAD_SCALES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)  # tried before training
_LATER = 0.7  # weight of the loss of each further token of a chain, which is reached less often


@dataclass
class Noted:
    """What has been noted of a training so far.

    steps, tokens : done
    seconds : that the steps have taken, over all starts
    losses : of each step
    glances : whatever `report` notes beside them
    """

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    glances: list[dict] = field(default_factory=list)


def fit(
    draft: nn.Module,
    lesson: Lesson,
    config: DraftConfig,
    *,
    mixed_precision: bool,
    report: Callable[[Noted], None] = lambda noted: None,
    checkpoint: Checkpoint | None = None,
) -> Noted:
    """Train a draft on a lesson, `config.passes` times over its windows, by AdamW.

    The model stays in eval mode: there is no dropout to draw.

    Parameters
    ----------
    draft : causal LM of a family in `specpress.models.families`, or a feature head
        Float32, trained in place.
    lesson : Lesson
        `config.batch` windows of it a step.
    mixed_precision : bool
        Matrix products in bfloat16; the weights stay in float32.
    report : callable
        Called after each step.
    checkpoint : Checkpoint or None
        Where a killed training is gone on from, and this one is noted now and then.

    Raises
    ------
    DraftError
        At the first step whose loss is infinite or no number.
    """
    trained = [parameter for parameter in draft.parameters() if parameter.requires_grad]
    fused = draft.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.95), weight_decay=0.01, fused=fused)
    row_of = rows_of_tokens(covered(draft), draft.config.vocab_size)
    steps = list(_order(len(lesson), config).split(config.batch))
    noted = Noted(**(found if checkpoint and (found := checkpoint.load(draft, optimizer)) else {}))
    if not noted.steps:
        soften_head(draft, lesson[steps[0]].to(draft.device), row_of, config)
    started = time.perf_counter() - noted.seconds
    for rows in steps[noted.steps :]:
        part = lesson[rows].to(draft.device)
        optimizer.param_groups[0]["lr"] = config.learning_rate * warmup_cosine((noted.steps + 1) / len(steps))
        with torch.autocast(draft.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
            loss = sum(_LATER**i * loss for i, loss in enumerate(_losses(draft, part, row_of, config)))
        loss.backward()
        _check(loss.item(), noted, len(steps))
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        noted.steps, noted.tokens = noted.steps + 1, noted.tokens + part.tokens[:, 1:].numel()
        noted.seconds = time.perf_counter() - started
        noted.losses.append(loss.item())
        report(noted)
        if checkpoint and checkpoint.due:
            checkpoint.save(draft, optimizer, vars(noted))
    return noted


def _order(windows: int, config: DraftConfig) -> Tensor:
    """The windows in the order they are read in: as they are, in later passes shuffled."""
    generator = torch.Generator().manual_seed(config.seed)
    later = [torch.randperm(windows, generator=generator) for _ in range(config.passes - 1)]
    return torch.cat([torch.arange(windows), *later])


def _losses(draft: nn.Module, part: Lesson, row_of: Tensor, config: DraftConfig) -> Iterator[Tensor]:
    for logits, offset in predictions(draft, part, config.unrolled):
        yield loss_of(logits, offset, part, row_of, config.objective)


def _check(loss: float, noted: Noted, steps: int) -> None:
    if not math.isfinite(loss):
        raise DraftError(
            f"learning_rate: the loss is {loss} at step {noted.steps + 1} of {steps}, after {noted.tokens} tokens "
            f"(before it: {', '.join(f'{value:.3f}' for value in noted.losses[-3:]) or 'none'}); lower the learning "
            "rate, or train a target in bfloat16 or float32 if its weights are float16"
        )


@torch.no_grad()
def soften_head(draft: nn.Module, part: Lesson, row_of: Tensor, config: DraftConfig) -> float:
    """Scale the head's weights by the best of `HEAD_SCALES` on some windows, and return it.

    After a few layers the hidden state has the length it has after the last one, but not its direction: the target's
    head is sure of the wrong tokens. Smaller logits to begin with save the steps that unlearning this takes.
    """
    logits, offset = next(predictions(draft, part))
    kind = {"cross_entropy": 1.0} if part.top is None else {"forward_kl": 1.0}
    best = min(HEAD_SCALES, key=lambda scale: loss_of(scale * logits, offset, part, row_of, kind).item())
    draft.get_output_embeddings().weight.mul_(best)
    return best


def warmup_cosine(progress: float, warmup: float = 0.05) -> float:
    """The factor of the learning rate after a share `progress` (0 to 1) of the steps: linear to 1, then cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
