"""What a draft is worth: acceptance and cross-entropy on text it was not trained on."""

import torch
from torch import Tensor, nn

from specpress.models.feature_head import feature_layers
from specpress.training.lesson import Lesson, read_windows
from specpress.training.objectives import IGNORED, cross_entropy, known_masses, rows_of_tokens
from specpress.training.predictions import covered, predictions

POSITIONS = 4  # tokens of a chain of a head that are judged


@torch.no_grad()
def judge(draft: nn.Module, target: nn.Module, windows: Tensor, batch: int = 2) -> dict:
    """How well a draft predicts what the target would say, and the text itself.

    Parameters
    ----------
    draft, target : causal LM of a family in `specpress.models.families`; the draft may be a feature head
    windows : LongTensor (n, length + 1)
        Each is one context; every position of it that the draft predicts is scored.

    Returns
    -------
    dict
        `acceptance`: mean over positions of sum_x min(p(x), q(x)) at temperature 1, the chance that speculative
        sampling accepts a draft token (Leviathan et al., 2023, section 3.2), of the first token drafted.
        `acceptance_by_position`: the same of the first token, the second and so on, given the text as far as it; of a
        draft model one number, as it is the same for all. `cross_entropy`: nats a token of the draft on the tokens its
        head covers; `coverage`: their share. `n_tokens`: positions scored.
    """
    ids, row_of = covered(draft), rows_of_tokens(covered(draft), draft.config.vocab_size)
    overlaps, places = [0.0] * POSITIONS, [0] * POSITIONS
    nll = scored = 0.0
    for rows in windows.to(draft.device).split(batch):
        logits, states = read_windows(target, rows, feature_layers(draft))
        p = logits.float().softmax(-1)[..., ids]
        for position, (said, offset) in enumerate(predictions(draft, Lesson(rows, states=states), POSITIONS)):
            count = min(said.shape[1], p.shape[1] - offset)
            said = said[:, :count].float()
            overlaps[position] += torch.minimum(p[:, offset : offset + count], said.softmax(-1)).sum().item()
            places[position] += count * len(rows)
            if not position:
                labels = row_of[rows[:, 1 + offset : 1 + offset + count]]
                in_head = (labels != IGNORED).sum().item()
                nll += cross_entropy(said, labels).item() * in_head
                scored += in_head
    found = [overlap / n for overlap, n in zip(overlaps, places, strict=True) if n]
    return {
        "acceptance": found[0],
        "acceptance_by_position": found,
        "cross_entropy": nll / scored if scored else None,
        "coverage": scored / places[0],
        "n_tokens": places[0],
    }


@torch.no_grad()
def glance(draft: nn.Module, lesson: Lesson, batch: int = 8) -> float:
    """About the acceptance of the first token drafted on what a target has said of windows, without asking it again.

    Of each law the rest beyond its known tokens counts as one.
    """
    row_of, found = rows_of_tokens(covered(draft), draft.config.vocab_size), []
    for start in range(0, len(lesson), batch):
        part = lesson[start : start + batch].to(draft.device)
        logits, offset = next(predictions(draft, part))
        count = min(logits.shape[1], part.top.shape[1] - offset)
        p, q = known_masses(logits[:, :count].float(), part, slice(offset, offset + count), row_of)
        found.append(torch.minimum(p, q).sum(-1).flatten())
    return torch.cat(found).mean().item()
