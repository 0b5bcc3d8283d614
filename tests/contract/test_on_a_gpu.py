"""Every kind of job of the tiny study on a pretended GPU: nothing mixes what lies there with what lies on the host.

Certification has models of its own, which are on the host everywhere.
"""

import json
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from pretended_gpu import GPU, OnGpu, TwoDevices, pretended_gpu

from specpress.data.prompt_files import read_questions
from specpress.data.questions import joined, save_questions
from specpress.data.readers import read
from specpress.data.store import save_split
from specpress.decoding.generate import generate
from specpress.drafters import (
    Cascade,
    CompressedTarget,
    DraftModel,
    FeatureHead,
    Mixture,
    PromptLookup,
    SuffixLookup,
    TokenRecycling,
)
from specpress.engine import kernels
from specpress.experiments import machine
from specpress.experiments.duels import contest
from specpress.experiments.press_survey import example
from specpress.experiments.rounding import calibrate
from specpress.experiments.run import run
from specpress.laws.sampling import SamplingParams
from specpress.models.config import read_config
from specpress.models.prepare import prepare
from specpress.presses import get_press
from specpress.schedules.base import Constant
from specpress.study.abilities import ABILITIES, EVICTS, REFUSED, Ability
from specpress.study.draft_config import DraftConfig
from specpress.study.expansion import data_of, models_of
from specpress.study.load import load_study
from specpress.study.registry import PRESSES
from specpress.training.train import train_draft

TESTS = Path(__file__).parents[1]
FEWER = {  # what the study asks for, as little of it as every kind takes
    "speed": {"least_prompts": 1, "most_prompts": 1, "max_new_tokens": 6},
    "chain": {"least_prompts": 1, "most_prompts": 1, "max_new_tokens": 6},
    "perplexity": {"passages": 1},
    "tasks": {"samples": 2, "batch": 2, "modes": ["aware"]},
    "regime": {"repeats": 1, "contexts": [48]},
}
ALIKE = ("speculative-gamma1-sampled", "speculative-gamma1-greedy", "speculative-gamma3-greedy", "tree-greedy")
SHORTER = {"tokens": 256, "sequence": 32, "batch": 4, "evaluation": 64}  # trainings
ABLE = {name: ABILITIES.get(name, Ability()).status for name in PRESSES}  # what each press can do
STUDY = load_study(yaml.safe_load((TESTS / "study.yaml").read_text()))


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    with pretended_gpu(tmp_path_factory.mktemp("locks")) as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "_NO_MATTER", 1e9)  # the time of a step is the wrappers'
        patch.setattr(kernels, "_chosen", {})
        yield device


@pytest.fixture(scope="module")
def places(gpu, tmp_path_factory):
    """The study's models, data sets, drafts and rounding errors, all made on the GPU."""
    folder = tmp_path_factory.mktemp("study")
    models, data = {}, {}
    for name, entry in STUDY.models.items():
        prepare(entry["source"], folder / name, dtype=entry["dtype"])
        models[name] = folder / name
    documents = read("text", TESTS / "data" / "logbook.txt", document_characters=2000)
    save_split(folder / "logbook", documents, 0.4, {"source": {"kind": "path"}})
    questions = joined({"tasks": read_questions(TESTS / "data" / "questions.jsonl")})
    save_questions(folder / "questions", questions, {"source": {"kind": "path"}})
    data = {name: folder / name for name in ("logbook", "questions")}
    for name, draft in STUDY.drafts.items():
        config = DraftConfig.from_spec({**draft, "name": name, **SHORTER})
        target, texts = models[config.target], {each: data[each] for each in config.data}
        metrics = train_draft(config, target, texts, folder / name, threads=1, progress=False)
        assert metrics["environment"]["device"] == "cuda"
        models[name] = folder / name
    return {"models": models, "data": data}


@pytest.fixture(scope="module")
def rounding(places, tmp_path_factory):
    file = tmp_path_factory.mktemp("rounding") / "llama.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specpress.experiments.rounding.TEXTS", 1)
        record = calibrate({"id": "rounding", "model": "llama"}, places["models"]["llama"], threads=1)
    assert record["environment"]["settings"]["cuda_graphs"] is True
    assert record["allowed"] < 1e-3  # float32
    file.write_text(json.dumps(record))
    return file


@pytest.mark.parametrize("name", [name for name in STUDY.experiments if name not in ALIKE])
def test_an_experiment(name, places, rounding):
    spec = STUDY.experiments[name]
    fewer = {} if "cache_budget" in spec else FEWER[spec["kind"]]  # a compression takes its time to come
    spec = spec | {key: value for key, value in fewer.items() if key in spec}
    if spec["kind"] == "chain":  # weights in four bits have kernels on a CPU only
        spec["steps"] = [s for s in spec["steps"] if s.get("drafter", {}).get("name") != "quantized_target"]
    models = {each: places["models"][each] for each in models_of(spec)}
    data = {each: places["data"][each] for each in data_of(spec)}
    metrics = run(spec, models=models, data=data, threads=1, rounding=rounding)
    assert metrics["environment"]["device"] == "cuda"
    if metrics.get("lossless", {}).get("compared"):
        assert metrics["lossless"]["unexplained"] == 0


def test_what_has_kernels_for_a_cpu_only_is_refused_before_a_model_is_loaded(places):
    models, data = places["models"], {"logbook": places["data"]["logbook"]}
    with pytest.raises(ValueError, match="quantized_target runs on a CPU only, not on cuda"):
        run(STUDY.experiments["from-uncached-to-cached"], models=models, data=data, threads=1)


def test_the_machine(places, monkeypatch):
    for name, value in {"_SECONDS": 0, "_COLD_BYTES": 2**16, "_GPU_COPY_BYTES": 2**16, "_GPU_SQUARE": 64}.items():
        monkeypatch.setattr(machine, name, value)
    monkeypatch.setattr(machine, "_SLOTS", 32)
    config = read_config(places["models"]["llama"])
    record = machine.measure({"id": "machine"}, config, dtype=torch.float32, device=GPU, threads=1)
    assert record["environment"]["device"] == "cuda"
    assert record["gflops"] > 0


def test_the_instrument(gpu):
    """What CUDA takes, and what it refuses."""
    there, here = torch.arange(3, device=gpu), torch.arange(3)
    assert isinstance(there + 1, OnGpu)
    assert (there + torch.tensor(1)).tolist() == there[here + 0][[0, 1, 2]].add(1).tolist() == [1, 2, 3]
    there[here[:1]] = 5
    assert here.copy_(there).tolist() == there.cpu().tolist() == [5, 1, 2]
    assert there.to("cuda") is there
    for mix in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: here[there],
        lambda: there.index_select(0, torch.tensor(0)),
        lambda: torch.rand(2, device=gpu, generator=torch.Generator()),
        lambda: torch.nn.Linear(3, 3).to(gpu)(here.float()),
    ):
        with pytest.raises(TwoDevices):
            mix()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


def _part(where: torch.device) -> torch.nn.Module:
    """A draft model with a head over part of the vocabulary."""
    made = tiny.with_subset_head(tiny.llama(1, seed=1), 30).to(where)
    made.head_token_ids = made.head_token_ids.to(where)  # a buffer, where a model was loaded
    return made


def _press():
    return get_press("knorm", compression_ratio=0.5)


# What the tiny study has not: batches, whose rows draft each on its own, and trees of one model.
DRAFTERS = {
    "a tree": (1, lambda small, part: DraftModel(small, children=2)),
    "trees": (2, lambda small, part: DraftModel(small, children=2)),
    "part of the vocabulary": (2, lambda small, part: DraftModel(part)),
    "compressed again": (1, lambda small, part: CompressedTarget(_press(), interval=2)),
    "a cascade": (2, lambda small, part: Cascade(small, PromptLookup())),
    "a cascade of a head": (1, lambda small, part: Cascade(small, FeatureHead(tiny.feature_head(small, (1,)).to(GPU)))),
    "a mixture": (2, lambda small, part: Mixture([SuffixLookup(), TokenRecycling(), DraftModel(small)])),
}


@pytest.mark.parametrize("name", DRAFTERS)
def test_texts_are_those_of_the_host(name, gpu):
    """Greedy texts of rows that differ in length, which no drafter may change."""
    batch, make = DRAFTERS[name]
    prompt, mask = tiny.prompt(12, batch=batch), torch.ones(batch, 12, dtype=torch.long)
    mask[1:, :3] = 0
    drafter = make(tiny.llama(1, seed=1).to(gpu), _part(gpu))
    how = {"max_new_tokens": 7, "sampling": SamplingParams(temperature=0), "attention_mask": mask}
    rule = {"verification": "traversal"} if drafter.branches else {}
    found = generate(tiny.llama().to(gpu), prompt, drafter=drafter, schedule=Constant(3), **rule, **how)
    assert found.tokens.tolist() == generate(tiny.llama(), prompt, **how).tokens.tolist()


@pytest.mark.parametrize("name", [name for name, status in ABLE.items() if status != REFUSED])
def test_a_press(name, gpu):
    """A prompt is compressed to the same slots as on the host, again while decoding where it can be."""
    found = []
    for where in (gpu, "cpu"):
        again = {"cache_budget": 20, "compression_interval": 1} if ABLE[name] == EVICTS else {}
        how = {"max_new_tokens": 3, "sampling": SamplingParams(temperature=0), "press": example(name)}
        found.append(generate(tiny.llama().to(where), tiny.prompt(40), **how, **again))
    assert found[0].trace.layer_slots == found[1].trace.layer_slots
    assert found[0].tokens.tolist() == found[1].tokens.tolist()
