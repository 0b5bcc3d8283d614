import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specpress.engine.cache import PreallocatedCache

BATCH, HEADS, SIZE = 2, 3, 4


class NaiveCache:
    """What the cache must equal: plain tensors, concatenated, sliced, gathered."""

    def __init__(self):
        self.keys = torch.empty(BATCH, HEADS, 0, SIZE)
        self.seen = 0
        self.since_eviction = 0

    def append(self, states):
        self.keys = torch.cat([self.keys, states], dim=2)
        self.seen += states.shape[2]
        self.since_eviction += states.shape[2]

    def rollback(self, tokens):
        self.keys = self.keys[:, :, : self.keys.shape[2] - tokens]
        self.seen -= tokens
        self.since_eviction -= tokens

    def evict(self, kept):
        self.keys = self.keys.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, SIZE))
        self.since_eviction = 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 300)),
        st.tuples(st.just("rollback"), st.integers(0, 40)),
        st.tuples(st.just("evict"), st.floats(0.1, 1.0)),
    ),
    max_size=12,
)


@given(steps=steps, capacity=st.sampled_from([0, 10, 700]), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_any_interleaving_equals_the_naive_cache(steps, capacity, seed):
    generator = torch.Generator().manual_seed(seed)
    cache, naive = PreallocatedCache(1, capacity), NaiveCache()
    states = torch.randn(BATCH, HEADS, 5, SIZE, generator=generator)
    naive.append(states)
    cache.update(states, -states, 0)
    for action, amount in steps:
        if action == "append":
            states = torch.randn(BATCH, HEADS, amount, SIZE, generator=generator)
            naive.append(states)
            keys, _ = cache.update(states, -states, 0)
            assert torch.equal(keys, naive.keys)
        elif action == "rollback":
            tokens = min(amount, naive.since_eviction)
            naive.rollback(tokens)
            cache.rollback(tokens)
        elif naive.keys.shape[2]:
            slots = naive.keys.shape[2]
            order = torch.rand(BATCH, HEADS, slots, generator=generator)
            kept = order.topk(max(1, int(amount * slots))).indices.sort(-1).values
            naive.evict(kept)
            cache.layers[0].evict(kept)
        layer = cache.layers[0]
        assert torch.equal(layer.keys, naive.keys)
        assert torch.equal(layer.values, -naive.keys)
        assert (cache.slots, cache.seen) == (naive.keys.shape[2], naive.seen)
        assert cache.nbytes == 2 * naive.keys.numel() * 4


def test_rollback_moves_a_counter_and_copies_nothing():
    cache = PreallocatedCache(1, 64)
    states = torch.randn(1, 1, 10, SIZE)
    cache.update(states, states, 0)
    before = cache.layers[0].keys.data_ptr()
    cache.rollback(3)
    cache.update(states[:, :, :2], states[:, :, :2], 0)
    assert cache.layers[0].keys.data_ptr() == before
    assert cache.slots == 9


def test_appending_within_the_capacity_does_not_move_the_buffer():
    cache = PreallocatedCache(1, 100)
    states = torch.randn(1, 1, 1, SIZE)
    places = {cache.update(states, states, 0)[0].data_ptr() for _ in range(100)}
    assert len(places) == 1


def test_more_than_there_is_cannot_be_rolled_back():
    cache = PreallocatedCache(1)
    states = torch.randn(1, 1, 10, SIZE)
    cache.update(states, states, 0)
    with pytest.raises(ValueError, match="cannot roll back 11 tokens of a cache with 10 tokens in 10 slots"):
        cache.rollback(11)


def test_assigning_a_view_of_the_cache_itself_evicts():
    """kvpress assigns `keys` and `values`; a slice of the buffer must not be overwritten while it is read."""
    cache = PreallocatedCache(1)
    states = torch.randn(1, 2, 50, SIZE)
    cache.update(states, 2 * states, 0)
    layer = cache.layers[0]
    keys, values = layer.keys[:, :, 5:], layer.values[:, :, 5:]
    layer.keys, layer.values = keys, values
    assert torch.equal(layer.keys, states[:, :, 5:])
    assert torch.equal(layer.values, 2 * states[:, :, 5:])


def test_transformers_crop_counts_slots():
    cache = PreallocatedCache(1)
    states = torch.randn(1, 1, 10, SIZE)
    cache.update(states, states, 0)
    cache.crop(-2)
    assert cache.get_seq_length() == 8
    cache.crop(5)
    assert cache.get_seq_length() == 5
    cache.crop(7)  # longer than the cache: nothing to do
    assert cache.get_seq_length() == 5


def test_a_clone_is_independent():
    cache = PreallocatedCache(1)
    states = torch.randn(1, 1, 10, SIZE)
    cache.update(states, states, 0)
    copy = cache.clone()
    copy.rollback(5)
    copy.update(states, states, 0)
    assert cache.slots == 10
    assert torch.equal(cache.layers[0].keys, states)


def test_expanded_rows_are_copies_of_the_one_row():
    cache = PreallocatedCache(2)
    for layer in cache.layers:
        layer.update(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
    wide = cache.expanded(3)
    for layer, one in zip(wide.layers, cache.layers, strict=True):
        assert torch.equal(layer.keys, one.keys.expand(3, -1, -1, -1))
        layer.update(torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1, 4))
    assert (wide.slots, cache.slots) == (6, 5)
    assert wide.nbytes == 3 * 6 * cache.nbytes // 5
