"""What README.md and docs/ show as Python runs as it is typed, in a folder where `make paper` has left its models."""

import re
from pathlib import Path

import pytest
import tiny
from kvpress import ScorerPress
from transformers import LlamaForCausalLM

from specpress import SamplingParams, generate
from specpress.drafters import Drafter, PromptLookup
from specpress.models.byte_level import byte_tokenizer
from specpress.schedules import Schedule

ROOT = Path(__file__).parents[2]
USE = {
    Drafter: lambda made: {"drafter": made(), "verification": "traversal"},
    Schedule: lambda made: {"schedule": made(), "drafter": PromptLookup()},
    ScorerPress: lambda made: {"press": made(0.5)},
}


PAGES = {
    page.name: re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Where the study has run: a target and a draft of one tokenizer."""
    folder = tmp_path_factory.mktemp("studied")
    tokenizer = byte_tokenizer()
    for path, seed in (("resources/embedded/models/target", 0), ("results/embedded/drafts/draft", 1)):
        model: LlamaForCausalLM = tiny.llama(seed=seed, vocabulary=len(tokenizer), max_position_embeddings=256)
        model.save_pretrained(folder / path)
        tokenizer.save_pretrained(folder / path)
    return folder


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_python_of_a_page_runs_as_typed(page, studied, monkeypatch):
    monkeypatch.chdir(studied)
    names, decoded = {}, 0
    for block in PAGES[page]:
        before = set(names)
        exec(compile(block, page, "exec"), names)
        for name in names.keys() - before:
            kind = next((kind for kind in USE if is_own(names[name], kind)), None)
            if kind:
                decode(USE[kind](names[name]))
                decoded += 1
    assert decoded == len(re.findall(r"^class \w+\((?!Guide\))", "\n".join(PAGES[page]), re.MULTILINE))


def is_own(value: object, kind: type) -> bool:
    """Whether a page defines it, and as one of these."""
    return isinstance(value, type) and issubclass(value, kind) and value.__module__ == "builtins"


def decode(options: dict) -> None:
    """A text with what a page defines."""
    settings = {"max_new_tokens": 12, "sampling": SamplingParams(temperature=0)}
    assert generate(tiny.llama(), tiny.prompt(20), **settings, **options).tokens.shape == (1, 12)
