"""The drafter that README.md shows: short, lossless, and found so by the command that README.md shows."""

import importlib.util
import re
from pathlib import Path

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.certification import enumerated
from specpress.certification.certificate import fitting
from specpress.certification.small import maker
from specpress.schedules import Constant
from specpress.speculation.verification import OF_TREES, RULES

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(scope="module")
def followers(tmp_path_factory):
    code = re.search(r"```python\n# my_drafters.py\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 30
    path = tmp_path_factory.mktemp("own") / "my_drafters.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("my_drafters", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Followers


def test_it_is_lossless(followers):
    assert fitting(followers) == OF_TREES
    found = enumerated.certify(lambda family: maker(followers, family), RULES["traversal"])
    assert found.broken is None


def test_it_proposes_trees_and_leaves_the_text_as_it_is(followers):
    proposal = followers().propose(torch.tensor([5, 6, 7, 5, 8, 5]), 4, None)
    assert proposal.tokens.tolist() == [8, 6, 5, 7]
    assert proposal.parents == [-1, -1, 0, 1]
    target, prompt = tiny.llama(), tiny.prompt(20)
    settings = {"max_new_tokens": 40, "sampling": SamplingParams(temperature=0)}
    found = generate(target, prompt, drafter=followers(), schedule=Constant(8), verification="traversal", **settings)
    assert torch.equal(found.tokens, generate(target, prompt, **settings).tokens)
    assert found.trace.tested()[0] > 0
