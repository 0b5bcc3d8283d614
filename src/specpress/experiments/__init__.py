"""From the spec of an experiment to its metrics: the measuring itself. One module for each kind of experiment.

A kind's module has one public function, `measure(spec, assets) -> dict`. The modules are loaded by name, so that
editing one reruns the experiments of its kind and no others.
"""

import time
from importlib import import_module
from pathlib import Path

import torch

from specpress.environment import describe, peak_memory_bytes
from specpress.experiments.assets import Assets

SCHEMA = 1


def run(spec: dict, *, models: dict[str, Path], data: dict[str, Path], threads: int) -> dict:
    """Run one experiment.

    Parameters
    ----------
    spec : dict, as `specpress.study.load_study` expands it
    models : directory of each model and draft the spec names
    data : directory of each data set the spec names
    threads : int, threads torch may use

    Returns
    -------
    dict, the metrics: spec, environment, raw observations. What could not be measured is None, with the reason.
    """
    torch.set_num_threads(threads)
    started = time.perf_counter()
    assets = Assets(models, data)
    measured = import_module(f"specpress.experiments.{spec['kind']}").measure(spec, assets)
    model = assets.model(spec["model"])
    device, dtype = str(model.device), str(model.dtype).removeprefix("torch.")
    return {
        "schema": SCHEMA,
        "id": spec["id"],
        "kind": spec["kind"],
        "spec": spec,
        "environment": describe(threads=threads, device=device, dtype=dtype),
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        **measured,
    }
