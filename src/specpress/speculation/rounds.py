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
from specpress.engine.tree import CONTEXT, Tree
from specpress.laws.device import DeviceLaws
from specpress.laws.engines import laws_of
from specpress.laws.law import Law, Laws
from specpress.laws.sampling import Randomness, SamplingParams
from specpress.speculation.device_verification import ON_DEVICE, verify_on_device
from specpress.speculation.drafter import Drafter, Proposal, RowByRow
from specpress.speculation.verification import RULES, check_shape, verify


class Round(NamedTuple):
    """What a round yields: `accepted` drafted tokens and one more, and the verifier's law of each."""

    kept: Sequence[int]  # the drafted tokens that stand, by their places in the proposal
    tokens: Tensor  # LongTensor (accepted + 1,), on the host
    laws: Sequence[Law]  # the verifier's law of each token
    cut: bool = False  # whether a drafted token was refused after the last that stands

    @property
    def accepted(self) -> int:
        """How many drafted tokens stand."""
        return len(self.kept)


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

    The context is on the host; drafted tokens stay where they were drawn.

    Afterwards the caches of verifier and drafter hold nothing but tokens of the context and accepted ones.
    """
    fresh = context[verifier.length :]
    if proposal is None or not len(proposal.tokens):
        logits = verifier.feed(fresh[None])[0, -1:]
        if drafter is not None and drafter.learns:
            drafter.learn(fresh[-1:], logits)
        laws = laws_of(logits, sampling, verifier.head_tokens)
        return Round((), laws.take(randomness), laws)
    drafted, tree = proposal.tokens, proposal.tree
    check_shape(verification, tree)
    fed = torch.cat([fresh.to(drafted.device), drafted])
    logits = verifier.feed(fed[None], len(drafted) + 1, tree)[0]
    if drafter.learns:
        drafter.learn(fed[-len(logits) :], logits)
    round_ = judge(laws_of(logits, sampling, verifier.head_tokens), proposal, randomness, verification)
    verifier.keep(len(drafted), round_.kept)
    drafter.rollback(len(context) + (round_.accepted if tree is None else 0))
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
    """`speculate` for each of `rows` in one forward; returns their rounds. Other rows' caches stay as they are.

    Laws and tokens are read on the host, row by row, on every device.
    """
    fed: list[Tensor] = [context[:0] for context in contexts]
    trees: list[Tree | None] = [None] * len(contexts)
    for r in rows:
        trees[r] = proposals[r].tree
        check_shape(verification, trees[r])
        fed[r] = torch.cat([contexts[r][verifier.lengths[r] :], proposals[r].tokens.to(contexts[r].device)])
    counts, standing, rounds = [len(tokens) for tokens in fed], [len(context) for context in contexts], []
    logits = verifier.feed(pad_sequence(fed, batch_first=True), counts, trees)
    for r in rows:
        drafted = len(proposals[r].tokens)
        verified = slice(counts[r] - drafted - 1, counts[r])
        if drafter.learns:
            drafter.learn(r, fed[r][verified], logits[r, verified])
        laws = Laws(logits[r, verified], sampling, verifier.head_tokens)
        rounds.append(judge(laws, proposals[r], randomness, verification))
        verifier.keep(r, drafted, rounds[-1].kept)
        standing[r] += rounds[-1].accepted if trees[r] is None else 0
    drafter.rollback(standing)
    return rounds


def judge(laws: Laws | DeviceLaws, proposal: Proposal, randomness: Randomness, verification: str) -> Round:
    """What stands of a proposal under the verifier's laws of the token after the context and after each drafted one."""
    tree = proposal.tree
    if not len(proposal.tokens):
        kept, tokens = (), laws.take(randomness)
    elif isinstance(laws, DeviceLaws) and proposal.parents is None and RULES[verification] in ON_DEVICE:
        kept, tokens = verify_on_device(verification, laws, proposal.laws, proposal.tokens, randomness)
    else:
        drafted = proposal.tokens.tolist()
        kept, token = verify(verification, laws, proposal.laws, drafted, randomness, tree)
        tokens = [*(drafted[node] for node in kept), token]
    after = kept[-1] if kept else CONTEXT
    cut = len(kept) < len(proposal.tokens) if tree is None else bool(tree.children[after])
    of_kept = laws[: len(kept) + 1] if tree is None else [laws[node + 1] for node in (CONTEXT, *kept)]
    return Round(kept, torch.as_tensor(tokens), of_kept, cut)
