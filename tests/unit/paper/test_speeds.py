"""Which of several methods is named as the fastest, and how a group of them is told."""

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
