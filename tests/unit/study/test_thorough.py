"""config/thorough.yaml leaves out nothing that there is to measure on the embedded study's models and texts."""

import pytest

from specpress.study.abilities import ABILITIES, REFUSED, Ability
from specpress.study.expansion import parts
from specpress.study.load import read_study
from specpress.study.registry import DRAFTERS, PRESSES, TASKS
from specpress.study.source_code import ROOT

WITHOUT_RATIO = {"composed", "dms", "per_layer_compression", "simlayerkv", "think"}  # it is said otherwise


@pytest.fixture(scope="module")
def thorough():
    return read_study(ROOT / "config" / "thorough.yaml")


def test_it_has_every_drafter_press_and_task(thorough):
    specs = list(thorough.experiments.values())
    drafted = {part["name"] for spec in specs for _, what, part in parts(spec) if what == "drafter"}
    pressed = {spec["press"]["name"] for spec in specs if spec["kind"] == "perplexity" and "press" in spec}
    assert drafted == set(DRAFTERS)
    assert pressed == {p for p in PRESSES if ABILITIES.get(p, Ability()).status != REFUSED} - WITHOUT_RATIO
    assert {task["name"] for spec in specs for task in spec.get("tasks", [])} == set(TASKS)
    assert "questions" in {spec["data"] for spec in specs if spec["kind"] == "speed"}
    assert max(spec["precision"] for spec in specs if "precision" in spec) <= 0.02


def test_it_measures_on_what_the_embedded_study_does_and_leaves_out_no_prompts(thorough):
    embedded = read_study(ROOT / "config" / "config.yaml").config
    for entry in embedded["data"].values():
        for key in ("categories", "most_turns"):
            entry.pop(key, None)
    for part in ("models", "data", "drafts"):
        assert thorough.config[part] == embedded[part], f"{part} are not those of config.yaml"
