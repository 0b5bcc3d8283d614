"""Rows of experiments on tasks, computed again by hand."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[2]))
import synthetic

from specpress.analysis.tables import observations, summary
from specpress.theory.proportions import change, proportion

HARM = {"streaming_llm": 0.2, "knorm": 0.9, "snapkv": 0.3, "expected_attention": 0.5, "tova": 0.7}


def made(**options):
    return synthetic.tasks(presses=HARM, **options) | {"file": "metrics/tasks.json"}


def curves(harm, **options):
    return [synthetic.perplexity(press, "wikipedia", harm=each, scatter=0.001, **options) | {"file": f"{press}.json"}
            for press, each in harm.items()]  # fmt: skip


def rows_of(table, metric, **factors):
    kept = table[table.metric == metric]
    for name, value in factors.items():
        kept = kept[kept[name].isna() if value is None else kept[name] == value]
    return kept


def test_every_task_press_ratio_and_mode_has_its_accuracy_and_the_change_paired_by_sample():
    item = made()
    table = summary([item])
    task = item["tasks"][1]
    result = next(r for r in task["results"] if (r["press"]["name"], r["ratio"], r["mode"]) == ("knorm", 0.75, "aware"))
    setting = {"task": "several_needles", "press": "knorm", "ratio": 0.75, "mode": "aware"}
    (accuracy,) = rows_of(table, "accuracy", **setting).to_dict("records")
    expected = proportion(result["scores"])
    assert (accuracy["estimate"], accuracy["low"], accuracy["high"], accuracy["n"]) == pytest.approx(
        (expected.value, expected.low, expected.high, 16)
    )
    (paired,) = rows_of(table, "accuracy_change", **setting).to_dict("records")
    expected = change(result["scores"], task["full"]["scores"])
    assert (paired["estimate"], paired["low"]) == pytest.approx((expected.value, expected.low))
    assert len(rows_of(table, "accuracy", task="single_needle")) == 1 + 5 * 4 * 2
    assert not table.duplicated(["metric", "file", "field"]).any()


def test_a_task_that_the_full_cache_fails_has_its_accuracy_alone_and_counts_for_nothing():
    table = summary([made()])
    assert list(rows_of(table, "able").set_index("task").estimate) == [1, 1, 0]
    failed = table[table.task == "common_words"]
    assert set(failed.metric) == {"accuracy", "able"}
    assert failed.press.isna().all()
    together = rows_of(table, "accuracy", task="all", press=None).iloc[0]
    assert (together.estimate, together.n) == (1.0, 16)  # contexts, on each of which two tasks were set
    nothing = summary([made(able=())])
    assert nothing[nothing.task == "all"].metric.isin(["kendall", "kendall_p", "spearman"]).all()
    assert nothing[nothing.task == "all"].estimate.isna().all()


def test_observations_have_a_row_a_sample():
    table = observations([made()])
    assert len(table) == 16 * (3 + 2 * 5 * 4 * 2)
    one = table[(table.task == "single_needle") & (table.press == "snapkv") & (table.ratio == 0.5)]
    assert sorted(one["mode"].unique()) == ["agnostic", "aware"]
    assert set(one.value) <= {0.0, 1.0}


@pytest.mark.parametrize(("order", "sign"), [(1, 1), (-1, -1)])
def test_perplexity_ranks_presses_as_the_tasks_do_or_the_other_way_round(order, sign):
    """Harm to accuracy beside the same, or the opposite, harm to perplexity."""
    harm = dict(zip(sorted(HARM, key=HARM.get), sorted(HARM.values())[::order], strict=True))
    table = summary([made(), *curves(harm)])
    for mode in ("agnostic", "aware"):
        found = rows_of(table, "kendall", mode=mode, ratio=None).iloc[0]
        assert (found.estimate, found.n) == (pytest.approx(sign), 5)
        assert rows_of(table, "kendall_p", mode=mode, ratio=None).iloc[0].estimate == pytest.approx(2 / 120)
        assert rows_of(table, "spearman", mode=mode, ratio=None).iloc[0].estimate == pytest.approx(sign)
    assert sorted(rows_of(table, "kendall", mode="aware").ratio.dropna()) == [0.5]  # the one that both have
    assert found.reference.startswith("perplexity-")


def test_a_mean_over_ratios_is_over_those_that_all_presses_share():
    """A press that was measured at higher ratios as well is no worse for it."""
    harm = dict(zip(sorted(HARM, key=HARM.get), sorted(HARM.values()), strict=True))
    best = min(harm, key=harm.get)
    more = [*curves({p: h for p, h in harm.items() if p != best}), *curves({best: harm[best]}, ratios=(0, 0.5, 0.99))]
    assert rows_of(summary([made(), *more]), "kendall", mode="aware", ratio=None).iloc[0].estimate == pytest.approx(1)


def test_a_correlation_rests_on_the_presses_of_both_at_the_nearest_context():
    """Another text, another model, a farther context and presses without tasks are left out."""
    harm = {"streaming_llm": 0.9, "snapkv": 0.1, "expected_attention": 0.2, "keydiff": 0.5}
    far = curves(HARM, identifier=None, context=4096)
    other = [item | {"spec": item["spec"] | {"data": "bible"}} for item in curves(HARM)]
    for number, item in enumerate([*far, *other]):
        item["id"] = f"other-{number}"
    near = curves(harm)
    left = [
        item for item in far if item["spec"]["press"]["name"] != "knorm" and item["spec"]["press"]["name"] != "tova"
    ]
    table = summary([made(), *left, *other, *near])
    found = rows_of(table, "kendall", mode="agnostic", ratio=None).iloc[0]
    accuracy = {p: -HARM[p] for p in ("streaming_llm", "snapkv", "expected_attention")}
    expected = kendalltau([-harm[p] for p in accuracy], list(accuracy.values())).statistic
    assert (found.n, found.estimate) == (3, pytest.approx(expected))


def test_fewer_than_three_presses_and_presses_that_all_tie_give_no_correlation():
    few = summary([made(), *curves({"knorm": 0.3, "snapkv": 0.2})])
    assert set(rows_of(few, "kendall").note) == {"fewer than 3 presses with both"}
    tied = summary([synthetic.tasks(presses=dict.fromkeys(HARM, 0.5)) | {"file": "t.json"}, *curves(HARM)])
    assert rows_of(tied, "kendall", ratio=None).estimate.isna().all()
    assert set(rows_of(tied, "kendall", ratio=None).note) == {"presses that all tie leave no ranking"}


def test_the_number_of_presses_is_kept_in_the_csv():
    assert pd.api.types.is_integer_dtype(summary([made()]).n)
