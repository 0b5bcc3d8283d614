"""One round of speculation: feed a proposal to the model that verifies it, keep what stands, roll back the rest.

The decoding loops and the cascade drafter are made of these rounds, of one sequence or of the rows of a batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from specpress.engine.cached_model import CachedModel
from specpress.engine.ragged_model import RaggedModel
from specpress.laws.law import Law, Laws, draw
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.drafter import Drafter, Proposal, RowByRow
from specpress.speculation.verification import verify


class Round(NamedTuple):
    """What a round yields: `accepted` drafted tokens and one more, and the verifier's law of each."""

    accepted: int
    tokens: Tensor  # LongTensor (accepted + 1,)
    laws: list[Law]  # the verifier's law of each token


def speculate(
    verifier: CachedModel,
    drafter: Drafter | None,
    context: Tensor,
    proposal: Proposal | None,
    sampling: SamplingParams,
    randomness: Randomness,
    verification: str,
) -> Round:
    """Verify a proposal for `context`, LongTensor (n,), in one forward; without a proposal, decode one token.

    Afterwards the caches of verifier and drafter hold nothing but tokens of the context and accepted ones.
    """
    fresh = context[verifier.length :]
    if proposal is None or not len(proposal.tokens):
        laws = Laws(verifier.feed(fresh[None])[0, -1:], sampling, verifier.head_tokens)
        return Round(0, context.new_tensor(draw(laws, randomness)), laws[:])
    drafted = proposal.tokens
    logits = verifier.feed(torch.cat([fresh, drafted])[None], keep=len(drafted) + 1)[0]
    round_ = _judge(Laws(logits, sampling, verifier.head_tokens), proposal, randomness, verification)
    standing = len(context) + round_.accepted
    verifier.rollback_to(standing)
    drafter.rollback(standing)
    return round_


def speculate_rows(
    verifier: RaggedModel,
    drafter: RowByRow,
    contexts: Sequence[Tensor],
    proposals: Sequence[Proposal],
    rows: Sequence[int],
    sampling: SamplingParams,
    randomness: Randomness,
    verification: str,
) -> list[Round]:
    """`speculate` for each of `rows` in one forward; returns their rounds. Other rows' caches stay as they are."""
    fed = [context[:0] for context in contexts]
    for r in rows:
        fed[r] = torch.cat([contexts[r][verifier.lengths[r] :], proposals[r].tokens])
    counts, standing, rounds = [len(tokens) for tokens in fed], [len(context) for context in contexts], []
    logits = verifier.feed(pad_sequence(fed, batch_first=True), counts)
    for r in rows:
        laws = Laws(logits[r, counts[r] - len(proposals[r].tokens) - 1 : counts[r]], sampling, verifier.head_tokens)
        rounds.append(_judge(laws, proposals[r], randomness, verification))
        standing[r] += rounds[-1].accepted
    verifier.rollback_to(standing)
    drafter.rollback(standing)
    return rounds


def _judge(laws: Laws, proposal: Proposal, randomness: Randomness, verification: str) -> Round:
    """What stands of a proposal under the verifier's laws of its tokens and of the one after."""
    drafted = proposal.tokens.tolist()
    accepted, token = verify(verification, laws, proposal.laws, drafted, randomness)
    return Round(accepted, proposal.tokens.new_tensor([*drafted[:accepted], token]), laws[: accepted + 1])
