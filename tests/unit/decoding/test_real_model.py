"""Greedy tokens of the real target in float32 on real prompts: those of transformers' generate, for every drafter.

Needs what `make paper` makes: the target, the trained draft and Wikipedia.
"""

from pathlib import Path

import pytest
import torch

from specpress import SamplingParams, generate, load_model
from specpress.data.documents import sample_passages
from specpress.data.store import load_documents
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.presses import get_press
from specpress.schedules import AIMD, Confidence, Constant, Heuristic, Optimal, PlusMinusOne

ROOT = Path(__file__).parents[3]
TARGET = ROOT / "resources/embedded/models/target"
DRAFT = ROOT / "results/embedded/drafts/draft"
DATA = ROOT / "resources/embedded/data/wikipedia"
NEW_TOKENS = 48

missing = [str(path.relative_to(ROOT)) for path in (TARGET, DRAFT, DATA) if not (path / "manifest.json").is_file()]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"`make paper` makes what is missing: {', '.join(missing)}"),
]

SCHEDULES = [lambda: Constant(4), AIMD, PlusMinusOne, Heuristic, Confidence, Optimal]


@pytest.fixture(scope="module")
def models():
    """Target, tokenizer and draft, in float32."""
    return (*load_model(TARGET, dtype="float32"), load_model(DRAFT, dtype="float32")[0])


@pytest.fixture(scope="module", params=[16, 300, 2000])
def case(request, models):
    """A prompt of real text, (1, n), and the tokens transformers' generate goes on with."""
    target, tokenizer, _ = models
    (passage,) = sample_passages(load_documents(DATA, "test"), tokenizer, count=1, length=request.param, seed=7)
    prompt = torch.tensor([passage.tokens])
    settings = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    out = target.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, **settings)
    return prompt, out[:, prompt.shape[1] :]


@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize("kind", ["none", "draft model", "prompt lookup", "compressed target", "cascade"])
def test_greedy_tokens_equal_transformers_generate(models, case, kind, verification):
    (target, _, draft), (prompt, expected) = models, case
    make = {
        "none": lambda: None,
        "draft model": lambda: DraftModel(draft),
        "prompt lookup": PromptLookup,
        "compressed target": lambda: CompressedTarget(get_press("streaming_llm", compression_ratio=0.5)),
        "cascade": lambda: Cascade(draft, PromptLookup()),
    }[kind]
    for schedule in SCHEDULES if kind != "none" else SCHEDULES[:1]:
        result = generate(
            target,
            prompt,
            max_new_tokens=NEW_TOKENS,
            sampling=SamplingParams(temperature=0),
            drafter=make(),
            schedule=schedule(),
            verification=verification,
        )
        assert result.tokens.tolist() == expected.tolist()
