"""The losslessness check: calibrated on the model's own rounding, and able to find an engine that differs."""

import json

import pytest
import torch
from tiny import llama

from specpress.data.documents import Document
from specpress.data.store import save_split
from specpress.experiments.assets import Assets
from specpress.experiments.duels.lossless import Pair, check
from specpress.experiments.oracle import logits
from specpress.experiments.rounding import ROWS, TEXTS, calibrate, errors
from specpress.experiments.run import run
from specpress.models.build import random_model
from specpress.models.save import save_model

SPEC = {"id": "rounding-target", "kind": "rounding", "model": "target"}
GREEDY = {"kind": "speed", "baseline": "target", "model": "target", "sampling": {"name": "greedy", "temperature": 0}}


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A model in bfloat16 whose logits depend on the whole context, and a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "target"
    source = {"kind": "random", "architecture": "llama", "hidden_size": 48, "layers": 2, "heads": 6, "seed": 0}
    _, tokenizer = random_model(source, dtype=torch.bfloat16)
    save_model(llama(vocabulary=len(tokenizer)).to(torch.bfloat16), tokenizer, folder, {"source": source})
    return folder


@pytest.fixture(scope="module")
def record(target):
    return calibrate(SPEC, target, threads=1, device="cpu")


@pytest.fixture(scope="module")
def assets(target, record):
    return Assets({"target": target}, {}, "cpu", rounding=record)


def test_a_record_has_an_error_for_every_row_and_allows_the_largest(record):
    assert record["formats"] == ["bfloat16", "float32"]
    assert {together: len(found) for together, found in record["errors"].items()} == {
        str(together): TEXTS * rows for together, rows in ROWS.items()
    }
    assert all(TEXTS * rows >= 200 for rows in ROWS.values())
    largest = max(max(found) for found in record["errors"].values())
    assert record["allowed"] == largest > 1e-3  # bfloat16 has eight bits
    assert largest < 1
    json.dumps(record, allow_nan=False)


def test_rows_of_the_engine_and_of_the_oracle_are_the_same_rows(target, record):
    """Were they shifted by one, the differences would be those of other tokens, far larger than rounding."""
    for found in record["errors"].values():
        assert sorted(found)[len(found) // 2] < 0.05


def test_the_error_is_that_of_the_difference_of_the_two_largest():
    exact = torch.tensor([[5.0, 1.0, 4.0], [0.0, 2.0, 3.0]], dtype=torch.float64)
    off = torch.tensor([[0.25, 9.0, -0.25], [9.0, 0.5, 0.5]])
    assert errors(exact + off, exact) == pytest.approx([0.5, 0.0])


def _near_and_far(assets):
    """A prompt, and the tokens whose logits come first, second and last after it, by the oracle."""
    from specpress.experiments.oracle import load_oracle

    prompt = [3, 9, 27, 15, 6]
    oracle = load_oracle(assets.folder("target"), torch.bfloat16, torch.device("cpu"))
    row = logits(oracle, torch.tensor([prompt]))[-1]
    order = row.argsort(descending=True).tolist()
    return prompt, order, row


def test_a_difference_within_the_error_of_rounding_is_explained_and_one_beyond_is_not(assets, record):
    prompt, order, row = _near_and_far(assets)
    gap = float(row[order[0]] - row[order[1]])
    pair = Pair(4, 0, prompt, [order[0], 7], [order[1], 7])
    for allowed, verdict in ((gap + 1e-3, "explained"), (gap - 1e-3, "unexplained")):
        assets.rounding = {**record, "allowed": allowed}
        found = check(GREEDY, assets, [pair, Pair(5, 0, prompt, [1], [1])])
        assert (found["compared"], found["equal"], found[verdict]) == (2, 1, 1)
        (difference,) = found["differences"]
        assert difference["verdict"] == verdict
        assert (difference["prompt"], difference["place"], difference["tokens"]) == (4, 0, order[:2])
        assert difference["gaps"]["float32"] == pytest.approx(gap, abs=1e-4)
        assert difference["gaps"]["bfloat16"] == pytest.approx(gap, abs=0.2)
        assert difference["texts"] == [assets.tokenizer("target").decode([token]) for token in order[:2]]
    assets.rounding = record


def test_the_place_is_the_first_that_differs_and_its_prefix_the_text_before(assets, record):
    """The same wrong token is explained or not by what stands before it."""
    prompt, order, _ = _near_and_far(assets)
    found = check(GREEDY, assets, [Pair(0, 1, prompt[:-2], [*prompt[-2:], order[0]], [*prompt[-2:], order[-1]])])
    (difference,) = found["differences"]
    assert (difference["row"], difference["place"], difference["verdict"]) == (1, 2, "unexplained")
    assert difference["gaps"]["float32"] > record["allowed"]


def test_a_text_that_ends_early_is_not_explained(assets):
    found = check(GREEDY, assets, [Pair(0, 0, [3, 9], [5, 6], [5])])
    assert found["unexplained"] == 1
    assert found["differences"][0]["tokens"] == [6, None]


def test_without_a_record_of_rounding_nothing_is_compared(target):
    found = check(GREEDY, Assets({"target": target}, {}, "cpu"), [Pair(0, 0, [3], [5], [6])])
    assert found["compared"] is None
    assert "calibrate_rounding" in found["why"]


@pytest.fixture
def experiment(target, record, tmp_path):
    """A greedy experiment on the target, as a function of its drafter."""
    documents = [Document(str(i), f"Words {i}", f"The words of text {i}. " * 40) for i in range(12)]
    save_split(tmp_path / "words", documents, 0.5, {"source": {"kind": "path"}})
    (tmp_path / "rounding.json").write_text(json.dumps(record))
    spec = {
        **GREEDY, "id": "greedy", "data": "words", "least_prompts": 4, "most_prompts": 4, "precision": 0.9,
        "budget_seconds": 1, "prompt_tokens": 12, "max_new_tokens": 24, "seed": 0, "verification": "token",
    }  # fmt: skip
    places = {"models": {"target": target}, "data": {"words": tmp_path / "words"}, "threads": 1}

    def greedy(**drafter):
        return run({**spec, **drafter}, **places, rounding=tmp_path / "rounding.json")["lossless"]

    return greedy


LOOKUP = {"drafter": {"name": "prompt_lookup"}, "schedule": {"name": "constant", "gamma": 4}}


def test_the_engine_is_found_lossless(experiment):
    found = experiment(**LOOKUP)
    assert found["compared"] in (3, 4)  # of four prompts three are duelled at least
    assert found["unexplained"] == 0


def test_a_biased_verification_is_found_out(experiment, monkeypatch):
    """Negative control: every draft is kept."""
    from specpress.speculation.verification import Verdict

    def keep_all(method, target, draft, drafted, randomness, tree):
        return Verdict(range(len(drafted)), int(target[-1].tokens[target[-1].mass.argmax()]))

    monkeypatch.setattr("specpress.speculation.rounds.verify", keep_all)
    assert experiment(**LOOKUP)["unexplained"] > 0


def test_nudged_weights_are_found_out(assets, record):
    """Negative control: a model whose weights are off by a fifth of their size writes other texts."""
    from specpress import SamplingParams, generate

    model = assets.model("target")
    prompts = torch.randint(2, 48, (8, 12), generator=torch.Generator().manual_seed(3))
    wrong = llama(vocabulary=model.config.vocab_size).to(torch.bfloat16)
    torch.manual_seed(5)
    for parameter in wrong.parameters():
        parameter.data += 0.2 * parameter.data.std() * torch.randn_like(parameter)
    pairs = []
    for number, prompt in enumerate(prompts):
        how = {"max_new_tokens": 16, "sampling": SamplingParams(temperature=0)}
        texts = [generate(each, prompt[None], **how).tokens[0].tolist() for each in (model, wrong)]
        pairs.append(Pair(number, 0, prompt.tolist(), *texts))
    assert check(GREEDY, assets, pairs)["unexplained"] > 0
