"""Verification where the laws are: the rules of `specpress.speculation.verification` on whole rows, read back once.

What a rule decides by does not depend on what it decides: the weights of all nodes are computed, then compared with
their uniforms at once. The rules on the host are the oracle: the same uniforms give the same tokens, unless one falls
within some 1e-12 of a threshold (sums of float64 in another order). They also decide a round in which a law is none,
or a drafted token has no mass: behind refused tokens they do not look, and where they look they refuse the round.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from specpress.engine.tree import CONTEXT, Tree
from specpress.hardware.recording import ROWS, Recorded
from specpress.laws.device import DeviceLaws, drawn, widened
from specpress.laws.law import NO_NUMBERS, Law
from specpress.laws.sampling import Randomness
from specpress.speculation.verification import RULES, Rule, check_shape, recursive, traversal


def verify_on_device(
    method: str,
    target: DeviceLaws,
    draft: Sequence[Law],
    drafted: Tensor,
    randomness: Randomness,
    tree: Tree | None = None,
    *,
    recorded: bool = True,
) -> tuple[list[int], list[int]]:
    """Which of the drafted tokens, LongTensor (n,), are kept, and those kept with the token that follows them.

    One copy of 2 n + 2 integers comes back. For the others see `specpress.speculation.verification.verify`; the laws of
    the draft may be on the host.

    recorded : as one launch, if it is a path. Not what comes of a drafter of trees: its first path may come late, and
        recording it would fall between timed rounds. Of trees there are too many to record

    Raises
    ------
    ValueError
        Logits of the draft that leave no law, or of the target where its law is needed; a tree for a rule of paths.
    ImpossibleDraftError
        A drafted token that its law cannot have drawn, where the rule asks for it.
    """
    check_shape(method, tree)
    nodes, device = len(drafted), target.mass.device
    tree, drafted = tree or Tree.path(nodes), drafted.to(device)
    width = max(target.mass.shape[1], *(_width(law) for law in _some(draft)))
    p, q = widened(target.mass, width), DeviceLaws.gathered(draft, width, device)
    uniforms, rule = randomness.on(device, nodes + 1), RULES[method]
    given = (drafted, uniforms, p, q.mass, target.sound, q.sound)
    if recorded and tree.is_path and nodes < ROWS:
        (outcome,) = of_paths(*given, constants=(rule,))
    else:
        outcome = _outcome(*given, rule, _Shape.of(tree.parents, device, rule is traversal))
    sound, token, *rest = outcome.tolist()
    if not sound:
        return _on_the_host(rule, target, q, drafted.tolist(), uniforms.tolist(), tree)
    path = [node for node in range(nodes) if rest[node]]
    return path, [*(rest[nodes + node] for node in path), token]


def _on_the_host(
    rule: Rule, target: DeviceLaws, draft: DeviceLaws, drafted: list[int], uniforms: list[float], tree: Tree
) -> tuple[list[int], list[int]]:
    """`verify_on_device` by the rule on the host, which reads the laws one by one and refuses those it cannot use."""
    if not draft.sound.all():
        raise ValueError(NO_NUMBERS)  # as where it was drafted from
    node, law = rule(target, draft, drafted, tree, lambda node, kept: uniforms[node] < kept)
    path = tree.path_to(node)
    return path, [*(drafted[node] for node in path), law.draw(uniforms[-1])[0]]


@Recorded
def of_paths(drafted: Tensor, uniforms: Tensor, p: Tensor, q: Tensor, p_sound: Tensor, q_sound: Tensor, rule: Rule):
    """See `_outcome`."""
    return (_outcome(drafted, uniforms, p, q, p_sound, q_sound, rule, _path(len(drafted), p.device, rule)),)


def _outcome(
    drafted: Tensor,
    uniforms: Tensor,
    p: Tensor,
    q: Tensor,
    p_sound: Tensor,
    q_sound: Tensor,
    rule: Rule,
    shape: "_Shape",
) -> Tensor:
    """What is read of a verification, LongTensor (2 n + 2,): whether all laws are sound and have mass on their tokens,
    the last token, which of the drafted tokens, (n,), are kept, and these tokens.

    uniforms : float64 (n + 1,); p, q : laws of the target, (n + 1, width), and of the draft, (n, width)
    """
    nodes = len(drafted)
    rests = _Rests(p, q, drafted, shape, rule is traversal)
    kept = ON_DEVICE[rule](rests, uniforms[:nodes], shape)
    last = (kept * torch.arange(1, nodes + 1, device=p.device)).amax(0, keepdim=True)
    token = drawn(rests.laws.index_select(0, last), uniforms[nodes:])
    sound = torch.cat([p_sound, q_sound, rests.drawn_with > 0]).all(0, keepdim=True)
    return torch.cat([sound, token, kept, drafted])


@cache
def _path(nodes: int, device: torch.device, rule: Rule) -> "_Shape":
    """The shape of a path. Recordings read its tensors, so it is never given up."""
    return _Shape.of.__wrapped__(Tree.path(nodes).parents, device, rule is traversal)


def _some(draft: Sequence[Law]) -> list:
    return [draft] if isinstance(draft, DeviceLaws) else list(draft)


def _width(laws: DeviceLaws | Law) -> int:
    return laws.mass.shape[1] if isinstance(laws, DeviceLaws) else int(laws.tokens.max()) + 1


class _Shape(NamedTuple):
    """A tree as tensors. Rows are numbered from the context, 0: node i is row i + 1.

    rows : of each node that of its parent
    levels : of each rank of siblings (in traversal at each depth) the nodes, their parents' rows, and their next older
        siblings, none of the first
    youngest, parents : the last child of each row that has one, and that row
    lowest_first : the nodes, each after all that follow it
    seen : BoolTensor (n, n), the path (columns) to each node (rows)
    older : BoolTensor (n, n), the older siblings (columns) of each node (rows)
    """

    rows: Tensor
    levels: list[tuple[Tensor, Tensor, Tensor]]
    youngest: Tensor
    parents: Tensor
    lowest_first: Tensor
    seen: Tensor
    older: Tensor

    @staticmethod
    @lru_cache(256)
    def of(parents: tuple[int, ...], device: torch.device, sinking: bool) -> "_Shape":
        """All indices travel in one copy; shapes come again and again."""
        tree = Tree(parents)
        rank = {node: i for siblings in tree.children for i, node in enumerate(siblings)}
        kinds = [(tree.depths[node] if sinking else 0, rank[node]) for node in range(len(tree))]
        parts = []
        for kind in sorted(set(kinds)):
            nodes = [node for node in range(len(tree)) if kinds[node] == kind]
            older = [tree.children[tree.parents[node]][rank[node] - 1] for node in nodes] if kind[1] else []
            parts += [nodes, [tree.parents[node] + 1 for node in nodes], older]
        rows = [row for row in range(CONTEXT, len(tree)) if tree.children[row]]
        parts += [[tree.children[row][-1] for row in rows], [row + 1 for row in rows], _lowest_first(tree)]
        older = [parent == tree.parents[j] and j < i for i, parent in enumerate(tree.parents) for j in range(len(tree))]
        parts += [[parent + 1 for parent in parents], tree.seen().ravel().tolist(), older]
        flat = torch.tensor([place for part in parts for place in part]).to(device)
        *places, rows, seen, older = flat.split([len(part) for part in parts])
        levels = list(zip(places[:-3:3], places[1:-3:3], places[2:-3:3], strict=True))
        square = (len(tree), len(tree))
        return _Shape(rows, levels, *places[-3:], seen.view(square).bool(), older.view(square).bool())


def _lowest_first(tree: Tree) -> list[int]:
    """Each node after all that follow it, siblings in their order."""
    order, ahead = [], [(CONTEXT, iter(tree.children[CONTEXT]))]
    while ahead:
        node = next(ahead[-1][1], None)
        if node is not None:
            ahead.append((node, iter(tree.children[node])))
        else:
            order.append(ahead.pop()[0])
    return order[:-1]


class _Rests:
    """`specpress.speculation.verification.Rest` of all rows, after all children of each were refused.

    `drawn_with`, `reached` : of each node Q(x) and min(1, a R(x) / Q(x)), (n,)
    `weights`, `laws` : a and R, unnormalised, of each row: (n + 1,) and (n + 1, width)

    Parameters
    ----------
    sinking : whether a node begins with the weight it was reached with, as in traversal, and not with 1
    """

    def __init__(self, p: Tensor, q: Tensor, drafted: Tensor, shape: _Shape, sinking: bool):
        self.laws, self._q = p.clone(), q
        both = torch.ones(2, len(p), dtype=p.dtype, device=p.device)
        self.weights, self._scales = both  # weights times R is scales times laws
        self.drawn_with = drawn_with = q.gather(1, drafted[:, None])[:, 0]
        first = p[shape.rows, drafted] / drawn_with
        self.reached = torch.ones_like(drawn_with)
        for nodes, parents, older in shape.levels:
            if len(older):
                self._refuse(parents, older)
                ratio = self._scales[parents] * self.laws[parents, drafted[nodes]] / drawn_with[nodes]
            else:
                ratio = self._scales[parents] * first[nodes]
            reached = ratio.clamp_(max=1.0)
            self.reached[nodes] = reached
            if sinking:
                both[:, nodes + 1] = reached
        self._refuse(shape.parents, shape.youngest)

    def _refuse(self, parents: Tensor, children: Tensor) -> None:
        """See `Rest.refuse`."""
        laws, weights, scales = self.laws[parents], self.weights[parents], self._scales[parents]
        excess = (scales[:, None] * laws).sub_(self._q[children]).clamp_(min=0)
        left = excess.sum(-1)
        rest = left + (1 - weights)
        some = rest > 0
        self.laws[parents] = torch.where(some[:, None], excess, laws)
        self._scales[parents] = torch.where(some, 1 / rest, scales)
        self.weights[parents] = torch.where(some, left / rest, weights)


def _lowest(rests: _Rests, uniforms: Tensor, shape: _Shape) -> Tensor:
    """Traversal: the path to the first node, lowest first, whose uniform falls under its weight; BoolTensor (n,)."""
    hits = (uniforms < rests.weights[1:])[shape.lowest_first]
    first = shape.lowest_first[hits.int().argmax(0, keepdim=True)]
    return shape.seen[first][0] & hits.any()


def _first_of_siblings(rests: _Rests, uniforms: Tensor, shape: _Shape) -> Tensor:
    """Recursive: from the context on the first sibling whose uniform falls under its ratio; BoolTensor (n,)."""
    hits = uniforms < rests.reached
    chosen = hits & ~(shape.older & hits).any(-1)
    return (chosen | ~shape.seen).all(-1)


ON_DEVICE = {traversal: _lowest, recursive: _first_of_siblings}  # other rules read the laws on the host
