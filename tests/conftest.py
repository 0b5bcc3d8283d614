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


def pytest_collection_modifyitems(config, items):
    """Tests that need a GPU say that they were not run, and why."""
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
