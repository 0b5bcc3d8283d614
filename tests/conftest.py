"""Nothing a test draws or waits for depends on chance, on the machine's speed or on an earlier run.

Tests run on the CPU on every machine: GPUs are hidden from them, except where those of tests/gpu are asked for
(`pytest -m gpu`, `make test-gpu`), which need one.
"""

import os

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure(config):
    """Before torch is imported: afterwards hiding a GPU has no effect."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# The files that take longest, which begin first: with `--dist loadfile` a file is one process's, and one that is long
# and last would keep the others waiting.
LONGEST = (
    *("test_hub_study", "test_tiny_study", "test_accidents", "test_model_study", "test_lossless", "test_reruns"),
    *("test_faults", "test_report", "test_real_model", "test_lossless_fusion", "test_decoding", "test_experiments"),
    *("test_paper", "test_checkout", "test_batches"),
)


def pytest_collection_modifyitems(config, items):
    """The longest files come first. Tests that need a GPU say that they were not run, and why."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    if config.option.markexpr == "gpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU, which is hidden from other tests: make test-gpu"))


# The examples follow from the test itself, so a run finds what every other run finds; how long one takes is not judged.
settings.register_profile(
    "specpress", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("specpress")
