"""A tree fed in one forward against one forward a path, and the cache that keeps one path of it."""

import numpy as np
import pytest
import tiny
import torch

from specpress.engine import cache as cache_module
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.observation import Observations
from specpress.engine.tree import Tree
from specpress.presses import get_press

PARENTS = [-1, 0, 1, 0, -1, 4, 4]
TOKENS = torch.tensor([[7, 9, 11, 13, 9, 15, 9]])
LEAVES = (2, 3, 5, 6)
PROMPT = tiny.prompt(14, seed=3)
PRESSES = {
    "dense": None,
    "evicted": lambda: get_press("knorm", compression_ratio=0.5),
    "rotated back": lambda: get_press("key_rerotation", press=get_press("knorm", compression_ratio=0.5)),
    "as many as each layer likes": lambda: get_press("pyramidkv", compression_ratio=0.5, window_size=2),
    "hidden": lambda: get_press("adakv", press=get_press("knorm", compression_ratio=0.5)),
}


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request):
    return tiny.FAMILIES[request.param](3)


def read(model, kind="dense", own=True):
    """A model on a cache that holds a prompt, compressed if that is asked for."""
    cached = CachedModel(model, 64)
    cached.forward = cached.forward if own else None
    cached.observations = Observations(model)
    cached.feed(PROMPT)
    if PRESSES[kind]:
        cached.compress(PRESSES[kind]())
    return cached


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("own", [True, False], ids=["our forward", "the model's modules"])
@pytest.mark.parametrize("kind", PRESSES)
@pytest.mark.parametrize("fresh", [1, 3])
def test_each_path_gets_the_logits_it_has_alone(model, kind, own, fresh):
    tree, before = Tree(PARENTS), tiny.prompt(fresh, seed=5)
    with decode_attention(model):
        cached = read(model, kind, own)
        logits = cached.feed(torch.cat([before, TOKENS], 1), len(tree) + 1, tree)[0]
        for leaf in LEAVES:
            path, alone = tree.path_to(leaf), read(model, kind, own)
            expected = alone.feed(torch.cat([before, TOKENS[:, path]], 1), len(path) + 1)[0]
            close(logits[[0, *(node + 1 for node in path)]], expected)


@pytest.mark.parametrize("kind", PRESSES)
@pytest.mark.parametrize("kept", [[], [0], [0, 1, 2], [0, 3], [4, 6]])
def test_what_follows_a_kept_path_sees_it_alone(model, kind, kept):
    tree, last, after = Tree(PARENTS), tiny.prompt(1, seed=5), tiny.prompt(3, seed=6)
    with decode_attention(model):
        cached, alone = read(model, kind), read(model, kind)
        cached.feed(torch.cat([last, TOKENS], 1), 1, tree)
        cached.keep(len(tree), kept)
        alone.feed(torch.cat([last, TOKENS[:, kept]], 1))
        assert cached.length == alone.length == 15 + len(kept)
        close(cached.feed(after, 3), alone.feed(after, 3))
        for seen, expected in zip(cached.observations.layers, alone.observations.layers, strict=True):
            assert seen.end == expected.end
            close(seen.hidden_states, expected.hidden_states)


def test_a_mask_that_lets_a_node_see_its_siblings_is_seen(model, monkeypatch):
    """Negative control: the same comparison with every earlier node visible."""
    monkeypatch.setattr(Tree, "seen", lambda tree, before: np.tri(before + len(tree), dtype=bool))
    with pytest.raises(AssertionError):
        test_each_path_gets_the_logits_it_has_alone(model, "dense", True, 1)


def test_depth_gives_the_positions(model, monkeypatch):
    """Negative control: positions in the order of the nodes."""
    tree = Tree(PARENTS)
    tree.depths = list(range(1, len(tree) + 1))
    monkeypatch.setitem(globals(), "Tree", lambda parents: tree)
    with pytest.raises(AssertionError):
        test_each_path_gets_the_logits_it_has_alone(model, "dense", True, 1)


@pytest.mark.parametrize(("kept", "copied"), [([0, 1, 2], []), ([0, 3], [(1, 3)]), ([4, 6], [(0, 4), (1, 6)])])
def test_only_what_is_not_in_its_place_is_moved(kept, copied):
    model = tiny.llama(2)
    with decode_attention(model):
        cached = read(model)
        cached.feed(TOKENS, 1, Tree(PARENTS))
        before = [buffer.clone() for layer in cached.cache.layers for buffer in layer._buffers]
        cached.keep(len(PARENTS), kept)
    for buffer, old in zip([b for layer in cached.cache.layers for b in layer._buffers], before, strict=True):
        for place, slot in copied:
            old[:, :, 14 + place] = old[:, :, 14 + slot]
        used = 14 + len(PARENTS)  # what lies behind was never written: it may be anything, NaN too
        assert torch.equal(buffer[:, :, :used], old[:, :, :used])


def test_under_another_attention_a_tree_is_refused():
    model = tiny.llama(1)
    cached = CachedModel(model, 32)
    cached.feed(PROMPT)
    with pytest.raises(ValueError, match="trees are fed inside `decode_attention`"):
        cached.feed(TOKENS, 1, Tree(PARENTS))


def test_shapes():
    tree = Tree([-1, -1, 0, 2, 0])
    assert tree.depths == [1, 1, 2, 3, 2]
    assert tree.children[-1] == [0, 1]
    assert tree.path_to(3) == [0, 2, 3]
    assert tree.path_to(-1) == []
    assert tree.depth_first() == [0, 2, 3, 4, 1]
    assert tree.depth_first(2) == [0, 2, 4, 1]
    assert tree.seen()[3].tolist() == [True, False, True, True, False]
    assert not tree.is_path
    assert Tree.path(3).is_path
    assert Tree.path(3).parents == (-1, 0, 1)
    assert cache_module.in_place([0, 1])
    assert not cache_module.in_place([1])


@pytest.mark.parametrize("parents", [[0], [-1, 2, 0], [-2]])
def test_a_parent_comes_first(parents):
    with pytest.raises(ValueError, match="parents are nodes before it, or -1"):
        Tree(parents)
