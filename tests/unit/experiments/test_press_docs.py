"""The table of presses is what a run sees, and the README's press works as written."""

import re
import sys

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import DraftModel
from specpress.presses import press_lines
from specpress.study.source_code import ROOT

sys.path.insert(0, str(ROOT / "scripts"))


def test_the_committed_table_is_what_the_presses_do():
    from describe_presses import page

    committed = (ROOT / "docs" / "presses.md").read_text(encoding="utf-8")
    assert page() == committed, "run: python scripts/describe_presses.py docs/presses.md"


def test_specpress_list_presses_says_what_each_can_do():
    lines = {line.split()[0]: line for line in press_lines()}
    assert "evicts after the prompt" in lines["compactor"]
    assert "quality only" in lines["adakv"]
    assert "cannot run" in lines["qfilter"]


def readme_press():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("### Add a press of your own") :]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_readmes_press_evicts_and_drafting_under_it_changes_nothing(family):
    source = readme_press()
    assert len(source.splitlines()) < 30
    names = {"__name__": "my_presses"}
    exec(compile(source, "README.md", "exec"), names)
    press = names["LoudValuePress"](compression_ratio=0.5, n_sink=2)
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(40)
    settings = {"press": press, "cache_budget": 18, "compression_interval": 6}
    settings |= {"max_new_tokens": 20, "sampling": SamplingParams(temperature=0)}
    alone = generate(model, tokens, **settings)
    assert max(iteration.slots for iteration in alone.trace.iterations) == 18 + 6
    drafted = generate(model, tokens, drafter=DraftModel(tiny.FAMILIES[family](1, seed=5)), **settings)
    assert torch.equal(drafted.tokens, alone.tokens)
