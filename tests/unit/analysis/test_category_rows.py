import math

import pandas as pd
import pytest

from specpress.analysis.metrics.categories import categories_of, category_rows
from specpress.analysis.rows import method_row
from specpress.analysis.spec_bench import answers, lines_of

# What a round costs in baseline steps: drafting nothing, verifying one row more a step of a twentieth.
PARTS = {"drafting": 0.01, "verification": 1.0}
STEP = 0.02


def brackets(count=40):
    rows = {"prompt": [], "part": [], "size": [], "seconds": [], "before": [], "after": []}
    for number in range(count):
        part, size = (("drafting", 2), ("verification", 3))[number % 2]
        for name, value in (("prompt", number % 4), ("part", part), ("size", size), ("seconds", PARTS[part] * STEP),
                            ("before", STEP), ("after", STEP)):  # fmt: skip
            rows[name].append(value)
    return rows


def run(number, category, accepted, turn=0, document=None):
    rounds = [["drafting", 2, len(accepted)], ["verification", 3, len(accepted)]]
    trace = {"proposed": [2] * len(accepted), "accepted": accepted, "committed": [a + 1 for a in accepted]}
    trace["rejections"] = [int(a < 2) for a in accepted]
    return {
        "prompt": number, "document": document or f"set/{number}", "offset": 0, "category": category, "turn": turn,
        "tokens": sum(accepted) + len(accepted), "rounds": rounds, "method": {"trace": trace},
        "text": f"answer {number}",
    }  # fmt: skip


def item(*runs):
    spec = {"baseline": "target"}
    return {"id": "lookup", "kind": "speed", "spec": spec, "runs": list(runs), "brackets": brackets(), "started": 1.0}


def table(metrics):
    rows = pd.DataFrame(category_rows(metrics))
    return {key: dict(zip(part.metric, part.to_dict("records"), strict=True)) for key, part in rows.groupby("category")}


def test_each_kind_of_text_has_its_own_tokens_at_common_costs():
    found = table(
        item(*(run(i, "code", [2, 2, 2]) for i in range(4)), *(run(9 + i, "prose", [0, 0, 0]) for i in range(4)))
    )
    cost = PARTS["drafting"] + PARTS["verification"]
    assert found["code"]["category_speedup"]["estimate"] == pytest.approx(3 / cost, rel=1e-6)
    assert found["prose"]["category_speedup"]["estimate"] == pytest.approx(1 / cost, rel=1e-6)
    assert found["code"]["category_speedup"]["n"] == 4
    assert "category=code" in found["code"]["category_speedup"]["field"]


def test_acceptance_is_counted_as_vllm_counts_it():
    # of each text the last round, which its limit may cut, is left out: here one that nothing else would explain
    found = table(item(*(run(i, "code", [2, 1, 0, 2]) for i in range(3))))["code"]
    assert found["category_acceptance_length"]["estimate"] == pytest.approx(1 + 3 / 3)
    assert found["category_acceptance_rate"]["estimate"] == pytest.approx(3 / 6)
    assert found["category_acceptance_at_1"]["estimate"] == pytest.approx(2 / 3)
    assert found["category_acceptance_at_2"]["estimate"] == pytest.approx(1 / 2)
    assert found["category_acceptance_at_2"]["n"] == 6
    assert "category_acceptance_at_3" not in found


def test_in_a_tree_a_position_is_a_depth():
    """Six nodes, two levels: all of [2, 2, 1] end in a leaf but the last, which was refused a child; [0] too."""
    runs = [run(i, "code", [2, 2, 1, 0, 2]) for i in range(3)]
    for each in runs:
        each["method"]["trace"] |= {"proposed": [6] * 5, "rejections": [0, 0, 1, 1, 0]}
    found = table(item(*runs))["code"]
    assert found["category_acceptance_at_1"]["estimate"] == pytest.approx(3 / 4)
    assert found["category_acceptance_at_2"]["estimate"] == pytest.approx(2 / 3)
    assert "category_acceptance_at_3" not in found


def test_the_turns_of_a_question_are_one_unit():
    runs = [run(i, "code", [2, 2], turn=i % 2, document=f"set/{i // 2}") for i in range(8)]
    found = table(item(*runs))["code"]["category_speedup"]
    assert found["n"] == 4
    assert "without a value" not in found["note"]
    seconds = {(number, turn): 1.0 + number + 10 * turn for number in range(4) for turn in range(2)}
    for each in runs:
        each["method"] |= {"ttft_s": seconds[int(each["document"][4:]), each["turn"]], "n_tokens": 8 + each["turn"]}
    mean = math.exp(sum(math.log(value) for value in seconds.values()) / 8)
    assert method_row(runs, "ttft_s", "")["estimate"] == pytest.approx(mean)
    tokens = method_row(runs, "n_tokens", "")
    assert (tokens["estimate"], tokens["n"]) == (8.5, 4)


def test_a_category_in_which_nothing_was_drafted_says_so():
    runs = [run(i, "code", [0, 0, 0]) for i in range(3)]
    for each in runs:
        each["method"]["trace"]["proposed"] = [0, 0, 0]
    found = table(item(*runs))["code"]
    assert "nothing was drafted" in found["category_acceptance_length"]["note"]
    assert found["category_tokens_per_iteration"]["estimate"] == 1


def test_prompts_without_categories_have_no_rows():
    plain = item({**run(0, None, [1]), "category": None})
    assert categories_of(plain) == []
    assert list(category_rows(plain)) == []
    assert list(lines_of([plain])) == []


def speed_as_spec_bench_computes_it(ours, theirs):
    """What its evaluation/speed.py makes of two files: tokens a second of a question, and the ratio of their means."""

    def mean(lines):
        return sum(sum(c["new_tokens"]) / sum(c["wall_time"]) for (c,) in (line["choices"] for line in lines)) / len(
            lines
        )

    lengths = [length for line in ours for length in line["choices"][0]["accept_lengths"]]
    return mean(ours) / mean(theirs), sum(lengths) / len(lengths)


def test_spec_benchs_script_finds_our_speedup_and_accepted_tokens():
    metrics = item(*(run(i, "code", [2, 1, 0]) for i in range(5)))
    ours, theirs = answers(metrics)
    speedup, accepted = speed_as_spec_bench_computes_it(ours, theirs)
    assert math.isclose(speedup, table(metrics)["code"]["category_speedup"]["estimate"], rel_tol=1e-6)
    assert accepted == pytest.approx(2)
    line = ours[0]
    assert (line["question_id"], line["category"], line["model_id"]) == (0, "code", "lookup")
    assert line["choices"][0]["turns"] == ["answer 0"]
    assert line["choices"][0]["decoding_steps"] == [3]
    assert theirs[0]["choices"][0]["decoding_steps"] == [6]


def test_the_turns_of_a_question_are_one_line():
    runs = [run(i, "code", [2, 2], turn=i % 2, document=f"set/{i // 2}") for i in range(4)]
    named = dict(lines_of([item(*runs)]))
    assert set(named) == {"lookup.jsonl", "lookup.baseline.jsonl"}
    assert [len(line["choices"][0]["turns"]) for line in named["lookup.jsonl"]] == [2, 2]
