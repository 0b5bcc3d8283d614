"""The public names, signatures and return types that users' code relies on."""

import dataclasses
import inspect

import pytest
import tiny
import torch

import specpress
from specpress import SamplingParams, drafters, generate, load_model, perplexity, presses, schedules
from specpress.drafters import (
    Cascade,
    CompressedTarget,
    DraftModel,
    Mixture,
    PromptLookup,
    Proposal,
    QuantizedTarget,
    SuffixLookup,
    TokenRecycling,
)
from specpress.presses import Compression, get_press, list_presses
from specpress.schedules import AIMD, Confidence, Constant, Heuristic, Optimal, OptimalTree, PlusMinusOne
from specpress.speculation.verification import METHODS


def signature(function):
    return {name: (p.kind, p.default) for name, p in inspect.signature(function).parameters.items()}


POSITIONAL, KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
REQUIRED = inspect.Parameter.empty


def test_public_names():
    assert set(specpress.__all__) == {
        "generate", "Generation", "SamplingParams", "load_model", "perplexity", "Perplexity"
    }  # fmt: skip
    assert set(drafters.__all__) == {
        "Cascade", "CompressedTarget", "DraftModel", "Drafter", "FeatureHead", "Mixture", "PromptLookup", "Proposal",
        "QuantizedTarget", "Successors", "SuffixAutomaton", "SuffixLookup", "TokenRecycling",
    }  # fmt: skip
    assert set(schedules.__all__) == {
        "AIMD", "Confidence", "Constant", "Heuristic", "Iteration", "Optimal", "OptimalTree", "PlusMinusOne", "Schedule"
    }  # fmt: skip
    assert set(presses.__all__) == {"Compression", "get_press", "list_presses", "press_lines"}
    assert METHODS == ("token", "block", "traversal", "recursive")
    assert Proposal._fields == ("tokens", "laws", "parents")
    for module in (specpress, drafters, schedules, presses):
        assert all(hasattr(module, name) for name in module.__all__)


def test_generate():
    expected = {
        "model": (POSITIONAL, REQUIRED),
        "input_ids": (POSITIONAL, REQUIRED),
        "max_new_tokens": (KEYWORD, REQUIRED),
        "sampling": (KEYWORD, SamplingParams()),
        "drafter": (KEYWORD, None),
        "schedule": (KEYWORD, None),
        "verification": (KEYWORD, "token"),
        "press": (KEYWORD, None),
        "cache_budget": (KEYWORD, None),
        "compression_interval": (KEYWORD, None),
        "eos_token_id": (KEYWORD, None),
        "attention_mask": (KEYWORD, None),
    }
    found = signature(generate)
    assert expected.items() <= found.items()
    assert found.keys() - expected.keys() == {"on_tokens"}


def test_generation():
    drafter = DraftModel(tiny.llama(1, seed=1))
    generation = generate(tiny.llama(), tiny.prompt(6), max_new_tokens=9, drafter=drafter, schedule=Constant(3))
    assert generation.tokens.shape == (1, 9)
    assert generation.tokens.dtype == torch.long
    names = {"ttft_s", "tpot_ms", "tokens_per_s", "acceptance_rate", "tokens_per_iteration", "kv_bytes"}
    assert names <= generation.metrics().keys()
    for iteration in generation.trace.iterations:
        assert iteration.accepted <= iteration.proposed <= iteration.gamma
        assert iteration.seconds > 0
        assert iteration.slots > 0


def test_perplexity():
    expected = {"context": (KEYWORD, REQUIRED)} | dict.fromkeys(
        ("press", "cache_budget", "compression_interval"), (KEYWORD, None)
    )
    assert expected.items() <= signature(perplexity).items()
    result = perplexity(tiny.llama(), tiny.prompt(40), context=20)
    assert result.n_tokens == 19
    assert result.ppl > 1


def test_load_model():
    assert signature(load_model) == {
        "path_or_repo": (POSITIONAL, REQUIRED),
        "dtype": (KEYWORD, "auto"),
        "device": (KEYWORD, "auto"),
        "weights": (KEYWORD, None),
    }


def test_sampling_params_defaults():
    assert dataclasses.asdict(SamplingParams()) == {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 0}


@pytest.mark.parametrize(
    ("build", "defaults"),
    [
        (PromptLookup, {"max_ngram": 3}),
        (DraftModel, {"press": None, "children": 1, "likely": False}),
        (CompressedTarget, {"interval": None}),
        (QuantizedTarget, {"bits": 4, "group": 32, "symmetric": False}),
        (Mixture, {"nodes": 12, "gamma": 4, "shape": "best"}),
        (SuffixLookup, {"nodes": 8, "corpus": None}),
        (TokenRecycling, {"k": 8, "nodes": 8, "warm": None, "shape": "best"}),
        (PlusMinusOne, {"initial": 4, "floor": 2, "cap": 16}),
        (OptimalTree, {"cap": 16, "row_cost": 0.02}),
        (Compression, {"press": None, "cache_budget": None, "compression_interval": None}),
        (Constant, {"gamma": 4}),
        (Cascade, {"gamma": 4, "rounds": 4}),
        (AIMD, {"initial": 4, "floor": 4, "cap": None}),
        (Heuristic, {"initial": 5}),
        (Confidence, {"threshold": 0.4, "cap": 20}),
        (Optimal, {"cap": 16}),
        (get_press, {"compression_ratio": 0.0}),
    ],
)
def test_defaults(build, defaults):
    found = signature(build)
    assert {name: found[name][1] for name in defaults} == defaults


@pytest.mark.parametrize("build", [DraftModel, CompressedTarget, Constant])
def test_one_argument_is_enough(build):
    assert [name for name, (_, default) in signature(build).items() if default is REQUIRED][1:] == []


def test_presses_have_snake_case_names():
    assert {"knorm", "streaming_llm"} <= set(list_presses())


def test_unknown_public_names_are_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"it offers .*generate"):
        specpress.generat  # noqa: B018
