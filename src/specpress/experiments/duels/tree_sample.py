"""One tree as a method proposed it, and what was kept of it: an example to look at."""

from torch import Tensor

from specpress.decoding.loop import Loop
from specpress.speculation.drafter import Proposal

_BEFORE = 12  # tokens of the context that are shown


def sample(loop: Loop, tokenizer) -> dict | None:
    """Decode a prompt to its end, and show a tree of which much was kept: most, and the first of several.

    A tree in which another than the likeliest child was kept comes before those that a path would have been as good as.

    Returns
    -------
    dict, or None where no tree had a token kept: `before`, the end of the context; `nodes`, each with its `token` as
    text, the index of its `parent` (-1: the context) and whether it was `kept`; and `next`, the token after the last
    one kept.
    """
    proposed: list[tuple[int, Proposal]] = []
    propose = loop.drafter.propose

    def watched(context: Tensor, gamma: int, stop) -> Proposal:
        proposed.append((len(context), propose(context, gamma, stop)))
        return proposed[-1][1]

    loop.drafter.propose = watched
    loop.run()
    text = loop.context[0, : loop.length].tolist()
    found = [(start, proposal, kept) for start, proposal in proposed if (kept := walked(proposal, text[start:]))]
    if not found:
        return None
    start, proposal, kept = max(found, key=lambda tree: (branched(tree[1], tree[2]), len(tree[2])))
    tokens = [tokenizer.decode([token]) for token in proposal.tokens.tolist()]
    parents = range(-1, len(tokens) - 1) if proposal.parents is None else proposal.parents
    after = text[start + len(kept) :][:1]
    return {
        "before": tokenizer.decode(text[max(0, start - _BEFORE) : start]),
        "nodes": [
            {"token": token, "parent": int(parent), "kept": node in kept}
            for node, (token, parent) in enumerate(zip(tokens, parents, strict=True))
        ],
        "next": tokenizer.decode(after) if after else None,
    }


def branched(proposal: Proposal, kept: list[int]) -> bool:
    """Whether a node was kept that is not the first child of its parent."""
    return proposal.parents is not None and any(proposal.parents[node] in proposal.parents[:node] for node in kept)


def walked(proposal: Proposal, text: list[int]) -> list[int]:
    """The nodes of a tree that a text goes through, from the context on."""
    parents = range(-1, len(proposal.tokens) - 1) if proposal.parents is None else list(proposal.parents)
    path, at = [], -1
    for token in text:
        ahead = [
            n for n, (t, p) in enumerate(zip(proposal.tokens.tolist(), parents, strict=True)) if (t, p) == (token, at)
        ]
        if not ahead:
            break
        at = ahead[0]
        path.append(at)
    return path
