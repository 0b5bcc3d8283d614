"""What a study takes, before anything is downloaded: jobs, bytes, disk, memory and hours on a named GPU."""

from collections.abc import Mapping

from specpress.study import estimates
from specpress.study.estimates import Job, Machine, Model, jobs, models, trainings
from specpress.study.load import Study
from specpress.study.memory import gigabytes

DOWNLOAD_MB_S = 50
RESULTS_BYTES = 200e6  # metrics, figures, paper


def report(study: Study, on: Machine) -> str:
    """The plan as text: models, jobs, totals, and what does not fit."""
    known, trained, planned = models(study), trainings(study, on), jobs(study, on)
    sections = [
        f"Study {study.name} on one {on.name}: {on.memory_bytes / 1e9:.0f} GB, {on.gb_s} GB/s, {on.tflops} TFLOP/s",
        _table(["model", "parameters", "weights", "KV cache a token", "download"], _model_rows(study, known)),
        _table(["data", "download"], [[name, _download(entry)] for name, entry in study.data.items()]),
        _table(["job", "kind", "GPU memory", "hours", "fits"], [_job_row(job, on) for job in [*trained, *planned]]),
        _totals(study, known, trained, planned, on),
    ]
    return "\n\n".join(sections)


def _model_rows(study: Study, known: Mapping[str, Model | None]) -> list[list[str]]:
    rows = []
    for name, model in known.items():
        where = _download(study.models[name]) if name in study.models else "trained here"
        if model is None:
            rows.append([name, "unknown: state its shape", "", "", where])
            continue
        size = model.size
        parameters = f"{model.shape.parameters / 1e6:.1f} M"
        per_token = f"{size['kv_bytes_per_token'] / 1024:.1f} KiB"
        rows.append([name, parameters, f"{gigabytes(size['weight_bytes'])} {model.dtype}", per_token, where])
    return rows


def _download(entry: dict) -> str:
    if entry["source"]["kind"] in ("path", "random", "passages", "sets"):
        return "none"
    return f"{entry['download_mb']} MB" if "download_mb" in entry else "unknown: state download_mb"


def _job_row(job: Job, on: Machine) -> list[str]:
    if job.memory_bytes is None:
        return [job.name, job.kind, "unknown", "unknown", "unknown"]
    fits = "yes" if job.memory_bytes <= on.memory_bytes else "NO"
    return [job.name, job.kind, gigabytes(job.memory_bytes), f"{job.hours:.2f}", fits]


def _totals(
    study: Study, known: Mapping[str, Model | None], trained: list[Job], planned: list[Job], on: Machine
) -> str:
    entries = [*study.models.values(), *study.data.values()]
    download = sum(entry.get("download_mb", 0) for entry in entries) * 1e6
    stored = sum(model.size["weight_bytes"] for model in known.values() if model)
    told = [job for job in [*trained, *planned] if job.hours is not None]
    largest = max((job.memory_bytes for job in told), default=0)
    outside = [job.name for job in told if job.memory_bytes > on.memory_bytes]
    unknown = len(trained) + len(planned) - len(told)
    lines = [
        f"jobs: {len(entries)} to prepare models and data, {_count(trained)} to train, "
        f"{len(planned)} experiments; then the analysis and the paper",
        f"download: {gigabytes(download)}, {download / DOWNLOAD_MB_S / 3.6e9:.2f} hours at {DOWNLOAD_MB_S} MB/s",
        f"disk: {gigabytes(download + stored + RESULTS_BYTES)} (downloads, the models as stored here, results)",
        f"GPU memory: {gigabytes(largest)} at most",
        f"time: {_hours(planned)} for the experiments, one at a time; {_training_time(trained)}",
        f"fits: {'everything' if not outside else 'all but ' + ', '.join(outside)}",
        f"assumed: {estimates.BANDWIDTH_SHARE:.0%} of the bandwidth and {estimates.COMPUTE_SHARE:.0%} of the compute, "
        f"{estimates.LAYER_MS} ms a layer as a graph and {estimates.EAGER_LAYER_MS} launched one by one, "
        f"{estimates.ACCEPTANCE:.0%} of drafted tokens accepted; "
        "training: 6 operations a trained parameter and token",
    ]
    return "\n".join(lines + ([f"unknown: {unknown} jobs, whose models state no shape"] if unknown else []))


def _hours(jobs: list[Job]) -> str:
    return f"{sum(job.hours or 0 for job in jobs):.1f} hours"


def _training_time(trained: list[Job]) -> str:
    return f"{_hours(trained)} before that to train drafts" if trained else "none for training"


def _count(drafts: list[Job]) -> str:
    return f"{len(drafts) or 'no'} draft{'s' if len(drafts) > 1 else ''}"


def _table(heading: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )
