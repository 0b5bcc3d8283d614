"""Steps at fixed shapes against the eager forward, with two stand-ins for a CUDA graph, and the book-keeping of both.

`Again` runs the step anew at every replay. `Tape` records the step's kernels with the tensors they read and wrote and
runs those, as a CUDA graph does: whatever a step does not read from its static inputs is frozen in it.
"""

import copy
import warnings
from types import SimpleNamespace

import pytest
import tiny
import torch
from instruments import Again, NoHostReads, Tape
from torch.multiprocessing.reductions import StorageWeakRef

from specpress import SamplingParams, generate
from specpress.drafters import CompressedTarget, DraftModel
from specpress.engine import graphs
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.forward import forward_of
from specpress.engine.graphs import (
    MAX_QUERIES,
    SIZES,
    StaticSteps,
    buckets,
    captures,
    free_graphs,
    has_graphs,
    key_of,
    spare_slots,
    use_eager,
    use_graphs,
)  # fmt: skip
from specpress.engine.observation import Observations
from specpress.engine.tree import Tree
from specpress.presses import get_press
from specpress.schedules import Constant
from specpress.speculation.prefill import prefill, read_rows

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
LONG = {"max_position_embeddings": 1024}


class Named(SimpleNamespace):
    """A stand-in for a model: it has attributes, and can be referred to weakly."""

    __hash__ = object.__hash__


def static(model, capture=None, **how):
    """The model with its steps at fixed shapes; returns the capture."""
    capture = capture or Again()
    model.static_steps = StaticSteps(capture, **how)
    return capture


def fed(model, tokens, script, *, capacity=300, batch=1):
    """Logits of a prompt and of what `script` does next: feed so many tokens (n > 0), or take so many back (n < 0)."""
    cached, start, logits = CachedModel(model, capacity), 250, []
    cached.feed(tokens[:, :start])
    for n in script:
        if n < 0:
            cached.rollback_to(cached.length + n)
        else:
            start = cached.length
            logits.append(cached.feed(tokens[:, start : start + n], keep=n))
    return logits


@pytest.mark.parametrize(
    ("queries", "slots", "capacity", "key"),
    [
        (1, 10, 256, (1, 256)),
        (3, 10, 256, (5, 256)),  # padded
        (6, 240, 512, (9, 256)),
        (6, 250, 512, (9, 512)),
        (3, 252, 256, None),  # no room for the padding
        (1, 2100, 4096, (1, 2304)),
        (1, 4100, 8192, (1, 4608)),  # coarser beyond
        (1, 255, 512, (1, 256)),
        (1, 256, 512, (1, 512)),
        (5, 251, 512, (5, 256)),
        (5, 252, 512, (5, 512)),
        (MAX_QUERIES, 10, 256, (MAX_QUERIES, 256)),
        (MAX_QUERIES + 1, 10, 256, None),  # a long block
        (5, 251, 256, (5, 256)),  # the buffers are just full
        (5, 0, 256, None),  # a prompt
        (5, 252, 256, None),  # the buffers must grow first
    ],
)
def test_which_shape_a_step_has(queries, slots, capacity, key):
    assert key_of(queries, slots, capacity) == key


@pytest.mark.parametrize("capture", [Again, Tape])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", tiny.EVERY)
def test_logits_are_the_eager_ones(family, batch, capture):
    """One and five tokens, after a rollback, and across the end of a bucket (256 slots)."""
    model = tiny.EVERY[family](**LONG)
    tokens, script = tiny.prompt(300, batch=batch), [1, 5, -3, 1, 5, 5, -9, 5, 1]
    with decode_attention(model):
        eager = fed(model, tokens, script)
        counted = static(model, capture())
        ours = fed(model, tokens, script)
    assert counted.captured == 4  # 1 and 5 tokens, in buckets of 256 and of 512
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("capture", [Again, Tape])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tree_is_an_input_of_its_step(family, capture):
    """Trees of two shapes and paths of as many tokens, in turn, on the same captured steps."""
    model = tiny.FAMILIES[family](**LONG)
    shapes = [Tree([-1, -1, 0, 0]), None, Tree([-1, 0, -1, 2]), Tree([-1, -1, -1]), None]

    def written():
        cached, logits = CachedModel(model, 300), []
        cached.feed(tiny.prompt(245))
        for seed, tree in enumerate(shapes):
            nodes = len(tree) if tree else 4
            logits.append(cached.feed(tiny.prompt(nodes + 1, seed=seed), nodes + 1, tree))
            cached.keep(nodes, tree.path_to(2) if tree else [0])
        return logits

    with decode_attention(model):
        eager = written()
        counted = static(model, capture())
        ours = written()
    assert counted.captured == 2  # five tokens, in buckets of 256 and of 512
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_inputs_are_tokens_true_positions_and_slots():
    model = tiny.llama(**LONG)
    static(model)
    with decode_attention(model):
        cached = observed(model)
        cached.feed(tiny.prompt(100))
        cached.compress(get_press("streaming_llm", compression_ratio=0.5))
        cached.observations = None
        cached.feed(torch.tensor([[7, 8]]), keep=2)
    (arena,) = model.static_steps.arenas
    step = arena.steps[2, 256]
    assert step.tokens.tolist() == [[7, 8]]
    assert step.positions.tolist() == [[100, 101]]
    assert step.slots.tolist() == [50, 51]
    assert (cached.length, cached.cache.slots) == (102, 52)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_evicted_cache_moves_back_to_the_buffers_of_its_steps(family):
    """Eviction makes new buffers; those it left have the same shape, and the steps captured there go on."""
    model = tiny.FAMILIES[family](**LONG)

    def logits():
        cached = CachedModel(model, 300)
        cached.feed(tiny.prompt(100))
        first = cached.feed(tiny.prompt(1, seed=1))
        for layer in cached.cache.layers:
            layer.evict(torch.arange(0, 101, 2).expand(1, layer.keys.shape[1], -1))
        return first, cached.feed(tiny.prompt(3, seed=2), keep=3), cached.feed(tiny.prompt(1, seed=3))

    with decode_attention(model):
        eager = logits()
        counted = static(model, Tape())
        for a, b in zip(logits(), eager, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
    assert counted.captured == 2  # 1 and 3 tokens
    assert len(model.static_steps.arenas) == 1


def test_logits_outlive_the_next_step():
    model = tiny.llama()
    static(model, Tape())
    with decode_attention(model):
        cached = CachedModel(model, 100)
        cached.feed(tiny.prompt(20))
        first = cached.feed(tiny.prompt(1, seed=1))
        before = first.clone()
        cached.feed(tiny.prompt(1, seed=2))
    assert torch.equal(first, before)


def test_buffers_that_grew_are_captured_anew():
    model = tiny.llama(**LONG)
    tokens, script = tiny.prompt(300), [1, 4, 5, 1, 1]
    with decode_attention(model):
        eager = fed(model, tokens, script, capacity=230)
        counted = static(model, Tape())
        ours = fed(model, tokens, script, capacity=230)
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    (arena,) = model.static_steps.arenas  # those that they grew out of are gone
    assert (arena.capacity, list(arena.steps)) == (512, [(1, 512)])  # the five tokens grew them, eagerly
    assert counted.captured == len({(1, 256), (5, 256), (1, 512)})


def test_the_next_generation_replays_what_the_last_one_captured():
    model = tiny.llama(**LONG)
    counted = static(model, Tape())
    with decode_attention(model):
        for seed in range(3):
            tokens = tiny.prompt(300, seed=seed)
            ours = fed(model, tokens, [1, 5, 5])
            steps, model.static_steps = model.static_steps, None
            eager = fed(model, tokens, [1, 5, 5])
            model.static_steps = steps
            for a, b in zip(ours, eager, strict=True):
                torch.testing.assert_close(a, b, **CLOSE)
    assert counted.captured == 3
    assert len(model.static_steps.arenas) == 1


def test_two_caches_at_once_do_not_share_buffers():
    model = tiny.llama()
    one, two = tiny.prompt(40, seed=1), tiny.prompt(40, seed=2)

    def logits():
        caches = [CachedModel(model, 100) for _ in range(2)]
        for cached, tokens in zip(caches, (one, two), strict=True):
            cached.feed(tokens[:, :20])
        return [
            cached.feed(tokens[:, i : i + 1])
            for i in range(20, 25)
            for cached, tokens in zip(caches, (one, two), strict=True)
        ]

    with decode_attention(model):
        eager = logits()
        static(model, Tape())
        for a, b in zip(logits(), eager, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
    assert len(model.static_steps.arenas) == 2


def test_an_arena_holds_all_layers_of_a_cache_or_does_not_hold_it():
    model = tiny.llama()
    static(model)
    with decode_attention(model):
        cached = CachedModel(model, 100)
        cached.feed(tiny.prompt(20))
        cached.feed(tiny.prompt(1, seed=1))
    (arena,) = model.static_steps.arenas
    assert arena.holds(cached.cache)
    first = cached.cache.layers[0]
    first.evict(torch.arange(21).expand(1, first.keys.shape[1], -1))  # as many slots, in buffers of its own
    assert not arena.holds(cached.cache)
    assert not arena.free  # the other layers are still here


@pytest.mark.parametrize("press", [None, get_press("knorm", compression_ratio=0.5)])
def test_a_prompt_that_was_read_lies_where_its_first_step_reads_it(press):
    model = tiny.llama()
    static(model)
    with decode_attention(model):
        cached = CachedModel(model, 100)
        prefill(cached, tiny.prompt(20), press=press)
    (arena,) = model.static_steps.arenas
    assert arena.holds(cached.cache)


@pytest.mark.parametrize(("ahead", "kept"), [(False, [(1, 768)]), (True, [(1, 512), (1, 768)])])
def test_smaller_arenas_are_kept_for_a_measurement_alone(ahead, kept):
    """A growing text would leave one of each of its sizes, with its graphs, though the largest holds what they would.

    A measurement captures ahead, for all caches that it has at once; they may come back after a larger one.
    """
    model = tiny.llama(**LONG)
    static(model, ahead=ahead)

    def arenas():
        return [(arena.batch, arena.capacity) for arena in model.static_steps.arenas]

    with decode_attention(model):
        for capacity in (300, 600):
            fed(model, tiny.prompt(300), [1], capacity=capacity)
        assert arenas() == kept
        fed(model, tiny.prompt(300, batch=3), [1], capacity=300)  # of another batch size all are given up
        assert arenas() == [(3, 512)]


@pytest.mark.parametrize("ahead", [False, True])
def test_caches_of_many_lengths_in_turn_come_to_rest(ahead):
    """One at a time and several at once: what was given up for a larger arena is not made again for ever."""
    model = tiny.llama(**LONG)
    counted, rounds = static(model, ahead=ahead), []
    with decode_attention(model):
        for _ in range(4):
            for capacities in ((300,), (300, 300, 300), (600,), (600, 300), (900,)):
                caches = [CachedModel(model, capacity) for capacity in capacities]
                for cached in caches:
                    cached.feed(tiny.prompt(250))
                for cached in caches:
                    cached.feed(tiny.prompt(1))
                del caches, cached
            rounds.append(counted.captured)
    assert rounds[1] == rounds[2] == rounds[3]
    assert max(arena.capacity for arena in model.static_steps.arenas) == 1024
    assert len(model.static_steps.arenas) == (5 if ahead else 3)


def test_graphs_can_be_given_back_while_a_cache_is_in_use():
    model, tokens = tiny.llama(), tiny.prompt(40)
    with decode_attention(model):
        counted = static(model, Tape())
        cached, ours = CachedModel(model, 100), []
        cached.feed(tokens[:, :20])
        for i in (20, 21):
            ours.append(cached.feed(tokens[:, i : i + 1]))
            free_graphs(model)
            assert not model.static_steps.arenas
        assert counted.captured == 2
        use_eager(model)
        cached = CachedModel(model, 100)
        cached.feed(tokens[:, :20])
        for i, logits in zip((20, 21), ours, strict=True):
            torch.testing.assert_close(logits, cached.feed(tokens[:, i : i + 1]), **CLOSE)


@pytest.mark.parametrize("left", [torch.nan, torch.inf])
def test_what_a_generation_left_does_not_reach_the_next(left):
    """A mask hides numbers; what is none, as of a model that overflowed, would come through it."""
    model, tokens, script = tiny.llama(**LONG), tiny.prompt(300), [1, 5, -3, 1]
    with decode_attention(model):
        eager = fed(model, tokens, script)
        counted = static(model, Tape())
        fed(model, tokens, script)
        captured, (arena,) = counted.captured, model.static_steps.arenas
        with torch.inference_mode():
            for buffer in (buffer for layer in arena.buffers for buffer in layer):
                buffer.fill_(left)
        ours = fed(model, tokens, script)
    assert counted.captured == captured  # in the same buffers
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_an_arena_in_use_is_kept_whatever_its_batch_size():
    model = tiny.llama()
    counted = static(model)
    with decode_attention(model):
        caches = []
        for batch in (1, 3):
            caches.append(CachedModel(model, 100))
            caches[-1].feed(tiny.prompt(20, batch=batch))
            caches[-1].feed(tiny.prompt(1, batch=batch))
        caches[0].feed(tiny.prompt(1, seed=1))
    assert counted.captured == 2


def observed(model):
    cached = CachedModel(model, 300)
    cached.observations = Observations(model)
    return cached


def padded(model):
    return CachedModel(model, 300, padding=torch.tensor([[0] * 3 + [1] * 17]))


def with_hidden_slots(model):
    cached = CachedModel(model, 300)
    cached.feed(tiny.prompt(20))
    cached.cache.layers[1].hide(torch.tensor([0]), torch.tensor([0]), torch.tensor([4]))
    return cached


def with_unequal_layers(model):
    cached = CachedModel(model, 300)
    cached.feed(tiny.prompt(20))
    cached.cache.layers[1].evict(torch.arange(10).expand(1, 2, 10))
    return cached


@pytest.mark.parametrize("made", [observed, padded, with_hidden_slots, with_unequal_layers])
def test_what_has_no_fixed_shape_stays_eager(made):
    def logits(model):
        with decode_attention(model):
            cached = made(model)
            if not cached.length:
                cached.feed(tiny.prompt(20))
            return cached.feed(tiny.prompt(3, seed=1), keep=3)

    model = tiny.llama()
    eager = logits(model)
    counted = static(model)
    assert torch.equal(logits(model), eager)
    assert counted.captured == 0


def test_other_attention_and_ragged_rows_stay_eager():
    model = tiny.llama()
    counted = static(model)
    cached = CachedModel(model, 300)
    cached.feed(tiny.prompt(20))
    cached.feed(tiny.prompt(1))
    with decode_attention(model):
        ragged, _ = read_rows(CachedModel(model, 300), [tiny.prompt(9)[0], tiny.prompt(5)[0]])
        ragged.feed(tiny.prompt(1, batch=2), [1, 1])
    assert counted.captured == 0


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("drafting", ["none", "model", "self", "refreshed", "budget"])
def test_generation_is_what_it_was(drafting, temperature):
    target, draft = tiny.llama(**LONG), tiny.llama(1, seed=5, **LONG)
    press = get_press("streaming_llm", compression_ratio=0.5)
    options = {
        "none": lambda: {},
        "model": lambda: {"drafter": DraftModel(draft), "schedule": Constant(4)},
        "self": lambda: {"drafter": CompressedTarget(press), "schedule": Constant(3)},
        "refreshed": lambda: {"drafter": CompressedTarget(press, interval=8), "schedule": Constant(3)},
        "budget": lambda: {"press": press, "cache_budget": 120, "compression_interval": 16},
    }[drafting]
    common = {"max_new_tokens": 30, "sampling": SamplingParams(temperature=temperature, seed=3)}
    prompts = [tiny.prompt(240, seed=seed) for seed in (1, 2)]
    eager = [generate(target, prompt, **options(), **common).tokens for prompt in prompts]
    counted = [static(model, Tape()) for model in (target, draft)]
    for prompt, expected in zip(prompts, eager, strict=True):
        assert torch.equal(generate(target, prompt, **options(), **common).tokens, expected)
    assert (counted[0].captured > 0) == (drafting != "budget")  # under a budget the press watches the model
    assert (counted[1].captured > 0) == (drafting == "model")


def test_the_switch_leaves_a_cpu_eager_and_says_so_once(monkeypatch):
    monkeypatch.setattr(graphs, "_say", graphs.once(graphs._say.__wrapped__))  # a process of its own
    models = tiny.llama(), tiny.gpt_neox()
    with pytest.warns(UserWarning, match="no CUDA graphs on cpu: decoding stays eager"):
        assert not use_graphs(models[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not use_graphs(models[1])
    assert not any(map(has_graphs, models))


@pytest.mark.parametrize(
    ("rotary", "eager"), [("default", False), ("llama3", False), ("dynamic", True), ("longrope", True)]
)
def test_on_cuda_only_rotary_embeddings_that_ask_the_host_stay_eager(rotary, eager):
    config = SimpleNamespace(rope_parameters={"rope_type": rotary})
    why = graphs._why_eager(Named(device=torch.device("cuda"), config=config))
    assert (why is not None) == eager


def test_buckets_end_with_the_capacity_and_are_an_eighth_apart_at_most():
    for capacity in (256, 2304, 8192, 8448, 40_000):
        found = list(buckets(capacity))
        assert found[-1] == capacity
        assert all(b - a <= max(256, a / 8) for a, b in zip([0, *found], found, strict=False))
    assert len(list(buckets(8192))) == 24


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_padded_steps_leave_no_trace(family):
    """Sizes that no step has, up to the end of the cache, then a token over the slots of the padding."""
    model = tiny.EVERY[family](**LONG)
    tokens, script = tiny.prompt(300), [3, 4, 7, -4, 12, 1, 8, 3, -2, 1]
    with decode_attention(model):
        eager = fed(model, tokens, script, capacity=300)
        counted = static(model, Tape())
        ours = fed(model, tokens, script, capacity=300)
    assert counted.captured == len({(5, 256), (5, 512), (9, 512), (17, 512), (1, 512)})
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_cache_has_room_for_the_padding_of_its_last_steps():
    model = tiny.llama()
    assert spare_slots(model) == 0
    counted = static(model)
    assert spare_slots(model) == MAX_QUERIES
    with decode_attention(model):
        fed(model, tiny.prompt(256), [3, 3], capacity=256)
    assert counted.captured == 2  # none was eager for want of room


def test_ahead_of_time_every_step_is_captured_with_the_first():
    model = tiny.llama(**LONG)
    tokens, script = tiny.prompt(600), [1, *(2, 5, 9, 17) * 8, 3, 11, -20, 4]
    with decode_attention(model):
        eager = fed(model, tokens, script, capacity=580)
        static(model, Tape(), ahead=True)
        cached = CachedModel(model, 580)
        cached.feed(tokens[:, :250])
        cached.feed(tokens[:, 250:251])
        first = captures([model])
        assert first == len(SIZES) * len([256, 512, 768])
        ours = fed(model, tokens, script, capacity=580)
        assert captures([model]) == 2 * first  # the other cache is in use: one of its own
        del cached
        again = fed(model, tokens, script, capacity=580)
        assert captures([model]) == 2 * first
    for a, b, c in zip(ours, again, eager, strict=True):
        torch.testing.assert_close(a, c, **CLOSE)
        torch.testing.assert_close(b, c, **CLOSE)


def test_a_smaller_cache_moves_into_free_buffers():
    model = tiny.llama(**LONG)
    counted = static(model, Tape())
    tokens = tiny.prompt(300)
    with decode_attention(model):
        fed(model, tokens, [1], capacity=700)
        small = fed(model, tokens, [1], capacity=300)
        use_eager(model)
        torch.testing.assert_close(small[0], fed(model, tokens, [1], capacity=300)[0], **CLOSE)
    assert counted.captured == 1


@pytest.mark.parametrize("how", ["in place", "through .data", "other tensors"])
def test_replaced_weights_are_noticed(how):
    model, tokens = tiny.llama(), tiny.prompt(300)
    with decode_attention(model):
        static(model, Tape())
        before = fed(model, tokens, [1, 5], capacity=100)
        with torch.no_grad():
            for parameter in model.parameters():
                if how == "in place":
                    parameter.mul_(1.1)
                elif how == "through .data":
                    parameter.data.mul_(1.1)
                else:
                    parameter.data = parameter.data * 1.1
        ours = fed(model, tokens, [1, 5], capacity=100)
        use_eager(model)
        eager = fed(model, tokens, [1, 5], capacity=100)
    for a, b, c in zip(ours, eager, before, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
        assert not torch.allclose(a, c, **CLOSE)


class Quiet(Again):
    """A capture that runs the step, then runs it where nothing may be read on the host, as under CUDA's capture."""

    def __call__(self, step):
        self.captured += 1
        step()
        with NoHostReads():
            step()
        return step


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_step_reads_nothing_on_the_host(family):
    model = tiny.FAMILIES[family](**LONG)
    counted = static(model, Quiet(), ahead=True)
    with decode_attention(model):
        fed(model, tiny.prompt(300), [1])
    assert counted.captured == 2 * len(SIZES)


def test_a_gpu_gets_graphs_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(graphs, "CudaGraphs", lambda device: Again())
    config = SimpleNamespace(rope_parameters={"rope_type": "default"})
    gpu, told, cpu = (Named(device=torch.device(kind), config=config) for kind in ("cuda", "cuda", "cpu"))
    use_eager(told)
    assert [has_graphs(model) for model in (gpu, told, cpu)] == [True, False, False]
    assert use_graphs(told, ahead=True)
    assert has_graphs(told)


def on(device):
    """What a model says of itself, on a device that need not be here."""
    config = SimpleNamespace(rope_parameters={"rope_type": "default"})
    return Named(device=torch.device(device), config=config)


def moved(model, device):
    """Whether the model has graphs once it is there."""
    model.device = torch.device(device)
    return has_graphs(model)


@pytest.fixture
def captured_on(monkeypatch):
    """The devices that steps have been captured on, in turn; what is said about others is not said."""
    made = []
    monkeypatch.setattr(graphs, "CudaGraphs", lambda device: made.append(str(device)) or Again())
    monkeypatch.setattr(graphs, "_say", lambda why: None)
    return made


JOURNEY = ("cpu", "cuda:0", "cuda:0", "cuda:1", "cpu", "cuda:0")


def test_a_model_that_moves_is_chosen_for_anew(captured_on):
    model = on("cpu")
    assert [moved(model, device) for device in JOURNEY] == [False, True, True, True, False, True]
    assert captured_on == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize("start", ["cpu", "cuda:0"])
@pytest.mark.parametrize("ahead", [False, True])
def test_graphs_that_were_asked_for_go_along(ahead, start, captured_on):
    model = on(start)
    assert use_graphs(model, ahead=ahead) == (start != "cpu")
    assert [moved(model, device) for device in JOURNEY] == [False, True, True, True, False, True]
    assert model.static_steps._ahead == ahead


def test_a_model_told_to_be_eager_is_so_wherever_it_goes(captured_on):
    model = on("cuda:0")
    assert has_graphs(model)
    use_eager(model)
    assert not any(moved(model, device) for device in JOURNEY)
    assert captured_on == ["cuda:0"]


def test_a_model_that_moved_under_its_cache_is_not_replayed():
    model = tiny.llama()
    static(model)
    with decode_attention(model):
        cached = CachedModel(model, 100)
        cached.feed(tiny.prompt(20))
        here = model, cached.forward, cached.cache
        assert model.static_steps.fit(*here, tiny.prompt(1))
        assert not model.static_steps.fit(*here, tiny.prompt(1).to("meta"))


def test_a_copied_model_has_yet_to_capture_its_own_steps():
    """The steps read the weights that they were captured with; a CUDA stream cannot be copied."""
    model = tiny.llama(**LONG)
    static(model, ahead=True)
    with decode_attention(model):
        fed(model, tiny.prompt(300), [1])
    copied = copy.deepcopy(model)
    assert (model.static_steps.captured > 0, copied.static_steps.captured, copied.static_steps.arenas) == (True, 0, [])
    assert copied.static_steps._ahead


def test_under_autocast_no_step_is_captured():
    """A graph would go on reading the copies of weights that autocast keeps, and gives up at its end."""
    model = tiny.llama(**LONG)
    static(model)
    with decode_attention(model), torch.autocast("cpu", dtype=torch.bfloat16):
        fed(model, tiny.prompt(300), [1, 1])
    assert model.static_steps.captured == 0


def test_a_model_told_to_be_eager_keeps_nothing_of_weights_that_it_no_longer_has():
    model = tiny.llama(1)
    forward_of(model)
    held = StorageWeakRef(model.lm_head.weight.untyped_storage())
    model.to(torch.float64)  # as moving does, other storages
    assert not held.expired()
    use_eager(model)
    assert held.expired()
