"""Drafts: the first layers of the target, trained on text that no experiment reads.

A draft keeps the target's embeddings (frozen) and final norm; its output head covers the most frequent tokens of the
training text only, because at this size the head costs as much as the layers. Speculative decoding stays exact with
such a head: a token the draft cannot propose has q(x) = 0 and comes in through the residual.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig

from specpress.files.metrics import SCHEMA
from specpress.files.publish import sha256
from specpress.hardware.devices import claim, resolve_device
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe, now, peak_memory_bytes
from specpress.models.load import load_model
from specpress.models.save import save_model
from specpress.study.draft_config import DraftConfig, DraftError
from specpress.training.draft import _round_weights, check_size, cut_draft, head_tokens
from specpress.training.fit import fit
from specpress.training.judge import judge
from specpress.training.progress import progress_bar
from specpress.training.text import read_text, special_tokens

LOSS_POINTS = 50  # points of the loss curve


# --- the text --------------------------------------------------------------------------------------------------------


# --- the model -------------------------------------------------------------------------------------------------------


# --- training and judging --------------------------------------------------------------------------------------------


# --- the whole of it -------------------------------------------------------------------------------------------------


def train_draft(
    config: DraftConfig, target, data: dict, output, *, threads: int, device: str = "auto", progress: bool = True
) -> dict:
    """Cut a draft from a target, train it, judge it and write it to a directory.

    Parameters
    ----------
    config : DraftConfig
    target : str or Path
        Directory of the target.
    data : dict
        Directory of each data set in `config.data`. Training reads their train halves; on their test halves
        (`held_out`) the draft is judged once, after training, and nothing is decided by that.
    output : str or Path
        Receives the model, its tokenizer, metrics.json and, last, manifest.json.
    threads : int
        The same number gives the same weights on the same machine; another one rounds differently.
    device : str
        "auto", "cpu", "cuda", "cuda:1", ... or "mps".
    progress : bool
        Report loss, speed and time left on stderr.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    DraftError
        Before any training, if the target or the text cannot give such a draft.
    """
    began, started = now(), time.perf_counter()
    torch.set_num_threads(threads)
    shape = AutoConfig.from_pretrained(target)
    check_request(config, shape, data)
    model, tokenizer = load_model(target, device=claim(resolve_device(device)))
    text = read_text(config, data, tokenizer)
    token_ids = head_tokens(text.train, config.vocabulary, shape.vocab_size, special_tokens(tokenizer, shape))
    draft = cut_draft(model, layers=config.layers, token_ids=token_ids)
    half = model.dtype in (torch.bfloat16, torch.float16)
    with watch() as watched:
        loss = _fit_with_progress(draft, text.train, config, mixed_precision=half, progress=progress)
    _round_weights(draft, model.dtype)
    metrics = {
        "schema": SCHEMA,
        "id": config.name,
        "kind": "draft",
        "spec": asdict(config),
        "environment": describe(threads=threads, device=model.device, dtype=model.dtype),
        "disturbance": watched.record(),
        "parameters": draft.num_parameters(),
        "head_tokens": len(token_ids),
        "tokens": loss[-1]["tokens"],
        "loss": loss,
        "validation": {name: judge(draft, model, rows) for name, rows in text.validation.items()},
        "held_out": {name: judge(draft, model, rows) for name, rows in text.held_out.items()},
        "started": began,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(model.device)),
    }
    _write(draft, tokenizer, metrics, Path(target), Path(output))
    return metrics


def check_request(config: DraftConfig, target_config, data: dict) -> None:
    """Refuse what needs no text to be refused: the data sets given, the layers and the vocabulary.

    Raises
    ------
    DraftError
    """
    if set(data) != set(config.data):
        given = ", ".join(sorted(data)) or "none"
        raise DraftError(f"data: the draft names {', '.join(config.data)}; directories are given for: {given}")
    check_size(config.layers, config.vocabulary, target_config)
    if config.sequence > target_config.max_position_embeddings:
        raise DraftError(
            f"sequence: {config.sequence} tokens, the target takes at most {target_config.max_position_embeddings}"
        )


def _fit_with_progress(draft, windows: torch.Tensor, config: DraftConfig, *, mixed_precision: bool, progress: bool):
    """Train, show the progress, return the loss curve: means over about `LOSS_POINTS` stretches of equal length."""
    total = windows.shape[0] * config.sequence
    curve, stretch = [], []
    with progress_bar(total, f"training {config.name}", enabled=progress) as bar:

        def report(tokens: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(tokens - bar.n)
            stretch.append(loss)
            if tokens == total or tokens * LOSS_POINTS >= (len(curve) + 1) * total:
                curve.append({"tokens": tokens, "loss": sum(stretch) / len(stretch)})
                stretch.clear()

        fit(draft, windows, config, mixed_precision=mixed_precision, report=report)
    return curve


def _write(draft: nn.Module, tokenizer, metrics: dict, target: Path, output: Path) -> None:
    """Write metrics.json, then the model and its manifest, which names the target by the digest of its own."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "manifest.json").unlink(missing_ok=True)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    manifest = {
        "kind": "draft",
        "spec": metrics["spec"],
        "parameters": metrics["parameters"],
        "target": sha256(target / "manifest.json"),
    }
    save_model(draft, tokenizer, output, manifest)
