"""What runs again after a change: exactly the jobs that depend on it."""

import os

import pytest
import yaml
from tree import ROOT

CONTENTS = yaml.safe_load((ROOT / "paper" / "contents.yaml").read_text())
FIGURES = {f"plot_figure {name}" for name in CONTENTS["figures"]}
FRAGMENTS = {f"render_template tables/{name}" for name in CONTENTS["tables"]} | {
    *(f"render_template text/{name}" for name in CONTENTS["texts"]),
    "render_template numbers",
}
PAPER = {"compile_paper", "copy_paper"}
ANALYSIS = {"collect_results"} | FIGURES | FRAGMENTS | PAPER
EXPERIMENTS = {
    f"run_experiment {name}" for name in ("plain", "gamma1", "gamma4", "lookup", "ppl-knorm", "ppl-own-press")
}


def test_nothing_changed(tree):
    assert tree.jobs() == set()


def test_editing_one_experiment(tree, study):
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    assert tree.jobs() == {"run_experiment lookup"} | ANALYSIS


def test_editing_one_value_of_a_grid(tree, study):
    study["experiments"][1]["grid"]["gamma"] = [1, 6]
    tree.write_study(study)
    assert tree.jobs() == {"run_experiment gamma6"} | ANALYSIS


def test_adding_one_experiment(tree, study):
    study["experiments"].insert(0, {"id": "longer", "kind": "speed", "prompt_tokens": 16})
    tree.write_study(study)
    assert tree.jobs() == {"run_experiment longer"} | ANALYSIS


def test_removing_one_experiment(tree, study):
    del study["experiments"][0]
    tree.write_study(study)
    assert tree.jobs() == ANALYSIS


def test_changing_a_default_reruns_who_uses_it(tree, study):
    study["defaults"]["perplexity"]["passages"] = 3
    tree.write_study(study)
    assert tree.jobs() == {"run_experiment ppl-knorm", "run_experiment ppl-own-press"} | ANALYSIS


def test_reordering_keys_reruns_nothing(tree, study):
    study["experiments"] = [dict(reversed(experiment.items())) for experiment in study["experiments"]]
    tree.write_study(dict(reversed(study.items())))
    assert tree.jobs() == set()


def test_moving_a_value_into_the_defaults_reruns_nothing(tree, study):
    for experiment in study["experiments"][:3]:
        experiment["most_prompts"] = 2
    del study["defaults"]["speed"]["most_prompts"]
    tree.write_study(study)
    assert tree.jobs() == set()


def test_editing_a_plotting_script_redraws_its_figure(tree):
    name, figure = next(iter(CONTENTS["figures"].items()))
    tree.append(figure["script"], "# another colour\n")
    assert tree.jobs() == {f"plot_figure {name}"} | PAPER


def test_editing_the_style_redraws_every_figure(tree):
    tree.append("paper/style.mplstyle", "# larger\n")
    assert tree.jobs() == FIGURES | PAPER


def test_editing_a_template_renders_it(tree):
    tree.append(CONTENTS["texts"]["speed"]["template"], "% more\n")
    assert tree.jobs() == {"render_template text/speed"} | PAPER


def test_editing_the_layout_of_tables_renders_them_and_nothing_else(tree):
    tree.append(CONTENTS["layouts"]["paper"], "% more\n")
    assert tree.jobs() == {job for job in FRAGMENTS if "tables/" in job} | PAPER


def test_editing_a_section_builds_the_paper(tree):
    tree.append("paper/main.tex", "% more\n")
    assert tree.jobs() == PAPER


def test_editing_a_press_reruns_its_experiments(tree):
    tree.append("src/specpress/presses/own_press.py", "# better\n")
    assert tree.jobs() == {"run_experiment ppl-own-press"} | ANALYSIS


def test_editing_a_drafter_reruns_its_experiments(tree):
    tree.append("src/specpress/drafters/prompt_lookup.py", "# faster\n")
    assert tree.jobs() == {"run_experiment lookup"} | ANALYSIS


def test_registering_a_press_reruns_nothing(tree):
    tree.edit("src/specpress/study/registry.py", "PRESSES = {", 'PRESSES = {\n    "tova": "kvpress:TOVAPress",')
    assert tree.jobs() == set()


def test_editing_the_loop_reruns_every_experiment_that_decodes(tree):
    tree.append("src/specpress/decoding/generate.py", "# other\n")
    jobs = tree.jobs()
    assert jobs & EXPERIMENTS == {job for job in EXPERIMENTS if "ppl" not in job}
    assert jobs >= ANALYSIS
    assert not {"prepare_data prose", "prepare_model target"} & jobs


def test_editing_the_calibration_reruns_what_it_may_explain(tree):
    tree.append("src/specpress/experiments/rounding.py", "# more rows\n")
    greedy = {job for job in EXPERIMENTS if "ppl" not in job}
    assert tree.jobs() == {"calibrate_rounding target"} | greedy | ANALYSIS


def test_editing_the_check_reruns_no_calibration(tree):
    tree.append("src/specpress/experiments/duels/lossless.py", "# stricter\n")
    assert tree.jobs() == {job for job in EXPERIMENTS if "ppl" not in job} | ANALYSIS


def test_editing_the_text_starts_at_the_data(tree):
    tree.append("prose.txt", "More prose.\n")
    assert tree.jobs() == {"prepare_data prose", "train_draft draft"} | EXPERIMENTS | ANALYSIS


@pytest.mark.parametrize("what", ["sources", "inputs"])
def test_touching_without_changing_reruns_nothing(tree, what):
    patterns = {
        "sources": ["src/**/*.py", "scripts/*.py", "paper/**/*", "Snakefile", "workflow/**/*", "config/*"],
        "inputs": ["prose.txt", "resources/**/manifest.json", "results/**/manifest.json", "results/**/*.csv"],
    }
    files = [path for pattern in patterns[what] for path in tree.path.glob(pattern) if path.is_file()]
    assert len(files) > 3
    for path in files:
        os.utime(path)
    assert tree.jobs() == set()


def test_after_a_rerun_nothing_is_left_to_do(tree, study):
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    tree.snakemake("--quiet")
    assert tree.jobs() == set()


def test_the_catalogs_snakefile_is_the_whole_workflow(tree, study):
    study["experiments"][2]["schedule"]["gamma"] = 3
    tree.write_study(study)
    assert tree.jobs("--snakefile", "workflow/Snakefile") == {"run_experiment lookup"} | ANALYSIS
