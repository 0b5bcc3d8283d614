"""The tiny study as other machines take it."""

from pathlib import Path

import yaml


def of_a_gpu() -> dict:
    """The tiny study for a CUDA device: without the step of its chain whose drafter has kernels for a CPU alone."""
    study = yaml.safe_load((Path(__file__).parent / "study.yaml").read_text()) | {"device": "cuda"}
    for experiment in study["experiments"]:
        if experiment["kind"] == "chain":
            experiment["steps"] = [step for step in experiment["steps"] if step["name"] != "four-bits"]
    return study
