import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import studies
import yaml

from specpress.study.expansion import canonical, data_of, expand, is_timed, models_of, modules_of
from specpress.study.load import Study, StudyError, load_study, read_study
from specpress.study.registry import PRESSES

ROOT = Path(__file__).resolve().parents[3]
STUDIES = [*sorted((ROOT / "config").glob("*.yaml")), ROOT / "tests" / "study.yaml"]


@pytest.fixture
def study() -> dict:
    """A small valid study: experiments[0] is autoregressive, [1] speculative, [2] a perplexity."""
    return {
        "study": "small",
        "baseline": "target",
        "models": {"target": {"source": {"kind": "path", "path": "somewhere"}, "dtype": "float32"}},
        "data": {"prose": {"source": {"kind": "path", "path": "prose.txt"}, "reader": "text", "test_fraction": 0.5}},
        "drafts": {"draft": {"target": "target", "data": ["prose"], "layers": 1}},
        "sampling": {"greedy": {"temperature": 0}, "sampled": {"temperature": 0.85, "top_p": 0.9}},
        "defaults": {
            "speed": {
                **{"data": "prose", "prompt_tokens": 8, "max_new_tokens": 8},
                **{"precision": 0.5, "budget_seconds": 1, "least_prompts": 2, "most_prompts": 2},
                **{"seed": 0, "verification": "token", "sampling": "greedy"},
            },
            "perplexity": {"data": "prose", "context": 8, "score": 4, "passages": 2, "seed": 0},
        },
        "experiments": [
            {"id": "plain", "kind": "speed"},
            {
                **{"id": "gamma{gamma}-{sampling}", "kind": "speed", "sampling": "{sampling}"},
                "grid": {"gamma": [1, 4], "sampling": ["greedy", "sampled"]},
                "drafter": {"name": "draft_model", "model": "draft"},
                "schedule": {"name": "constant", "gamma": "{gamma}"},
            },
            {
                **{"id": "ppl-{press}", "kind": "perplexity", "grid": {"press": ["streaming_llm", "knorm"]}},
                **{"press": {"name": "{press}"}, "ratios": [0, 0.5]},
            },
        ],
    }


def problems_of(study: dict) -> list[str]:
    with pytest.raises(StudyError) as caught:
        load_study(study)
    return caught.value.problems


def changed(study: dict, path: str, value) -> dict:
    """The study with one key, given as `experiments.1.drafter.model`, set to `value`."""
    study = copy.deepcopy(study)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    part = study
    for key in way:
        part = part[key]
    part[last] = value
    return study


# --- expansion ------------------------------------------------------------------------------------------------------


def test_expands_grids_in_order(study):
    assert list(load_study(study).experiments) == [
        *["plain", "gamma1-greedy", "gamma1-sampled", "gamma4-greedy", "gamma4-sampled"],
        *["ppl-streaming-llm", "ppl-knorm"],
    ]


def test_speed_spec_has_defaults_baseline_and_resolved_sampling(study):
    assert load_study(study).experiments["gamma4-sampled"] == {
        **{"id": "gamma4-sampled", "kind": "speed", "baseline": "target", "model": "target", "data": "prose"},
        **{"prompt_tokens": 8, "max_new_tokens": 8, "seed": 0, "verification": "token"},
        **{"precision": 0.5, "budget_seconds": 1, "least_prompts": 2, "most_prompts": 2},
        "sampling": {"name": "sampled", "temperature": 0.85, "top_p": 0.9},
        "drafter": {"name": "draft_model", "model": "draft"},
        "schedule": {"name": "constant", "gamma": 4},
    }


def test_perplexity_spec_uses_the_baseline_as_model(study):
    assert load_study(study).experiments["ppl-streaming-llm"] == {
        **{"id": "ppl-streaming-llm", "kind": "perplexity", "model": "target", "data": "prose", "context": 8},
        **{"score": 4, "passages": 2, "seed": 0, "press": {"name": "streaming_llm"}, "ratios": [0, 0.5]},
    }


def test_a_model_is_set_beside_a_baseline_or_a_press_compresses(study):
    template = study["experiments"][2]
    without = {**study, "experiments": [*study["experiments"][:2], {k: v for k, v in template.items() if k != "press"}]}
    without["experiments"][2] = {**without["experiments"][2], "id": "quality"}
    without["experiments"][2].pop("grid", None)
    with pytest.raises(StudyError, match=r"experiments\[2\]\.press: missing; name a press, or the `baseline`"):
        load_study(without)
    beside = changed(without, "experiments.2.baseline", "target")
    with pytest.raises(StudyError, match=r"experiments\[2\]\.ratios: must be \[0\] without a press"):
        load_study(beside)
    spec = load_study(changed(beside, "experiments.2.ratios", [0])).experiments["quality"]
    assert (spec["baseline"], spec["ratios"]) == ("target", [0])
    with pytest.raises(StudyError, match=r"experiments\[2\]\.baseline: .*targt"):
        load_study(changed(without, "experiments.2.baseline", "targt"))


def test_own_keys_win_over_defaults(study):
    spec = load_study(changed(study, "experiments.0.most_prompts", 7)).experiments["plain"]
    assert spec["most_prompts"] == 7


def test_own_baseline_is_also_the_model(study):
    spec = load_study(changed(study, "experiments.0.baseline", "draft")).experiments["plain"]
    assert (spec["baseline"], spec["model"]) == ("draft", "draft")


def test_placeholder_keeps_its_type_alone_and_is_formatted_inside_text(study):
    study["experiments"] = [
        {
            **{"id": "r{ratio}-{press}", "kind": "perplexity", "grid": {"ratio": [0, 0.5], "press": ["knorm"]}},
            **{"press": {"name": "{press}"}, "ratios": [0, "{ratio}"], "data": "prose"},
        }
    ]
    with pytest.raises(StudyError, match=r"ratios.*non-unique"):
        load_study(study)
    study["experiments"][0]["grid"]["ratio"] = [0.3, 0.5]
    experiments = load_study(study).experiments
    assert {name: spec["ratios"] for name, spec in experiments.items()} == {
        "r0.3-knorm": [0, 0.3],
        "r0.5-knorm": [0, 0.5],
    }


def test_expand_leaves_the_configuration_alone(study):
    before = copy.deepcopy(study)
    expand(study)
    assert study == before


def test_a_spec_shares_nothing_with_the_others(study):
    """Changing one default must not show up in an experiment that sets the key itself."""
    before = load_study(study).experiments
    after = load_study(changed(study, "experiments.2.ratios", [0, 0.7])).experiments
    assert {name for name in before if canonical(before[name]) != canonical(after[name])} == {
        "ppl-streaming-llm",
        "ppl-knorm",
    }


def test_canonical_ignores_the_order_of_keys_but_not_their_values():
    assert canonical({"a": 1, "b": {"c": 2, "d": 3}}) == canonical({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical({"a": 1, "b": 2}) != canonical({"a": 2, "b": 1})


def test_models_and_modules_of_a_spec_are_found_at_any_depth():
    spec = {
        **{"kind": "speed", "model": "target", "baseline": "other"},
        "drafter": {
            "name": "draft_model",
            "intermediate_model": "middle",
            "drafter": {"name": "draft_model", "model": "d"},
        },
        "schedule": {"name": "aimd"},
        "press": {"name": "knorm"},
    }
    assert models_of(spec) == ["d", "middle", "other", "target"]
    parts = ["kvpress", "specpress.drafters.draft_model", "specpress.experiments.speed", "specpress.schedules.dynamic"]
    assert modules_of(spec) == parts
    chain = {
        "kind": "chain",
        "model": "target",
        "steps": [{"protocol": {"name": "original", "drafter_model": "d"}}, {"model": "e", "press": {"name": "knorm"}}],
    }
    assert models_of(chain) == ["d", "e", "target"]
    assert modules_of(chain) == ["kvpress", "specpress.decoding.uncached", "specpress.experiments.chain"]


def test_a_mixture_needs_what_its_drafters_need(study):
    drafters = [{"name": "token_recycling", "warm": "prose"}, {"name": "draft_model", "model": "draft"}]
    tree = {"verification": "traversal", "drafter": {"name": "mixture", "drafters": drafters}}
    spec = load_study(changed(study, "experiments.1", {**study["experiments"][1], **tree})).experiments["gamma1-greedy"]
    assert models_of(spec) == ["draft", "target"]
    assert data_of({**spec, "data": "verse"}) == ["prose", "verse"]
    for name in ("mixture", "token_recycling", "draft_model"):
        assert f"specpress.drafters.{name}" in modules_of(spec)


def test_a_batch_takes_trees_of_those_that_read_no_cache(study):
    def with_tree(inner):
        drafter = {"name": "mixture", "drafters": [inner, {"name": "token_recycling"}]}
        tree = {"verification": "recursive", "drafter": drafter, "batch": 2}
        return changed(study, "experiments.1", {**study["experiments"][1], **tree})

    load_study(with_tree({"name": "suffix_lookup"}))
    press = {"name": "knorm", "compression_ratio": 0.5}
    found = problems_of(with_tree({"name": "compressed_target", "press": press}))
    assert [line.partition(":")[0] for line in found] == ["experiments[1].batch"]


def test_a_tree_takes_no_schedule_that_counts_on_paths_and_no_prompts_to_know_before(study):
    tree = {"drafter": {"name": "token_recycling", "warm": "prose"}, "verification": "traversal"}
    tree |= {"schedule": {"name": "optimal", "cap": "{gamma}"}}
    spec = {**study["experiments"][1], **tree}
    asked = {"kind": "prompts", "source": {"kind": "path", "path": "x.jsonl"}}
    found = problems_of(changed(changed(study, "experiments.1", spec), "data.asked", asked))
    assert [line.partition(": ")[0] for line in found] == ["experiments[1].schedule.name"]
    assert "use optimal_tree" in found[0]
    spec["drafter"]["warm"] = "asked"
    found = problems_of(changed(changed(study, "experiments.1", spec), "data.asked", asked))
    assert "experiments[1].drafter.warm: 'asked' holds prompts, of which no part is set aside" in "".join(found)


def test_study_without_drafts(study):
    del study["drafts"], study["experiments"][1]
    assert load_study(study).drafts == {}


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSED = [
    # path that is set, value, problem
    ("baseline", "tarlget", "baseline: unknown model or draft 'tarlget'; known: draft, target; did you mean 'target'?"),
    ("modles", {}, "modles: unknown key; known: .*; did you mean 'models'"),
    ("study", "Upper", "study: 'Upper' must match"),
    ("study", "x" * 101, "study: 'x+' must match .*at most 100"),
    ("experiments.0.id", "x" * 201, r"experiments\[0\].id: 'x+' must match .*at most 200"),
    (
        "models.target.source.kind",
        "wheal",
        r"models.target.source.kind: unknown value 'wheal'; known: hub, path, random,",
    ),
    ("models.target.source.pth", "x", r"models.target.source.pth: unknown key; known: kind, path; did you mean 'path'"),
    ("models.target.source", {"kind": "path"}, r"models.target.source.path: missing"),
    ("models.target.dtype", "int3", r"models.target.dtype: unknown value 'int3'"),
    ("models.target.weights", "q5", r"models.target.weights: unknown value 'q5'; known: q4, q8"),
    ("models.target.weights", "q4", r"drafts.draft.target: 'target' is held in fewer bits.* without `weights`"),
    ("models.draft", {"source": {"kind": "path", "path": "x"}}, r"drafts.draft: 'draft' is also a model"),
    ("data.prose.test_fraction", 1, r"data.prose.test_fraction: must be below 1, found 1"),
    (
        "data.prose.reader",
        "pdf",
        r"data.prose.reader: unknown value 'pdf'; known: jsonl, kjv, mediawiki, parquet, text, wikitext",
    ),
    (
        "data.prose.source",
        {"kind": "random"},
        r"data.prose.source.kind: unknown value 'random'; known: hub, path, wheel",
    ),
    (
        "data.prose.source",
        {"kind": "hub", "repo": "owner/name", "revision": "0" * 40},
        r"data.prose.source.file: missing",
    ),
    ("data.prose.column", "text", r"data.prose.column: only the readers of parquet files"),
    (
        "models.target.source",
        {"kind": "hub", "repo": "owner/name", "revision": "main"},
        r"models.target.source.revision: 'main' must match",
    ),
    ("device", "gpu", r"device: 'gpu' must match"),
    ("cuda_graphs", "on", r"cuda_graphs: must be true or false, found 'on'"),
    ("drafts.draft.target", "draft", r"drafts.draft.target: unknown model 'draft'; known: target"),
    ("drafts.draft.data", ["prose", "verse"], r"drafts.draft.data\[1\]: unknown data set 'verse'; known: prose"),
    ("drafts.draft.learning_rate", "3e-4", r"drafts.draft.learning_rate: must be a number, found '3e-4' \(text; as a"),
    ("drafts.draft.objective", {"kl": 1}, r"drafts.draft.objective: unknown objective 'kl'; known: cross_entropy"),
    ("drafts.draft.objective", {"forward_kl": 0}, r"drafts.draft.objective.forward_kl: expected a positive weight"),
    ("drafts.draft.features", [1], r"drafts.draft.features: only a feature head has it"),
    ("drafts.draft.kind", "head", r"experiments\[1\].drafter.model: 'draft' is a feature head: draft with"),
    (
        "experiments.1.drafter",
        {"name": "feature_head", "head": "draft"},
        r"experiments\[1\].drafter.head: 'draft' is no feature head: give it `kind: head`",
    ),
    ("experiments.1.drafter", {"name": "quantized_target", "group": 48}, r"experiments\[1\].drafter.group: .*48"),
    ("sampling.greedy.temperature", -1, r"sampling.greedy.temperature: must be at least 0, found -1"),
    ("sampling.greedy.top_p", 0, r"sampling.greedy.top_p: must be above 0, found 0"),
    ("defaults.speed.data", "verse", r"defaults.speed.data: unknown data set 'verse'; known: prose"),
    ("defaults.speed.ratios", [0], r"defaults.speed.ratios: unknown key"),
    ("experiments.0.data", "verse", r"experiments\[0\].data: unknown data set 'verse'; known: prose"),
    ("experiments.0.most_prompts", True, r"experiments\[0\].most_prompts: must be a whole number, found True"),
    ("experiments.0.precision", 5, r"experiments\[0\].precision: must be below 1, found 5"),
    ("experiments.0.precision", 0, r"experiments\[0\].precision: must be above 0, found 0"),
    ("defaults.speed.precision", "5%", r"defaults.speed.precision: must be a number, found '5%'"),
    ("experiments.0.budget_seconds", 0, r"experiments\[0\].budget_seconds: must be above 0, found 0"),
    ("experiments.0.budget_seconds", 0.01, r"experiments\[0\].budget_seconds: 0.01 s is too little for least_prompts"),
    ("experiments.0.least_prompts", 3, r"experiments\[0\].least_prompts: must be at most most_prompts, 2, found 3"),
    ("experiments.0.max_new_tokens", 1, r"experiments\[0\].max_new_tokens: must be at least 2"),
    ("experiments.0.kind", "sped", r"experiments\[0\].kind: unknown value 'sped'; .* did you mean 'speed'"),
    ("experiments.0.verification", "tokn", r"experiments\[0\].verification: unknown value 'tokn'; known: block, rec"),
    ("experiments.0.model", "targt", r"experiments\[0\].model: unknown model or draft 'targt'; known: draft, target"),
    ("experiments.0.schedule", {"name": "aimd"}, r"experiments\[0\].drafter: missing beside schedule"),
    ("experiments.0.cache_budget", 8, r"experiments\[0\].press: missing beside cache_budget"),
    ("experiments.0.id", "Plain_1", r"experiments\[0\].id: 'Plain_1' must match"),
    (
        "experiments.0.id",
        "gamma1-greedy",
        r"experiments\[1\].id: duplicate ID 'gamma1-greedy', already .* experiments\[0\]",
    ),
    ("experiments.0.id", "draft", r"experiments\[0\].id: duplicate ID 'draft', already given by drafts.draft"),
    ("experiments.0.id", "machine", r"experiments\[0\].id: duplicate ID 'machine', already given by the rates of the"),
    (
        "experiments.0.id",
        "rounding-target",
        r".*duplicate ID 'rounding-target', already given by the rounding of target",
    ),
    (
        "experiments.1.id",
        "gamma{gamma}",
        r"experiments\[1\].id: duplicate ID 'gamma1'.*every grid key belongs in the ID",
    ),
    ("experiments.1.id", "g{gama}", r"experiments\[1\].id: placeholder \{gama\} has no entry in grid; known: gamma"),
    (
        "experiments.1.sampling",
        "gredy",
        r"experiments\[1\].grid.sampling: no value of this experiment uses \{sampling\}",
    ),
    ("experiments.1.grid.gamma", [0], r"experiments\[1\].schedule.gamma: must be at least 1, found 0"),
    ("experiments.1.grid.gamma", [], r"experiments\[1\].grid.gamma: \[\] should be non-empty"),
    ("experiments.1.grid.gamma", 4, r"experiments\[1\].grid.gamma: must be a list, found 4"),
    (
        "experiments.1.grid.sampling",
        ["gredy"],
        r"experiments\[1\].sampling: unknown sampling 'gredy'; known: greedy, s",
    ),
    (
        "experiments.1.drafter.model",
        "drfat",
        r"experiments\[1\].drafter.model: .*'drfat'; known: draft, target; did you ",
    ),
    (
        "experiments.1.drafter.name",
        "draft_modle",
        r"experiments\[1\].drafter.name: unknown drafter 'draft_modle'; known: cascade, ",
    ),
    (
        "experiments.1.drafter.press",
        {"name": "knrm"},
        r"experiments\[1\].drafter.press.name: unknown press 'knrm'; known: adakv",
    ),
    ("experiments.1.schedule.name", "amid", r"experiments\[1\].schedule.name: unknown schedule 'amid'; known: aimd,"),
    (
        "experiments.1.schedule.gama",
        3,
        r"experiments\[1\].schedule.gama: unknown option of the schedule 'constant'; known: g",
    ),
    (
        "experiments.2.grid.press",
        ["knrm"],
        r"experiments\[2\].press.name: unknown press 'knrm'; known: .*; did you mean 'kn",
    ),
    (
        "experiments.2.press.n_snk",
        4,
        r"experiments\[2\].press.n_snk: unknown option of the press 'streaming_llm'; known: .*",
    ),
    ("drafts.draft.target", ["target"], r"drafts.draft.target: must be text, found"),
    ("experiments.2.ratios", [0, 1], r"experiments\[2\].ratios\[1\]: must be below 1, found 1"),
    ("experiments.2.ratios", [0, -0.1], r"experiments\[2\].ratios\[1\]: must be at least 0, found -0.1"),
    ("experiments.2.ratios", [0.5], r"experiments\[2\].ratios: must contain 0"),
    ("experiments.2.press.compression_ratio", 0.5, r"experiments\[2\].press.compression_ratio: `ratios` gives it"),
    ("experiments.2.prompts", 3, r"experiments\[2\].prompts: unknown key; known: .*ratios"),
    ("experiments.0.prompts", 3, r"experiments\[0\].prompts: unknown key; .* did you mean 'most_prompts'"),
    ("experiments.0.press", {"name": "adakv"}, r"experiments\[0\].press.press: missing; the press 'adakv' needs it"),
    ("experiments.0.press", {"name": "adakv", "press": "knrm"}, r"experiments\[0\].press.press.name: unknown press "),
    (
        "experiments.0.press",
        {"name": "composed", "presses": ["knorm", "kvzip"]},
        r"experiments\[0\].press.presses\[1\].name: press 'kvzip' cannot run here",
    ),
    (
        "experiments.1.drafter.children",
        2,
        r"experiments\[1\].verification: 'draft_model' proposes trees, which 'token' cannot verify: use traversal",
    ),
    (
        "experiments.1.drafter",
        {"name": "token_recycling", "warm": "verse"},
        r"experiments\[1\].drafter.warm: unknown data set 'verse'; known: prose",
    ),
    (
        "experiments.1.drafter",
        {"name": "mixture", "drafters": [{"name": "suffix_lookup", "corpus": "verse"}]},
        r"experiments\[1\].drafter.drafters\[0\].corpus: unknown data set 'verse'; known: prose",
    ),
    (
        "experiments.1.drafter",
        {"name": "mixture", "drafters": [{"name": "mixture", "drafters": [{"name": "suffix_lookup"}]}]},
        r"experiments\[1\].drafter.drafters\[0\].name: a mixture takes no mixtures",
    ),
    (
        "experiments.1.drafter",
        {"name": "mixture", "drafters": [{"name": "draft_model", "model": "drfat"}]},
        r"experiments\[1\].drafter.drafters\[0\].model: unknown model or draft 'drfat'",
    ),
    (
        "experiments.1.drafter",
        {"name": "mixture"},
        r"experiments\[1\].drafter.drafters: missing; the drafter 'mixture'",
    ),
    (
        "experiments.1.drafter",
        {"name": "token_recycling", "shape": "round"},
        r"experiments\[1\].drafter.shape: unknown value 'round'; known: best, fixed, path",
    ),
    (
        "experiments.1.schedule",
        {"name": "optimal_tree", "cap": "{gamma}"},
        r"experiments\[1\].schedule.name: optimal_tree sizes trees; 'draft_model' proposes paths: use optimal",
    ),
    ("experiments.1.drafter", {"name": "draft_model"}, r"experiments\[1\].drafter.model: missing; the drafter 'draft_"),
    ("experiments.1.drafter", {"name": "cascade"}, r"experiments\[1\].drafter.drafter: missing; the drafter 'cascade'"),
    (
        "experiments.2",
        {"id": "p", "kind": "perplexity", "press": {"name": "think"}, "ratios": [0, 0.5], "decoding_interval": 4},
        r"experiments\[2\].decoding_interval: 'think' cannot compress while decoding: it sets key channels",
    ),
    ("experiments", [], r"experiments: \[\] should be non-empty"),
    ("experiments", "none", r"experiments: must be a list, found 'none'"),
    ("experiments.0", 7, r"experiments\[0\]: must be a mapping"),
]


@pytest.mark.parametrize(("path", "value", "problem"), REFUSED, ids=[f"{p}={v}"[:50] for p, v, _ in REFUSED])
def test_refuses(study, path, value, problem):
    found = problems_of(changed(study, path, value))
    assert any(re.match(problem, line) for line in found), found


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_weights_in_fewer_bits_run_on_a_cpu_only(study, device):
    study["models"]["q"], study["device"] = {**study["models"]["target"], "weights": "q4"}, device
    assert problems_of(study) == [
        f"models.q.weights: they run on a CPU only, and `device` is {device}; remove one of the two"
    ]


def test_a_drafter_in_fewer_bits_runs_on_a_cpu_only(study):
    step = {"drafter": {"name": "quantized_target"}, "schedule": {"name": "constant", "gamma": 2}}
    chain = {"id": "c", "kind": "chain", **study["defaults"]["speed"]}
    steps = [{"name": "one", "title": "one", "anchor": True}, {"name": "two", "title": "two", **step}]
    study["experiments"][0] = {**chain, "steps": steps}
    refused = [line for line in problems_of(study | {"device": "cuda"}) if "CPU" in line]
    assert refused == [
        "experiments[0].steps[1].drafter: quantized_target runs on a CPU only, and `device` is cuda; remove one of the "
        "two"
    ]
    assert not any("CPU" in line for line in problems_of(study))


def test_steps_of_a_chain_can_be_told_apart(study):
    step = {"name": "one", "title": "one", "anchor": True}
    study["experiments"][0] = {"id": "c", "kind": "chain", "steps": [step, step], **study["defaults"]["speed"]}
    del study["experiments"][0]["verification"]
    assert problems_of(study) == [
        "experiments[0].steps[1].name: duplicate name 'one', already given by experiments[0].steps[0]",
        "experiments[0].steps[1].anchor: experiments[0].steps[0] is the anchor already; a chain has one",
    ]


TASKS = {
    **{"id": "t", "kind": "tasks", "data": "prose", "context": 300, "samples": 8, "answer_tokens": 6, "seed": 0},
    **{"tasks": [{"name": "several_needles", "needles": 3}, {"name": "several_needles"}], "ratios": [0, 0.5]},
    **{"presses": [{"name": "knorm"}, {"name": "snapkv"}], "modes": ["agnostic", "aware"], "bar": 0.5},
}
WRONG_TASKS = [
    ("tasks", [], r"tasks: \[\] should be non-empty"),
    ("tasks.0.name", "needle", r"tasks\[0\].name: unknown task 'needle'; known: .*several_needles.*; did you mean '"),
    (
        "tasks.0.neddles",
        2,
        r"tasks\[0\].neddles: unknown option of the task 'several_needles'; known: needles; did you",
    ),
    ("tasks.0.needles", 0, r"tasks\[0\].needles: must be at least 1, found 0"),
    ("tasks.1", {"name": "several_needles", "needles": 3}, r"tasks: .* has non-unique elements"),
    (
        "presses.1.name",
        "knorm",
        r"presses\[1\].name: experiments\[0\].presses\[0\] is 'knorm' already; give it with oth",
    ),
    ("presses.0.compression_ratio", 0.5, r"presses\[0\].compression_ratio: `ratios` gives it to all presses"),
    ("presses.0.name", "kvzip", r"presses\[0\].name: press 'kvzip' cannot run here"),
    ("presses.1.windw_size", 4, r"presses\[1\].windw_size: unknown option of the press 'snapkv'"),
    ("ratios", [0.5], r"ratios: must contain 0, the full cache"),
    ("modes", ["seen"], r"modes\[0\]: unknown value 'seen'; known: agnostic, aware"),
    ("samples", 5, r"samples: must be at least 6, found 5: with fewer, not even a task that is always solved has"),
    ("bar", 1, r"bar: must be below 1, found 1"),
    ("timed_steps", 4, r"timed_steps: unknown key; known: .*modes"),
]


@pytest.mark.parametrize(("path", "value", "problem"), WRONG_TASKS, ids=[f"{p}={v}"[:50] for p, v, _ in WRONG_TASKS])
def test_refuses_tasks(study, path, value, problem):
    study["experiments"] = [TASKS]
    assert load_study(study).experiments["t"]["tasks"] == TASKS["tasks"]
    found = problems_of(changed(study, f"experiments.0.{path}", value))
    assert len(found) == 1
    assert re.match(r"experiments\[0\]\." + problem, found[0]), found


def test_tasks_may_all_be_put_to_presses(study):
    study["experiments"] = [TASKS | {"bar": 0, "samples": 1}]
    assert load_study(study).experiments["t"]["samples"] == 1


def test_an_experiment_on_tasks_depends_on_its_presses_and_tasks_and_reads_no_clock(study):
    study["experiments"] = [TASKS | {"presses": [{"name": "adaptive"}], "tasks": [{"name": "common_words"}]}]
    spec = load_study(study).experiments["t"]
    modules = {"specpress.experiments.tasks", "specpress.presses.adaptive", "specpress.data.tasks.counting"}
    assert set(modules_of(spec)) == modules
    assert models_of(spec) == ["target"]
    assert not is_timed(spec)


@pytest.mark.parametrize("inner", [{"press": "tova"}, {"press": {"name": "tova"}}, {"presses": ["knorm", "tova"]}])
def test_modules_of_presses_inside_a_press(inner, monkeypatch):
    monkeypatch.setitem(PRESSES, "tova", "specpress.own:Own")
    spec = {"kind": "speed", "press": {"name": "criticalkv", **inner}}
    assert modules_of(spec) == ["kvpress", "specpress.experiments.speed", "specpress.own"]


def test_file_that_is_not_yaml_is_refused_with_the_line(tmp_path):
    (tmp_path / "study.yaml").write_text("study: x\n  models: [\n")
    with pytest.raises(StudyError, match=r"study.yaml is not YAML: (?s:.*)line 2"):
        read_study(tmp_path / "study.yaml")


@pytest.mark.parametrize("content", [None, [], "text"])
def test_file_without_keys_is_refused(content):
    assert "config/README.md" in problems_of(content)[0]


@pytest.mark.parametrize("part", ["study", "baseline", "models", "data", "sampling", "experiments"])
def test_missing_part_is_named(study, part):
    del study[part]
    assert f"{part}: missing" in problems_of(study)


def test_missing_key_says_that_defaults_lack_it_too(study):
    del study["defaults"]["speed"]["precision"]
    assert "experiments[0].precision: missing, here or in defaults.speed" in problems_of(study)


def test_all_problems_are_reported_at_once_and_each_once(study):
    study["baseline"] = "nobody"
    study["data"]["prose"]["test_fraction"] = 2
    study["experiments"][1]["drafter"]["model"] = "nobody"  # in four experiments of the grid
    study["experiments"][2]["ratios"] = [0, 2]
    found = problems_of(study)
    assert [line.split(":")[0] for line in found] == [
        *["data.prose.test_fraction", "baseline", "experiments[1].drafter.model", "experiments[2].ratios[1]"]
    ]


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], {"x": None}])
@pytest.mark.parametrize(
    "path",
    [
        "models",
        "data",
        "drafts",
        "sampling",
        "defaults",
        "experiments",
        "defaults.speed",
        "models.target",
        "experiments.1",
    ]
    + [f"experiments.1.{key}" for key in ("id", "kind", "grid", "drafter", "schedule", "sampling", "grid.gamma")],
)
def test_malformed_parts_are_refused_not_crashed_on(study, path, value):
    try:
        load_study(changed(study, path, value))
    except StudyError:
        return
    assert value in ({}, "text")  # an empty section may be left empty; an id may be any text


# --- the studies and their documentation -----------------------------------------------------------------------------


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.name)
def test_studies_are_valid(file):
    assert load_study(yaml.safe_load(file.read_text())).experiments


def schema_keys(schema) -> set[str]:
    """Every key that a study file may have, names chosen by the user aside."""
    if isinstance(schema, list):
        return set().union(*map(schema_keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    return own.union(*(schema_keys(value) for value in schema.values()))


def test_the_tiny_study_of_a_gpu_is_valid():
    """Tests that only a GPU runs start from it."""
    kinds = {spec["kind"] for spec in load_study(studies.of_a_gpu()).experiments.values()}
    assert kinds == {spec["kind"] for spec in read_study(ROOT / "tests" / "study.yaml").experiments.values()}


def test_readme_explains_exactly_the_keys_of_the_schema():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "study.schema.yaml").read_text())
    readme = (ROOT / "config" / "README.md").read_text()
    explained = set(re.findall(r"`([a-z0-9_]+)`", readme))
    assert schema_keys(schema) - explained == set(), "keys without an explanation"
    rows = set(re.findall(r"^\| `([a-z0-9_]+)` \|", readme, re.MULTILINE))
    assert rows - schema_keys(schema) == set(), "explanations of keys that do not exist"


def test_schema_fills_in_no_defaults():
    text = (ROOT / "workflow" / "schemas" / "study.schema.yaml").read_text()
    assert not re.search(r"^[^#]*\bdefault:", text, re.MULTILINE)


def test_loading_a_study_imports_nothing_heavy():
    code = (
        "import sys, yaml; from specpress.study.load import load_study, sources;"
        "load_study(yaml.safe_load(open('config/config.yaml'))); sources('scripts/run_experiment.py');"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'transformers', 'kvpress', 'snakemake'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rates_of_the_machine_are_needed_where_a_speedup_is_measured():
    def needs(*specs):
        return Study({}, {str(number): spec for number, spec in enumerate(specs)}).has_speedups

    assert not needs({"kind": "perplexity"}, {"kind": "tasks"}, {"kind": "chain"})
    assert needs({"kind": "tasks"}, {"kind": "speed"})
    assert needs({"kind": "perplexity", "timed_steps": 8})
