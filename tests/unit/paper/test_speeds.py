"""Which of several methods is named as the fastest, and how a group of them is told."""

import math

import pytest
import synthetic
from test_paper import results_of

from specpress.paper.cells import Cell
from specpress.paper.findings.blocks import Speed, picked, told_apart


def of(name, value, error, *, units=8):
    """A speed-up with its plain interval, roughly."""
    low, high = (value * (1 - 2 * error), value * (1 + 2 * error)) if error else (None, None)
    spread = {"log_error": error, "freedom": units - 1, "skew": 0.0} if error else {}
    return Speed(name, name, {}, {"speedup": Cell(name, "speedup", value, low, high, units, **spread)})


WIDE, SURE, SLOW = of("Wide", 2.43, 0.6, units=4), of("Sure", 2.32, 0.05), of("Slow", 0.5, 0.05)
OPEN = of("Open", 1.05, 0.2)


def test_the_best_established_gain_is_picked_not_the_highest_estimate():
    found = picked([WIDE, SURE, SLOW])
    assert found.experiment == "Sure"
    assert found["speedup"].looks == 3
    assert found["speedup"].low < SURE["speedup"].low
    assert picked([SURE, WIDE], looks=20)["speedup"].looks == 20


def test_a_lower_end_that_many_looks_leave_decides_not_the_plain_one():
    few, many = of("Few", 2.0, 0.06, units=3), of("Many", 1.8, 0.05, units=40)
    assert picked([few, many]).experiment == "Many"
    looked_at = [speed.among(30)["speedup"].low for speed in (few, many)]
    assert looked_at[0] is None or looked_at[0] < looked_at[1]


def test_without_any_interval_the_highest_estimate_is_picked_and_without_methods_none():
    assert picked([of("a", 1.2, None), of("b", 1.4, None)]).experiment == "b"
    assert picked([]) is None


@pytest.mark.parametrize(
    ("speeds", "told"),
    [
        ([OPEN], "<em>open</em> is not distinguishable from the cached baseline: <data "),
        ([SURE, OPEN], "<em>sure</em>, {} is faster than the cached baseline and 1 of the 2 methods is not "
                       "distinguishable from it"),
        ([OPEN, OPEN], "2 of the 2 methods are not distinguishable from the cached baseline"),
        ([SURE, SLOW, of("none", 1.0, None)],
         "<em>sure</em>, {} is faster than the cached baseline, <em>slow</em>, {} is slower than the cached baseline "
         "and 1 of the 3 methods is without an interval"),
    ],
)  # fmt: skip
def test_the_decided_of_a_group_are_named_and_the_others_counted(speeds, told):
    cited = [s.among(len(speeds))["speedup"].cited for s in speeds if s is SURE or s is SLOW]
    assert str(told_apart(speeds)).startswith(told.format(*cited))


def test_the_abstract_names_the_best_established_method():
    """A method of four prompts that scatter has the higher estimate, and does not win."""
    sure = synthetic.speed("sure", sampling="greedy", speedup=1.6, scatter=0.02, drafter={"name": "prompt_lookup"})
    wild = synthetic.speed(
        "wild", sampling="greedy", speedup=1.9, scatter=0.7, prompts=4, drafter={"name": "suffix_lookup"}
    )
    results = results_of([sure, wild])
    values = {speed.experiment: speed["speedup"].value for _, speed in results.speeds_of("other", "tree")}
    assert values["wild"] > values["sure"]
    assert [speed.experiment for _, speed in results.best_lossless] == ["sure"]


def test_a_batch_of_one_is_a_single_sequence_and_the_smallest_batch_is_named_where_there_is_none():
    lookup = {"drafter": {"name": "prompt_lookup"}, "sampling": "greedy", "scatter": 0.02}
    one = synthetic.speed("one", speedup=1.5, batch=1, **lookup)
    four = synthetic.speed("four", speedup=1.8, batch=4, **lookup)
    assert [speed.experiment for _, speed in results_of([one, four]).best_lossless] == ["one"]
    assert [speed.experiment for _, speed in results_of([four]).best_lossless] == ["four"]


def test_experiments_on_the_same_questions_stand_in_one_block():
    """They end at different prompts, so that the mean length of what was measured differs."""
    lookup, made = {"name": "prompt_lookup"}, []
    for name, longer in (("few", 0), ("many", 9)):
        item = synthetic.speed(name, sampling="greedy", drafter=lookup, data="questions", prompt_tokens=600)
        for number, run in enumerate(item["runs"]):
            run |= {"category": "code", "turn": 0, "prompt_tokens": 100 + number + longer}
        made.append(item)
    (block,) = results_of(made).blocks
    assert sorted(speed.experiment for speed in block.speeds) == ["few", "many"]
    assert 105 <= block.prompt_tokens <= 115


def test_a_press_in_two_settings_has_two_names_and_a_price_is_that_of_its_setting_and_model():
    def curve(name, harm, press=None, **spec):
        item = synthetic.perplexity("snapkv", "wikipedia", identifier=name, harm=harm, scatter=0.001, **spec)
        return item | {"spec": item["spec"] | ({"press": press} if press else {})}

    wide = {"name": "snapkv", "window_size": 128}
    pressed = {"press": {"name": "snapkv", "compression_ratio": 0.7}, "sampling": "greedy"}
    pressed |= {"lossless": {"compared": None, "why": "another text by design"}}
    results = results_of(
        [
            curve("usual", 0.2),
            curve("wide", 0.4, press=wide),
            curve("other", 0.8, model="draft"),
            synthetic.speed("pressed", **pressed),
            synthetic.speed("pressed-wide", **{**pressed, "press": wide | {"compression_ratio": 0.7}}),
            synthetic.speed("pressed-other", **{**pressed, "press": wide | {"compression_ratio": 0.7}}, model="draft"),
        ]
    )
    assert {p.name for p in results.points} == {"SnapKV (as it comes)", "SnapKV (window size 128)"}
    prices = {name: results.quality_of(results.speed_of(name).row) for name in ("pressed", "pressed-wide")}
    assert prices["pressed"].value == pytest.approx(math.exp(0.2 * 0.7), rel=0.01)
    assert prices["pressed-wide"].value == pytest.approx(math.exp(0.4 * 0.7), rel=0.01)
    assert results.quality_of(results.speed_of("pressed-other").row) is None


def test_the_abstract_names_a_method_of_each_way_of_sampling_and_of_the_longest_prompts():
    lookup = {"name": "prompt_lookup"}
    results = results_of(
        [
            synthetic.speed("greedy", sampling="greedy", speedup=1.6, scatter=0.02, drafter=lookup),
            synthetic.speed("sampled", sampling="sampled", speedup=1.2, scatter=0.02, drafter=lookup),
            synthetic.speed("less", sampling="sampled", speedup=1.1, scatter=0.02, drafter={"name": "suffix_lookup"}),
            synthetic.speed("between", sampling="greedy", speedup=1.4, scatter=0.02, drafter=lookup, prompt_tokens=512),
            synthetic.speed("long", sampling="sampled", speedup=1.1, scatter=0.02, drafter=lookup, prompt_tokens=4000),
        ]
    )
    assert [speed.experiment for _, speed in results.best_lossless] == ["greedy", "sampled", "long"]
