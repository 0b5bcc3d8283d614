import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from specpress.engine.graphs import MAX_QUERIES
from specpress.models.build import random_model
from specpress.models.save import save_model
from specpress.study.estimates import (
    BANDWIDTH_SHARE,
    COMPUTE_SHARE,
    EAGER_LAYER_MS,
    GPUS,
    GRAPHED_QUERIES,
    LAYER_MS,
    START_SECONDS,
    Machine,
    Model,
    jobs,
    machine,
    models,
    step_ms,
    trainings,
)
from specpress.study.expansion import models_of
from specpress.study.load import load_study
from specpress.study.plan import report
from specpress.theory.shapes import stated_shape

ROOT = Path(__file__).parents[3]
PYTHIA = yaml.safe_load((ROOT / "config" / "pythia.yaml").read_text())
TINY = yaml.safe_load((ROOT / "tests" / "study.yaml").read_text())
ONE = Machine("one", 10e9, 1000, 100)  # 1 TB/s, 100 TFLOP/s


@pytest.fixture
def pythia():
    return load_study(PYTHIA)


def test_a_step_at_batch_1_reads_the_weights_and_the_cache(pythia):
    target = models(pythia)["target"]
    read = 2 * (2_775_208_960 - 2560 * 50304 - 2 * 2560) + 1000 * 320 * 1024  # all but input embeddings and last norm
    assert step_ms(target, ONE, slots=1000) == pytest.approx(read / (1e9 * BANDWIDTH_SHARE) + 32 * LAYER_MS)


def test_a_prefill_computes(pythia):
    target = models(pythia)["target"]
    operations = 2 * 4096 * target.shape.read_parameters
    assert step_ms(target, ONE, queries=4096) == pytest.approx(
        operations / (1e11 * COMPUTE_SHARE) + 32 * EAGER_LAYER_MS
    )


def test_a_better_gpu_is_never_slower(pythia):
    for slow, fast in (("t4", "a100-40gb"), ("a100-40gb", "h100")):
        for before, after in zip(jobs(pythia, machine(slow)), jobs(pythia, machine(fast)), strict=True):
            assert after.hours <= before.hours
            assert after.hours < before.hours or after.kind in ("speed", "chain")  # these may spend their budget
            assert after.memory_bytes == before.memory_bytes


def test_every_experiment_of_every_study_is_planned(pythia):
    for study in (pythia, load_study(TINY)):
        planned = jobs(study, machine("a100-40gb"))
        assert [job.name for job in planned] == list(study.experiments)
        assert all(0 < job.hours < 24 and job.memory_bytes > 0 for job in planned)


@pytest.fixture
def with_draft():
    """The Pythia study with a draft trained from its target: 3 layers, 8000 tokens in its head."""
    text = {"source": {"kind": "path", "path": "prose.txt"}, "reader": "text", "test_fraction": 0.5}
    drafts = {"trained": {"target": "target", "data": ["prose"], "tokens": 10**9, "sequence": 1000, "batch": 100}}
    return load_study({**PYTHIA, "data": {**PYTHIA["data"], "prose": text}, "drafts": drafts})


def test_training_a_draft_takes_six_operations_a_trained_parameter_and_token(with_draft):
    (job,) = trainings(with_draft, ONE)
    trained = 3 * (12 * 2560**2 + 13 * 2560) + 8000 * 2560
    arithmetic = 6 * trained * 1e9 / (100e12 * COMPUTE_SHARE)
    seconds = job.hours * 3600 - START_SECONDS - 2 * 2_775_208_960 / 1e9
    assert arithmetic < seconds < 1.01 * arithmetic  # the rest: it is judged
    embeddings = 50304 * 2560
    assert job.memory_bytes > 2 * 2_775_208_960 + 16 * trained + 4 * embeddings


def test_a_draft_that_learns_from_its_target_waits_for_it(with_draft):
    def hours(**changes):
        with_draft.drafts["trained"] |= changes
        return trainings(with_draft, ONE)[0].hours

    alone, heard = hours(passes=4), hours(objective="forward_kl")
    assert heard - alone > 2 * 2_648_000_000 * 10**9 / 4 / 100e12 / 3600  # its operations at the machine's best
    written = hours(own_text=0.5)
    assert written > heard
    assert hours(passes=8) < written


def test_short_steps_of_training_wait_for_their_kernels(with_draft):
    with_draft.drafts["trained"] |= {"tokens": 10**6, "sequence": 10, "batch": 1}
    (job,) = trainings(with_draft, ONE)
    assert job.hours * 3600 > 10**5 * 3 * 3 * EAGER_LAYER_MS / 1e3


def test_the_report_counts_the_drafts(with_draft, pythia):
    text = report(with_draft, machine("a100-40gb"))
    (row,) = (line for line in text.splitlines() if "training" in line.split())
    hours = float(row.split()[-2])
    assert hours > 0
    assert f"{hours:.1f} hours before that to train drafts" in text
    assert "1 draft to train" in text
    text = report(pythia, machine("a100-40gb"))
    assert "no draft to train" in text
    assert "none for training" in text


def test_the_report_says_what_fits(pythia):
    text = report(pythia, machine("a100-40gb"))
    assert "2775.2 M" in text
    assert "320.0 KiB" in text
    assert "download: 6.79 GB" in text
    assert "fits: everything" in text
    small = report(pythia, Machine("small", 6e9, 300, 50))
    assert "fits: all but" in small
    assert any(line.startswith("perplexity-knorm") and line.endswith("NO") for line in small.splitlines())


def test_an_unknown_shape_is_said_and_not_guessed():
    study = {**PYTHIA, "models": {**PYTHIA["models"], "draft": {"source": PYTHIA["models"]["draft"]["source"]}}}
    text = report(load_study(study), machine("h100"))
    assert "unknown: state its shape" in text
    assert "unknown: state download_mb" in text
    with_draft = sum("draft" in models_of(spec) for spec in load_study(study).experiments.values())
    assert f"unknown: {with_draft} jobs" in text


def test_a_models_own_folder_states_its_shape(tmp_path):
    model, tokenizer = random_model({"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "seed": 0})
    save_model(model, tokenizer, tmp_path / "own", {})
    study = {**TINY, "models": {**TINY["models"], "llama": {"source": {"kind": "path", "path": str(tmp_path / "own")}}}}
    known = models(load_study(study))
    assert known["llama"].shape.parameters == model.num_parameters()
    assert known["draft"].shape.layers == 1
    assert known["draft"].shape.head_rows == 64


def test_an_unknown_gpu_names_the_known():
    with pytest.raises(ValueError, match="unknown GPU 'tpu'; known: t4, v100"):
        machine("tpu")


def test_the_command_prints_the_plan_with_neither_torch_nor_network():
    code = (
        "import runpy, socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        f"sys.argv = ['plan', '--study', {str(ROOT / 'config/pythia.yaml')!r}]\n"
        f"runpy.run_path({str(ROOT / 'scripts/plan_study.py')!r}, run_name='__main__')\n"
        "assert not {'torch', 'pandas', 'huggingface_hub'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Study pythia on one a100-40gb" in done.stdout


def test_every_gpu_has_plausible_numbers():
    for name, (memory, gb_s, tflops) in GPUS.items():
        assert 8 <= memory <= 200, name
        assert 200 <= gb_s <= 10_000, name
        assert 20 <= tflops <= 5000, name


def test_few_tokens_are_a_graph_where_there_are_graphs():
    assert GRAPHED_QUERIES == MAX_QUERIES
    shape = {"architecture": "gpt_neox", "hidden_size": 64, "layers": 4, "heads": 4, "vocabulary": 99}
    target = Model(stated_shape(shape), "float16")
    graphed, eager = machine("h100"), machine("h100", graphs=False)
    saved = 4 * (EAGER_LAYER_MS - LAYER_MS)
    assert step_ms(target, eager, queries=17) - step_ms(target, graphed, queries=17) == pytest.approx(saved)
    assert step_ms(target, eager, queries=18) == step_ms(target, graphed, queries=18)
