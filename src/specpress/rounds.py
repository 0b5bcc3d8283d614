"""One round of speculation: feed a proposal to the model that verifies it, keep what stands, roll back the rest.

The decoding loop and the cascade drafter are both made of these rounds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from specpress.cached_model import CachedModel
from specpress.drafters.base import Drafter, Proposal
from specpress.sampling import Randomness, SamplingParams, draw, over_vocabulary, probabilities
from specpress.verification import verify


class Round(NamedTuple):
    """What a round yields: `accepted` drafted tokens and one more, and the verifier's law of each."""

    accepted: int
    tokens: Tensor  # LongTensor (accepted + 1,)
    laws: Tensor  # (accepted + 1, vocabulary): row i is the verifier's law of token i


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
        law = _laws(verifier, verifier.feed(fresh[None])[0, -1:], sampling)
        return Round(0, draw(law, randomness.uniforms(1)), law)
    drafted = proposal.tokens
    logits = verifier.feed(torch.cat([fresh, drafted])[None], keep=len(drafted) + 1)[0]
    laws = _laws(verifier, logits, sampling)
    accepted, token = verify(verification, laws, proposal.laws, drafted, randomness)
    standing = len(context) + accepted
    verifier.rollback_to(standing)
    drafter.rollback(standing)
    return Round(accepted, torch.cat([drafted[:accepted], drafted.new_tensor([token])]), laws[: accepted + 1])


def _laws(verifier: CachedModel, logits: Tensor, sampling: SamplingParams) -> Tensor:
    """The verifier's laws over the whole vocabulary; a cascade's intermediate model may have a smaller head."""
    token_ids = getattr(verifier.model, "head_token_ids", None)
    return over_vocabulary(probabilities(logits, sampling), token_ids, verifier.model.config.vocab_size)
