"""What a draft is trained to: losses of its laws, on the text's tokens or on the target's laws.

Of a target's law p the most likely tokens are known and the sum of the rest; q is the draft's law over its head. With
the rest as one more outcome, whose mass under q is what q gives to no known token:

- `cross_entropy`: -log q(x) of the text's next token x; tokens outside the head carry no loss.
- `forward_kl`: -sum p log q, the Kullback-Leibler divergence up to p's own entropy (Hinton et al., 2015; DistillSpec,
  Zhou et al., 2024). Known tokens outside the head are left out.
- `acceptance`: -log sum min(p, q), of the chance that a drafted token is accepted (Leviathan et al., 2023, section 3.2;
  LK losses, arXiv 2602.23881). By itself it learns slowly from scratch: where q has no mass on p's tokens it hardly
  slopes. Mixed with the divergence it does.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from specpress.training.lesson import Lesson

IGNORED = -100  # row of a token outside the draft's head
_LEAST = 1e-4  # acceptance and mass below which logarithms go no further


def loss_of(logits: Tensor, offset: int, lesson: Lesson, row_of: Tensor, objective: Mapping[str, float]) -> Tensor:
    """The weighted sum of the objectives, a mean over places.

    Parameters
    ----------
    logits : Tensor (n, places, k)
        At place i: of the law after token `offset` + i of each window.
    lesson : the windows, and what the target says to them
    row_of : LongTensor (vocabulary,), the row of the head of each token, or `IGNORED`
    """
    places = min(logits.shape[1], lesson.tokens.shape[1] - 1 - offset)
    logits, within = logits[:, :places].float(), slice(offset, offset + places)
    found = {}
    if "cross_entropy" in objective:
        found["cross_entropy"] = cross_entropy(logits, row_of[lesson.tokens[:, 1:][:, within]])
    if objective.keys() - {"cross_entropy"}:
        p, q = known_masses(logits, lesson, within, row_of)
        found["forward_kl"] = -(p * q.clamp(min=_LEAST * _LEAST).log()).sum(-1).mean()
        found["acceptance"] = -torch.minimum(p, q).sum(-1).clamp(min=_LEAST).log().mean()
    return sum(weight * found[name] for name, weight in objective.items())


def known_masses(logits: Tensor, lesson: Lesson, within: slice, row_of: Tensor) -> tuple[Tensor, Tensor]:
    """The masses under target and draft of the target's known tokens, and last of the rest: (n, places, top + 1) each.

    Tokens outside the head count for nothing under either.
    """
    rows = row_of[lesson.top[:, within].long()]
    in_head, p = rows != IGNORED, lesson.logs[:, within].float().exp()
    rest = (1 - p.sum(-1, keepdim=True)).clamp(min=0)
    q = logits.gather(-1, rows.clamp(min=0)).sub(logits.logsumexp(-1, keepdim=True)).exp() * in_head
    unknown = (1 - q.sum(-1, keepdim=True)).clamp(min=0)
    return torch.cat([p * in_head, rest], -1), torch.cat([q, unknown], -1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss in nats over the labels that are not `IGNORED`; 0 if there is none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def rows_of_tokens(token_ids: Tensor, vocabulary: int) -> Tensor:
    """The row of a head of each token of the vocabulary, LongTensor (vocabulary,), or `IGNORED`; `token_ids` (k,)."""
    row_of = torch.full((vocabulary,), IGNORED, device=token_ids.device)
    row_of[token_ids] = torch.arange(len(token_ids), device=token_ids.device)
    return row_of
