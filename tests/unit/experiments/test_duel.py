"""What a duel has to treat alike on both sides."""

import tiny

from specpress.decoding.generate import prepare
from specpress.engine.attention import decode_attention
from specpress.engine.graphs import StaticSteps
from specpress.experiments.duels.duel import Baseline, Record, duel


def test_the_sides_of_a_duel_change_places_from_prompt_to_prompt():
    """Steps captured on one set of buffers take a little longer than on another, which must not fall on one side."""
    model, places = tiny.llama(), []
    model.static_steps = StaticSteps(lambda step: step, ahead=True)
    for turn in range(4):
        method, other = (prepare(model, tiny.prompt(20, seed=turn), max_new_tokens=6) for _ in range(2))
        baseline = Baseline(other)
        with decode_attention(model):
            duel(baseline, method, Record(), turn, turn)
        one, two = model.static_steps.arenas
        assert (one.holds(method.target.cache), two.holds(method.target.cache)) in ((True, False), (False, True))
        places.append(one.holds(method.target.cache))
        assert one.holds(other.target.cache) == (not places[-1])
        del method, other, baseline
    assert places in ([True, False] * 2, [False, True] * 2)
