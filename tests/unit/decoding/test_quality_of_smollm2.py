"""Perplexities of the downloaded model, against what is known of them."""

import pytest

from specpress.presses import Compression, get_press
from specpress.study.source_code import ROOT

MODEL, DATA = (ROOT / "resources" / "embedded" / part for part in ("models/target", "data/wikipedia"))
CONTEXT, SCORE, RATIOS = 1024, 256, (0.0, 0.3, 0.5, 0.7, 0.9)


def passages(tokenizer, count):
    import torch

    from specpress.data.documents import sample_passages
    from specpress.data.store import load_documents

    found = sample_passages(load_documents(DATA, "test"), tokenizer, count=count, length=CONTEXT + SCORE, seed=0)
    return [torch.tensor([passage.tokens]) for passage in found]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["streaming_llm", "snapkv"])
@pytest.mark.parametrize("budgeted", [False, True], ids=["once", "decoding"])
def test_perplexity_starts_at_the_models_and_grows_with_what_is_removed(name, budgeted):
    if not (MODEL / "manifest.json").exists():
        pytest.skip("needs the embedded study's model and data: make paper")
    from specpress import load_model
    from specpress.decoding.perplexity import perplexities

    model, tokenizer = load_model(MODEL)
    budgets = [int(CONTEXT * (1 - ratio)) if budgeted and ratio else None for ratio in RATIOS]
    settings = [Compression()] + [
        Compression(get_press(name, compression_ratio=ratio), budget)
        for ratio, budget in zip(RATIOS, budgets, strict=True)
    ]
    nll = [0.0] * len(settings)
    for tokens in passages(tokenizer, count=3):
        for index, result in enumerate(perplexities(model, tokens, context=CONTEXT, settings=settings)):
            nll[index] += result.nll / result.n_tokens / 3
    assert nll[0] == nll[1]
    assert all(value > nll[0] - 0.01 for value in nll)  # never better than the whole cache, beyond noise
    assert nll[-1] > nll[0] + 0.02
    if name == "streaming_llm":
        assert nll[1:] == sorted(nll[1:])
