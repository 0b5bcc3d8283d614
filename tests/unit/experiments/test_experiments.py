"""From a spec to its metrics, on models of a few thousand parameters."""

import json
import math
import statistics
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from specpress.data.documents import Document
from specpress.data.store import save_split
from specpress.engine import kernels
from specpress.engine.graphs import StaticSteps
from specpress.experiments.assets import Assets
from specpress.experiments.duels import contest
from specpress.experiments.rounding import calibrate
from specpress.experiments.run import run
from specpress.models.build import random_model
from specpress.models.load import load_model
from specpress.models.save import save_model

SPEED = {
    "kind": "speed",
    "baseline": "target",
    "model": "target",
    "data": "words",
    "prompt_tokens": 12,
    "max_new_tokens": 10,
    "precision": 1e-4,
    "budget_seconds": 60,
    "least_prompts": 3,
    "most_prompts": 4,
    "seed": 0,
    "verification": "token",
    "sampling": {"name": "greedy", "temperature": 0},
}
PERPLEXITY = {
    "id": "quality",
    "kind": "perplexity",
    "model": "target",
    "data": "words",
    "context": 40,
    "score": 20,
    "passages": 2,
    "seed": 0,
    "press": {"name": "knorm"},
    "ratios": [0, 0.5],
}


@pytest.fixture(autouse=True)
def no_doubt_about_the_machine(monkeypatch):
    """Steps of these models take less than what a clock and a call do: whole rounds may differ from their parts."""
    monkeypatch.setattr(contest, "_NO_MATTER", 1.0)
    monkeypatch.setattr(kernels, "_chosen", {})  # of other tests in this process


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two models and a data set, as the workflow prepares them."""
    folder = tmp_path_factory.mktemp("study")
    for name, seed in (("target", 0), ("draft", 1)):
        source = {"kind": "random", "architecture": "llama", "hidden_size": 16, "layers": 1, "heads": 2, "seed": seed}
        model, tokenizer = random_model(source, dtype=torch.float32)
        save_model(model, tokenizer, folder / name, {"source": source})
    documents = [Document(str(i), f"Words {i}", f"The words of text {i}. " * 40) for i in range(12)]
    save_split(folder / "words", documents, 0.5, {"source": {"kind": "path"}})
    models = {name: folder / name for name in ("target", "draft")}
    rounding = calibrate({"id": "rounding-target", "model": "target"}, folder / "target", threads=1)
    (folder / "rounding.json").write_text(json.dumps(rounding))
    return {
        **{"models": models, "data": {"words": folder / "words"}},
        **{"rounding": folder / "rounding.json", "threads": 1},
    }


def needs_no_costs(self):
    """In place of a look: nobody needs another duel, and nobody is precise."""
    for contender in self.contenders:
        contender.machine_share = 0.0
    return False


DRAFTED = {"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "constant", "gamma": 2}}


def test_a_speed_experiment_duels_baseline_and_method(places):
    metrics = run({"id": "fast", **SPEED, **DRAFTED}, **places)
    assert [r["prompt"] for r in metrics["runs"]] == [0, 1, 2, 3]
    assert metrics["ended"]["by"] == "prompts"
    assert metrics["ended"]["prompts"] == 4
    assert metrics["ended"]["half_width"] > 1e-4
    for r in metrics["runs"]:
        assert r["prompt_tokens"] == 12
        trace = r["method"]["trace"]
        assert sum(trace["committed"]) == r["tokens"] == r["method"]["n_tokens"] - 1
        verified = [number for part, _, number in r["rounds"] if part == "verification"]
        assert sum(verified) == len(trace["seconds"])
        assert set(trace["gamma"]) <= {0, 1, 2}
    for r in metrics["runs"][:3]:  # the fewest are duelled
        assert r["baseline"]["n_tokens"] == r["method"]["n_tokens"]
        assert r["baseline"]["kv_bytes"] == r["method"]["kv_bytes"]
        assert min(r["baseline"]["ttft_s"], r["baseline"]["tpot_ms"]) > 0
    brackets = metrics["brackets"]
    assert set(brackets["part"]) == {"drafting", "verification"}
    assert min(min(brackets[name]) for name in ("seconds", "before", "after")) > 0
    apart = Counter(zip(brackets["prompt"], brackets["part"], brackets["size"], strict=True))
    whole = Counter()
    for prompt, stretch in zip(metrics["stretches"]["prompt"], metrics["stretches"]["rounds"], strict=True):
        whole.update({(prompt, part, size): number for part, size, number in stretch})
    rounds = {(r["prompt"], part, size): n for r in metrics["runs"] for part, size, n in r["rounds"] if r["duelled"]}
    assert apart + whole == rounds  # these texts are short: every round of a duel is either taken apart or left whole
    duelled = sum(r["duelled"] for r in metrics["runs"])
    assert duelled >= 3
    lossless = metrics["lossless"]
    assert lossless.pop("allowed") < 1e-3  # float32
    assert lossless == {"compared": duelled, "equal": duelled, "explained": 0, "unexplained": 0, "differences": []}
    assert metrics["peak_memory_bytes"] > 1e6
    assert metrics["attention"] == {}  # so few slots leave no choice
    assert metrics["disturbance"]["disturbed_steps"]["steps"] == len(metrics["brackets"]["before"]) > 10
    assert 0 < metrics["disturbance"]["seconds"] < metrics["wall_seconds"]
    json.dumps(metrics, allow_nan=False)


def duelled_rounds(metrics, prompt):
    """Rounds of a prompt that were set between steps, apart or whole."""
    apart = sum(p == prompt and part == "verification" for p, part in zip(
        metrics["brackets"]["prompt"], metrics["brackets"]["part"], strict=True))  # fmt: skip
    whole = [n for p, rounds in zip(metrics["stretches"]["prompt"], metrics["stretches"]["rounds"], strict=True)
             for part, _, n in rounds if p == prompt and part == "verification"]  # fmt: skip
    return apart + sum(whole)


def test_the_first_rounds_of_a_prompt_are_duelled_and_all_are_counted(places):
    metrics = run({"id": "alone", **SPEED, "model": "draft", "max_new_tokens": 40}, **places)
    for r in metrics["runs"]:
        assert sum(number for _, _, number in r["rounds"]) == r["tokens"]
        first = min(12, r["tokens"])
        assert duelled_rounds(metrics, r["prompt"]) in ({first} if r["prompt"] < 3 else {0, first, r["tokens"]})
    press = {"press": {"name": "knorm", "compression_ratio": 0.5}, "cache_budget": 10, "compression_interval": 16}
    metrics = run({"id": "pressed", **SPEED, **press, "max_new_tokens": 40}, **places)
    assert {r["duelled"] for r in metrics["runs"][:3]} == {True}
    for r in metrics["runs"][:3]:  # its compressions come late
        assert duelled_rounds(metrics, r["prompt"]) == r["tokens"]


@pytest.mark.parametrize(("share", "rounds"), [(0.6, 30), (0.4, 12), (0.1, 0)])
def test_the_more_the_costs_matter_the_more_rounds_are_duelled(places, monkeypatch, share, rounds):
    known = SimpleNamespace(machine_share=share, n=3, value=0.0, text=0.1, half_width=lambda: 1.0)
    monkeypatch.setattr(contest.Contender, "speedup", lambda self: known)
    metrics = run({"id": "alone", **SPEED, "model": "draft", "max_new_tokens": 31, "most_prompts": 5}, **places)
    assert [r["tokens"] for r in metrics["runs"]] == [30] * 5
    assert [duelled_rounds(metrics, r["prompt"]) for r in metrics["runs"]] == [12] * 3 + [rounds] * 2


@pytest.mark.parametrize(
    "changes",
    [
        DRAFTED,
        {**DRAFTED, "schedule": {"name": "aimd", "initial": 2, "floor": 1, "cap": 6}, "verification": "block"},
        {
            "drafter": {"name": "prompt_lookup"},
            "press": {"name": "knorm", "compression_ratio": 0.5},
            "schedule": {"name": "constant"},
        },
        {
            "drafter": {"name": "mixture", "drafters": [{"name": "suffix_lookup"}, {"name": "token_recycling"}]},
            "schedule": {"name": "constant", "gamma": 5},
            "verification": "traversal",
        },
    ],
)
def test_prompts_counted_in_a_batch_are_counted_as_each_alone(places, monkeypatch, changes):
    monkeypatch.setattr(contest.Contest, "_look", needs_no_costs)
    spec = {"id": "counted", **SPEED, **changes, "most_prompts": 12, "max_new_tokens": 24}
    together = run(spec, **places)["runs"]
    monkeypatch.setattr(contest, "_TOGETHER", 1)
    alone = run(spec, **places)["runs"]
    assert [r["together"] for r in together] == [1, 1, 1, 5, 5, 5, 5, 5, 3, 3, 3, 1]  # looks at 8 and at 11
    assert {r["together"] for r in alone} == {1}
    for one, other in zip(together[3:], alone[3:], strict=True):
        assert (one["document"], one["offset"]) == (other["document"], other["offset"])
        assert (one["tokens"], one["rounds"]) == (other["tokens"], other["rounds"])
        assert all(one["method"][name] == other["method"][name] for name in ("acceptance_rate", "kv_bytes", "n_tokens"))
    assert together[-2]["method"]["tpot_ms"] is None
    assert "batch" in together[-2]["method"]["why"]


@pytest.mark.parametrize(
    "changes",
    [
        {"drafter": {"name": "draft_model", "model": "draft"}, "schedule": {"name": "optimal"}},  # looks at the clock
        {**DRAFTED, "press": {"name": "knorm", "compression_ratio": 0.5}, "cache_budget": 8},
        {"model": "draft"},
    ],
)
def test_what_a_batch_would_change_is_counted_prompt_by_prompt(places, monkeypatch, changes):
    monkeypatch.setattr(contest.Contest, "_look", needs_no_costs)
    runs = run({"id": "counted", **SPEED, **changes, "most_prompts": 6}, **places)["runs"]
    assert [r["together"] for r in runs] == [1] * 6
    assert [r["duelled"] for r in runs] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("changes", "by", "prompts"),
    [
        ({"precision": 0.6}, "precision", 8),
        ({"precision": 0.4, "budget_seconds": 1e-3}, "budget", 3),
        ({}, "prompts", 12),
    ],
)
def test_what_ends_measuring(places, monkeypatch, changes, by, prompts):
    """With a half-width of a half from eight prompts on, in which the machine has no say."""
    monkeypatch.setattr(contest, "is_precise", lambda joint, precision: joint.n >= 8 and precision >= 0.5)
    spec = {**SPEED, **DRAFTED, "most_prompts": 12, "budget_seconds": 1e6, "precision": 0.4, **changes}
    ended = run({"id": "fast", **spec}, **places)["ended"]
    assert (ended["by"], ended["prompts"]) == (by, prompts)


def test_predicted_speedup_follows_from_the_recorded_costs(places):
    """The theory block, computed again by hand from traces and brackets."""
    metrics = run({"id": "fast", **SPEED, **DRAFTED}, **places)
    traces = [r["method"]["trace"] for r in metrics["runs"]]
    rounds = [r for t in traces for r in zip(t["proposed"], t["accepted"], strict=True)]
    accepted = sum(a for p, a in rounds if p)
    a = accepted / (accepted + sum(a < p for p, a in rounds if p))
    logs = {("drafting", 2): [], ("verification", 3): []}
    columns = [metrics["brackets"][name] for name in ("part", "size", "seconds", "before", "after")]
    for part, size, seconds, before, after in zip(*columns, strict=True):
        logs.setdefault((part, size), []).extend(math.log(seconds / step) for step in (before, after))
    draft, verify = (math.exp(statistics.median(logs[kind])) for kind in (("drafting", 2), ("verification", 3)))
    assert metrics["theory"]["acceptance"] == pytest.approx(a)
    assert metrics["theory"]["verification_cost"] == pytest.approx(verify)
    assert metrics["theory"]["predicted_speedup"] == pytest.approx((1 + a + a * a) / (draft + verify))


def test_a_model_beside_its_baseline_is_scored_on_the_same_tokens(places):
    spec = {**PERPLEXITY, "model": "draft", "baseline": "target", "ratios": [0]}
    del spec["press"]
    metrics = run(spec, **places)
    alone = run({**PERPLEXITY, "ratios": [0]}, **places)
    assert metrics["reference"]["nll"] == alone["curve"][0]["nll"]
    assert metrics["reference"]["n_tokens"] == metrics["curve"][0]["n_tokens"]
    assert metrics["curve"][0]["nll"] != metrics["reference"]["nll"]


def test_what_the_parts_leave_out_is_an_error_that_says_how_much(places, monkeypatch):
    """Negative control: work that no part counts must show up in the rounds that are timed whole."""
    from specpress.decoding.loop import Loop

    def slow(self, on_tokens, parts=Loop._round):
        yield from parts(self, on_tokens)
        if self.drafter is not None:
            time.sleep(0.05)

    monkeypatch.setattr(Loop, "_round", slow)
    monkeypatch.setattr("specpress.experiments.duels.contest._ONCE_IN", 20)  # few rounds on whatever machine this is
    with pytest.raises(ValueError, match=r"whole rounds take .* what their parts take by themselves"):
        run({"id": "slow", **SPEED, **DRAFTED, "least_prompts": 12, "most_prompts": 12}, **places)


def test_metrics_say_that_a_cpu_replays_no_graphs(places):
    metrics = run({"id": "plain", **SPEED}, **places, cuda_graphs=True)
    assert metrics["environment"]["settings"]["cuda_graphs"] is False
    assert metrics["ended"]["captures"] == 0


def test_every_step_is_captured_while_warming_up(places, monkeypatch):
    """With a stand-in for CUDA graphs: a dynamic gamma, a compressed target and a press; no timed round waits."""
    made = []

    def graphs(model):
        model.static_steps = StaticSteps(lambda step: step, ahead=True)
        made.append(model.static_steps)

    monkeypatch.setattr("specpress.experiments.assets.use_eager", graphs)
    press = {"name": "streaming_llm", "compression_ratio": 0.5}
    for method in (
        {**DRAFTED, "schedule": {"name": "aimd"}},
        {"drafter": {"name": "compressed_target", "press": press}, "schedule": {"name": "constant", "gamma": 3}},
        {"press": press},
    ):
        made.clear()
        metrics = run({"id": "captured", **SPEED, **method}, **places)
        assert metrics["environment"]["settings"]["cuda_graphs"] is True
        assert metrics["ended"]["captures"] == 0
        assert sum(steps.captured for steps in made) > 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sampling": {"name": "sampled", "temperature": 1.0}}, "sampled texts differ by design"),
        ({"model": "draft"}, "draft is another model than target"),
    ],
)
def test_what_cannot_be_compared_says_why(places, changes, why):
    metrics = run({"id": "plain", **SPEED, **changes}, **places)
    assert metrics["lossless"]["compared"] is None
    assert why in metrics["lossless"]["why"]
    assert metrics["theory"] == {
        "acceptance": None,
        "draft_cost": None,
        "verification_cost": None,
        "predicted_speedup": None,
        "why": "no drafter",
    }


def test_a_perplexity_experiment_scores_every_ratio_on_the_same_passages(places):
    metrics = run(PERPLEXITY, **places)
    assert len(metrics["passages"]) == 2
    assert [point["ratio"] for point in metrics["curve"]] == [0, 0.5]
    for point in metrics["curve"]:
        assert point["n_tokens"] == [19, 19]
        assert all(nll > 0 for nll in point["nll"])
    assert metrics["curve"][1]["kv_bytes"] == metrics["curve"][0]["kv_bytes"] / 2


def test_perplexity_once_and_while_decoding_beside_what_a_cache_takes(places):
    metrics = run({**PERPLEXITY, "ratios": [0, 0.5, 0.7], "decoding_interval": 5, "timed_steps": 2}, **places)
    points = [(point["ratio"], point["mode"]) for point in metrics["curve"]]
    assert points == [(0, "once"), (0.5, "once"), (0.7, "once"), (0.5, "decoding"), (0.7, "decoding")]
    assert [point["slots"] for point in metrics["curve"]] == [40, 20, 12, 20, 12]
    reference, *compressed = metrics["curve"]
    assert reference["acceptance"] is None is reference["step_ms"]
    for point in compressed:
        assert all(0 < value < 1 for value in point["acceptance"])
        if point["mode"] == "once":
            assert all(value > 0 for name in ("step_ms", "full_step_ms") for value in point[name])
        else:  # a step reads as many slots
            assert point["step_ms"] is None is point["full_step_ms"]
    assert compressed[0]["nll"] != compressed[2]["nll"]
    assert "decoding" not in {point["mode"] for point in run(PERPLEXITY, **places)["curve"]}


def test_perplexity_at_ratio_zero_is_the_plain_models(places):
    metrics = run(PERPLEXITY, **places)
    model, tokenizer = load_model(places["models"]["target"])
    assets = Assets(places["models"], places["data"])
    passages = assets.passages(PERPLEXITY, count=2, length=60, tokenizer=tokenizer)
    for passage, nll in zip(passages, metrics["curve"][0]["nll"], strict=True):
        with torch.inference_mode():
            logs = model(torch.tensor([passage.tokens[:-1]])).logits[0].float().log_softmax(-1)
        expected = -sum(logs[i, passage.tokens[i + 1]] for i in range(40, 59))
        assert math.isclose(nll, expected, rel_tol=1e-4)


def test_a_bad_press_is_refused_before_a_model_is_loaded(places):
    missing = {**places, "models": {"target": "nowhere/at/all"}}
    with pytest.raises(ValueError, match="no parameter sinks"):
        run({**PERPLEXITY, "press": {"name": "knorm", "sinks": 3}}, **missing)


def test_a_regime_experiment_times_every_cell(places):
    spec = {
        "id": "map",
        "kind": "regime",
        "model": "target",
        "data": "words",
        "seed": 0,
        "sampling": {"name": "greedy", "temperature": 0},
        "press": {"name": "knorm", "compression_ratio": 0.5},
        "gamma": 2,
        "batches": [1, 3],
        "contexts": [20, 40],
        "repeats": 2,
        "steps": 2,
        "max_new_tokens": 6,
    }
    cells = run(spec, **places)["cells"]
    assert [(cell["batch"], cell["context"]) for cell in cells] == [(1, 20), (3, 20), (1, 40), (3, 40)]
    for cell in cells:
        assert cell["slots_full"] == cell["context"] == 2 * cell["slots_press"]
        assert cell["kv_bytes_full"] == 2 * cell["kv_bytes_press"] == cell["batch"] * cell["context"] * 2 * 16 * 4
        kinds = Counter(zip(cell["brackets"]["part"], cell["brackets"]["size"], strict=True))
        assert kinds == {("pressed", 1): 4, ("verification", 3): 4}
        for name in ("full_step_ms", "press_step_ms", "self_token_ms"):
            assert len(cell[name]) == 2
            assert min(cell[name]) > 0
        assert all(1 <= tokens <= 3 for tokens in cell["self_tokens_per_iteration"])
    limited = run({**spec, "max_kv_bytes": 3 * 20 * 2 * 16 * 4}, **places)["cells"]
    assert [bool(cell["skipped"]) for cell in limited] == [False, False, False, True]


def test_a_chain_times_every_step_on_the_same_prompts(places):
    keys = ("model", "data", "prompt_tokens", "max_new_tokens", "sampling", "seed")
    effort = {"precision": 0.5, "budget_seconds": 60, "least_prompts": 3, "most_prompts": 3}
    spec = {
        "id": "chain",
        "kind": "chain",
        **{key: SPEED[key] for key in keys},
        **effort,
        "steps": [
            {"name": "plain", "title": "plain", "protocol": {"name": "original"}},
            {"name": "cached", "title": "cached", "anchor": True},
            {"name": "speculative", "title": "speculative", **DRAFTED},
        ],
    }
    metrics = run(spec, **places)
    steps = metrics["steps"]
    assert [(step["name"], step.get("anchor")) for step in steps] == [
        ("plain", None), ("cached", True), ("speculative", None),
    ]  # fmt: skip
    assert all([r["prompt"] for r in step["runs"]] == [0, 1, 2] for step in steps)
    assert all(len({step["runs"][i]["tokens"] for step in steps}) == 1 for i in range(3))
    assert all(set(step["brackets"]["part"]) == {"verification"} for step in steps[:2])
    assert len(metrics["ended"]["checks"]) == 3
    assert len({metrics["sample"][name] for name in ("plain", "cached", "speculative")}) == 1
