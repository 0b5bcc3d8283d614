"""One round of speculation: feed a proposal to the model that verifies it, keep what stands, roll back the rest.

The decoding loop and the cascade drafter are both made of these rounds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter, Proposal
from specpress.laws import Law, Laws, draw, head_tokens
from specpress.sampling import Randomness, SamplingParams
from specpress.verification import verify


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
        laws = Laws(verifier.feed(fresh[None])[0, -1:], sampling, head_tokens(verifier.model))
        return Round(0, context.new_tensor(draw(laws, randomness)), laws[:])
    drafted = proposal.tokens
    logits = verifier.feed(torch.cat([fresh, drafted])[None], keep=len(drafted) + 1)[0]
    laws = Laws(logits, sampling, head_tokens(verifier.model))
    known = drafted.tolist()
    accepted, token = verify(verification, laws, proposal.laws, known, randomness)
    standing = len(context) + accepted
    verifier.rollback_to(standing)
    drafter.rollback(standing)
    return Round(accepted, context.new_tensor([*known[:accepted], token]), laws[: accepted + 1])
