"""config/drafts.yaml measures every recipe, and asks every draft the same on whole and on compressed caches."""

import pytest

from specpress.study.draft_config import DraftConfig
from specpress.study.load import read_study
from specpress.study.source_code import ROOT

ON_CACHES = {
    "distilled-own", "head-three", "quantized-group32", "quantized-group128-symmetric", "prompt-lookup", "tree",
}  # fmt: skip
PRESSES = {f"{press}-{ratio}" for press in ("streaming-llm", "snapkv") for ratio in (0.5, 0.7)}


@pytest.fixture(scope="module")
def study():
    return read_study(ROOT / "config" / "drafts.yaml")


def test_every_recipe_is_measured_beside_the_target(study):
    specs = [spec for spec in study.experiments.values() if spec["prompt_tokens"] == 64 and "drafter" in spec]
    asked = {
        (part.get("model", part.get("head")), spec["schedule"]["gamma"]) for spec in specs for part in [spec["drafter"]]
    }
    assert asked == {(recipe, gamma) for recipe in study.drafts for gamma in (1, 3)}
    assert len(study.drafts) >= 8


def test_recipes_share_the_text_that_the_target_reads(study):
    configs = [DraftConfig.from_spec({"name": name, **draft}) for name, draft in study.drafts.items()]
    assert len({config.tokens / config.passes for config in configs}) == 1


def test_every_draft_is_asked_the_same_on_every_cache(study):
    specs = study.experiments
    for name in ON_CACHES:
        whole = specs[f"long-{name}"]
        assert "press" not in whole
        for press in PRESSES:
            pressed = specs[f"{press}-{name}"]
            squeezed = pressed["press"]
            assert f"{squeezed['name']}-{squeezed['compression_ratio']}".replace("_", "-") == press
            assert {**pressed, "press": None} == {**whole, "id": pressed["id"], "press": None}


def test_a_drafts_own_cache_is_compressed_while_the_targets_is_whole(study):
    for name in ("distilled-own", "target"):
        for press in PRESSES:
            spec = study.experiments[f"own-{press}-{name}"]
            assert "press" not in spec
            assert spec["drafter"]["press"]["compression_ratio"] == float(press.rpartition("-")[2])
