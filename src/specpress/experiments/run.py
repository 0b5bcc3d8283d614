"""From the spec of an experiment to its metrics: the measuring itself. One module for each kind of experiment.

A kind's module has one public function, `measure(spec, assets) -> dict`. The modules are loaded by name, so that
editing one reruns the experiments of its kind and no others.
"""

import json
import time
from importlib import import_module
from pathlib import Path

from specpress.engine.forward import forward_of
from specpress.engine.graphs import captures, has_graphs, is_fused
from specpress.engine.kernels import chosen
from specpress.experiments import preflight
from specpress.experiments.assets import Assets
from specpress.files.metrics import SCHEMA
from specpress.hardware.devices import claim, resolve_device
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe, now, peak_memory_bytes
from specpress.hardware.threads import use_threads


def run(
    spec: dict,
    *,
    models: dict[str, Path],
    data: dict[str, Path],
    threads: int,
    rounding: Path | None = None,
    device: str = "auto",
    cuda_graphs: bool = True,
) -> dict:
    """Run one experiment.

    Parameters
    ----------
    spec : dict, as `specpress.study.load.load_study` expands it
    models : directory of each model and draft the spec names
    data : directory of each data set the spec names
    threads : int, threads torch may use
    rounding : the baseline's record of `specpress.experiments.rounding`; without it greedy texts are not compared
    device : "auto", "cpu", "cuda", "cuda:1", ... or "mps"
    cuda_graphs : on a GPU, run decoding steps as graphs; the environment's settings say whether they were

    Returns
    -------
    dict, the metrics: spec, environment, raw observations. What could not be measured is None, with the reason.
    "captured" says how many steps of the model ran as graphs, and whether in kernels of ours. The environment's
    "forward" says what computed the model: "specpress", its pass, or "modules", transformers' own.

    Raises
    ------
    ValueError
        Before any model is loaded: see `specpress.experiments.preflight`.
    """
    use_threads(threads)
    began, started = now(), time.perf_counter()
    where = claim(resolve_device(device))
    preflight.check(spec, models, where, data)
    record = json.loads(rounding.read_text(encoding="utf-8")) if rounding else None
    assets = Assets(models, data, where, rounding=record, graphs=cuda_graphs)
    with watch() as watched:
        measured = import_module(f"specpress.experiments.{spec['kind']}").measure(spec, assets)
    model = assets.model(spec["model"])
    graphs = has_graphs(model)
    return {
        "schema": SCHEMA,
        "id": spec["id"],
        "kind": spec["kind"],
        "spec": spec,
        "environment": describe(threads=threads, device=model.device, dtype=model.dtype, cuda_graphs=graphs)
        | {"forward": "modules" if forward_of(model) is None else "specpress"},
        "disturbance": watched.record(measured.pop("disturbed_steps", None)),
        "started": began,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(model.device)),
        "attention": chosen(),
        "captured": {"steps": captures([model]), "fused": is_fused(model)},
        **measured,
    }
