"""Drafts: layers of the target, or a head on its states, trained on text that no experiment reads.

A draft keeps the target's embeddings (frozen) and final norm; its output head covers part of the vocabulary only: at
this size the head costs as much as the layers. Speculative decoding stays exact with such a head: a token the draft
cannot propose has q(x) = 0 and comes in through the residual.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from specpress.files.metrics import SCHEMA
from specpress.files.publish import sha256
from specpress.hardware.devices import claim, resolve_device
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe, now, peak_memory_bytes
from specpress.hardware.threads import use_threads
from specpress.models.config import read_config
from specpress.models.load import load_model
from specpress.models.save import save_model
from specpress.models.tokenizers import holds_tokenizer
from specpress.study import source_code
from specpress.study.draft_config import DraftConfig, DraftError
from specpress.training.checkpoint import Checkpoint, digest_of
from specpress.training.draft import check_size, cut_draft, cut_head, head_tokens, round_weights, tokens_by_mass
from specpress.training.fit import Noted, fit
from specpress.training.judge import Reading, glance, judge, readings
from specpress.training.lesson import Lesson, hear, kept
from specpress.training.predictions import covered
from specpress.training.progress import progress_bar
from specpress.training.text import evenly_spread, read_text, special_tokens
from specpress.training.writing import rewritten

LOSS_POINTS = 50  # points of the loss curve
GLANCES = 8  # times that acceptance is looked at in training
ACCEPTANCE = "validation_acceptance"  # `acceptance` of `judge`, on validation text
_LOOKED_AT = 2048  # tokens of validation text, at which it is
# The code that a lesson, and a training that was killed, are of: corrected, it makes them anew.
_HEARD_BY = "src/specpress/training/lesson.py", "src/specpress/training/writing.py"
_FITTED_BY = "src/specpress/training/fit.py"


def train_draft(
    config: DraftConfig,
    target,
    data: dict,
    output,
    *,
    threads: int,
    device: str = "auto",
    progress: bool = True,
    lessons=None,
) -> dict:
    """Cut a draft from a target, train it, judge it and write it to a directory.

    A training that was killed goes on where it stood half a minute before, to the same weights.

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
        Report loss, acceptance on validation text, speed and time left on stderr.
    lessons : str or Path, optional
        Where what the target says to the text is kept for other drafts to learn from; in `output` if not given.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    DraftError
        Before any training, if the target or the text cannot give such a draft; later, if its loss is no number.
    """
    began, started = now(), time.perf_counter()
    shape, device = checked(config, target, data, threads=threads, device=device)
    output = Path(output)
    model, tokenizer = load_model(target, device=claim(device))
    text, digest = read_text(config, data, tokenizer), target_digest(Path(target))
    with watch() as watched:
        teacher = Teacher(config, model, digest, Path(lessons) if lessons else output / "lessons", progress)
        lesson = teacher.lesson(text.train)
        draft = _cut(config, model, lesson, special_tokens(tokenizer, shape))
        looked_at = evenly_spread(torch.cat(list(text.validation.values())), math.ceil(_LOOKED_AT / config.sequence))
        validation = list(readings(draft, model, looked_at))
        output.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(output / ".checkpoint", _stamp(config, digest, lesson, draft))
        noted = _fit_with_progress(draft, lesson, validation, config, model, checkpoint, progress)
    round_weights(draft, model.dtype)
    metrics = {
        "schema": SCHEMA,
        "id": config.name,
        "kind": "draft",
        "spec": asdict(config),
        "environment": describe(threads=threads, device=model.device, dtype=model.dtype),
        "disturbance": watched.record(),
        "parameters": draft.num_parameters(),
        "head_tokens": draft.get_output_embeddings().out_features,
        "tokens": noted.tokens,
        "loss": loss_curve(noted, config.batch * config.sequence),
        "progress": noted.glances,
        "seconds": {"lesson": teacher.seconds, "training": noted.seconds},
        "validation": {name: judge(draft, model, rows) for name, rows in text.validation.items()},
        "held_out": {name: judge(draft, model, rows) for name, rows in text.held_out.items()},
        "started": began,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(model.device)),
    }
    _write(draft, tokenizer, metrics, digest, output)
    checkpoint.remove()
    return metrics


def checked(
    config: DraftConfig, target, data: dict, *, threads: int, device: str
) -> tuple[PretrainedConfig, torch.device]:
    """The target's configuration and the device, once all is refused that needs neither text nor weights to be.

    Raises
    ------
    ValueError
        See `train_draft`, which has these parameters too.
    """
    use_threads(threads)
    shape = read_config(Path(target))
    check_request(config, shape, data)
    if not holds_tokenizer(Path(target)):
        raise DraftError(f"{target} holds no tokenizer: the text cannot be read")
    return shape, resolve_device(device)


def check_request(config: DraftConfig, target_config, data: dict) -> None:
    """Refuse what needs no text to be refused: the data sets given, the target's weights, the layers, the vocabulary.

    Raises
    ------
    DraftError
    """
    if set(data) != set(config.data):
        given = ", ".join(sorted(data)) or "none"
        raise DraftError(f"data: the draft names {', '.join(config.data)}; directories are given for: {given}")
    if held := getattr(target_config, "weights_format", None):
        raise DraftError(
            f"target: its weights are held in {held}, which no draft can be cut from; train on the model in bfloat16, "
            "float16 or float32 that it was made from: the draft serves both"
        )
    check_size(config.layers, config.vocabulary, target_config, features=config.features, mlp_width=config.mlp_width)
    if config.sequence > target_config.max_position_embeddings:
        raise DraftError(
            f"sequence: {config.sequence} tokens, the target takes at most {target_config.max_position_embeddings}"
        )


class Teacher:
    """The target of a training: what it says to the text, and writes itself, if the training asks for it.

    Parameters
    ----------
    digest : of the target, by which what it said is found again in the folder `lessons`

    `seconds` : that it took to read and write, in this training or in the one that asked first
    """

    def __init__(self, config: DraftConfig, target: nn.Module, digest: str, lessons: Path, progress: bool):
        self._config, self._target, self._digest = config, target, digest
        self._lessons, self._progress, self.seconds = lessons, progress, 0.0
        self._features = features_of(config, target.config.num_hidden_layers)

    def lesson(self, windows: Tensor) -> Lesson:
        """On the training windows, LongTensor (n, sequence + 1)."""
        if not self._config.needs_lesson:
            return Lesson(windows)
        return self._heard(self._written(windows) if self._config.own_text else windows)

    def _written(self, windows: Tensor) -> Tensor:
        own = {key: getattr(self._config, key) for key in ("own_text", "own_temperature", "own_top_p", "seed")}

        def write() -> Lesson:
            share = round(self._config.own_text * len(windows)) * (windows.shape[1] - windows.shape[1] // 2)
            with progress_bar(share, "the target writes", enabled=self._progress) as bar:
                return Lesson(rewritten(self._target, windows, self._config, lambda done: bar.update(done - bar.n)))

        return self._kept(self._identity(windows) | own, (), write).tokens

    def _heard(self, windows: Tensor) -> Lesson:
        def read() -> Lesson:
            with progress_bar(windows[:, 1:].numel(), "the target reads", enabled=self._progress) as bar:
                show = lambda done: bar.update(done - bar.n)  # noqa: E731
                return hear(self._target, windows, self._config.top, self._features, show)

        return self._kept(self._identity(windows) | {"top": self._config.top}, self._features, read)

    def _kept(self, identity: dict, features: Sequence[int], make: Callable[[], Lesson]) -> Lesson:
        lesson, seconds = kept(self._lessons, identity, features, make)
        self.seconds += seconds
        return lesson

    def _identity(self, windows: Tensor) -> dict:
        said_by = source_code.digest_of(*_HEARD_BY)
        text = {"text": digest_of(windows), "windows": list(windows.shape)}
        return {"target": self._digest, **text, "code": said_by}


def _stamp(config: DraftConfig, target: str, lesson: Lesson, draft: nn.Module) -> dict:
    """What a training is of, told by digests: one on other text, by other code, of another head is not gone on from."""
    digests = {"target": target, "text": digest_of(lesson.tokens), "head": digest_of(covered(draft))}
    return {"spec": asdict(config), "code": source_code.digest_of(_FITTED_BY), **digests}


def features_of(config: DraftConfig, layers: int) -> tuple[int, ...]:
    """The layers, of so many, that a draft reads: none of a draft model, the last of a head that names none."""
    return (config.features or (layers,)) if config.kind == "head" else ()


def _cut(config: DraftConfig, target: nn.Module, lesson: Lesson, always: list[int]) -> nn.Module:
    """The draft before its training."""
    vocabulary = target.config.vocab_size
    if config.vocabulary_by == "target":
        token_ids = tokens_by_mass(lesson, config.vocabulary, vocabulary, always)
    else:
        token_ids = head_tokens(lesson.tokens, config.vocabulary, vocabulary, always)
    common = {"layers": config.layers, "token_ids": token_ids, "mlp_width": config.mlp_width}
    if config.kind == "head":
        return cut_head(target, features=features_of(config, target.config.num_hidden_layers), **common)
    return cut_draft(target, **common)


def _fit_with_progress(
    draft: nn.Module,
    lesson: Lesson,
    validation: Sequence[Reading],
    config: DraftConfig,
    target: nn.Module,
    checkpoint: Checkpoint,
    progress: bool,
) -> Noted:
    """Train, show the progress, and look at the acceptance on validation text `GLANCES` times."""
    total = config.passes * len(lesson) * config.sequence
    with progress_bar(total, f"training {config.name}", enabled=progress) as bar:

        def report(noted: Noted) -> None:
            if noted.tokens * GLANCES >= (len(noted.glances) + 1) * total:
                seen = {"tokens": noted.tokens, "seconds": noted.seconds, ACCEPTANCE: glance(draft, validation)}
                noted.glances.append(seen)
            acceptance = f"{noted.glances[-1][ACCEPTANCE]:.3f}" if noted.glances else "?"
            bar.set_postfix({"loss": f"{noted.losses[-1]:.3f}", ACCEPTANCE: acceptance}, refresh=False)
            bar.update(noted.tokens - bar.n)

        half = target.dtype in (torch.bfloat16, torch.float16)
        return fit(draft, lesson, config, mixed_precision=half, report=report, checkpoint=checkpoint)


def loss_curve(noted: Noted, step_tokens: int) -> list[dict]:
    """Mean losses over about `LOSS_POINTS` stretches of equal length, with the tokens at the end of each."""
    steps = len(noted.losses)
    bounds = sorted({math.ceil(steps * i / LOSS_POINTS) for i in range(LOSS_POINTS + 1)})
    return [
        {"tokens": min(end * step_tokens, noted.tokens), "loss": sum(noted.losses[start:end]) / (end - start)}
        for start, end in pairwise(bounds)
    ]


def target_digest(target: Path) -> str:
    """What tells a target from others: the digest of its manifest.json, or of its weights where it has none."""
    if (target / "manifest.json").is_file():
        return sha256(target / "manifest.json")
    files = [target / "config.json", *sorted(target.glob("*.safetensors"))]
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


def _write(draft: nn.Module, tokenizer, metrics: dict, digest: str, output: Path) -> None:
    """Write metrics.json, then the model and its manifest, which names the target by its digest."""
    (output / "manifest.json").unlink(missing_ok=True)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    manifest = {
        "kind": "draft",
        "spec": metrics["spec"],
        "parameters": metrics["parameters"],
        "target": digest,
    }
    save_model(draft, tokenizer, output, manifest)
