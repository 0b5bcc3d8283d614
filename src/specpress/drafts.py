"""Drafts: the first layers of the target, trained on text that no experiment reads.

A draft keeps the target's embeddings (frozen) and final norm; its output head covers the most frequent tokens of the
training text only, because at this size the head costs as much as the layers. Speculative decoding stays exact with
such a head: a token the draft cannot propose has q(x) = 0 and comes in through the residual.
"""

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoConfig

from specpress.data import load_documents
from specpress.draft_config import DraftConfig, DraftError
from specpress.environment import describe, peak_memory_bytes
from specpress.files import sha256
from specpress.models import build_model, load_model, save_model

MAX_PASSES = 4  # beyond four passes repeated text teaches little (Muennighoff et al., 2023, section 5)
VALIDATION_SHARE = 16  # one training document in 16 is kept for validation
LOSS_POINTS = 50  # points of the loss curve
HEAD_SCALES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)  # tried before training
IGNORED = -100  # target of a token outside the draft's head: no loss


# --- the text --------------------------------------------------------------------------------------------------------


def encode(documents, tokenizer) -> list[list[int]]:
    """Token ids of each document, closed by the end-of-text token if the tokenizer has one."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = tokenizer([document.text for document in documents], add_special_tokens=False, verbose=False)
    return [[*ids, *end] for ids in encoded.input_ids]


def split_validation(documents: list, seed: int, name: str) -> tuple[list, list]:
    """Training and validation documents: one in `VALIDATION_SHARE`, and at least one, is kept for validation.

    `name` is the data set's, for the message.

    Raises
    ------
    DraftError
        If there are fewer than two documents.
    """
    if len(documents) < 2:
        raise DraftError(
            f"not enough training text in {name}: {len(documents)} training documents, at least 2 are needed "
            "(one of them for validation)"
        )
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    kept = set(order[: max(1, len(documents) // VALIDATION_SHARE)])
    train = [document for i, document in enumerate(documents) if i not in kept]
    return train, [documents[i] for i in sorted(kept)]


def cut_windows(texts: list[list[int]], length: int) -> torch.Tensor:
    """The text of all documents, end to end, as windows (n, length + 1).

    The last token of a window is the first of the next, so that each token but the first is predicted once.
    """
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    if len(tokens) <= length:
        return tokens.new_empty(0, length + 1)
    return tokens.unfold(0, length + 1, length)


def training_windows(windows: dict[str, torch.Tensor], config: DraftConfig) -> torch.Tensor:
    """The windows of the whole training run in their order, (steps * batch, sequence + 1).

    Each data set gives its share (see `DraftConfig.mixture`), in passes over its windows in a new order each; the
    shares are then mixed.

    Raises
    ------
    DraftError
        If a data set would have to be read more than `MAX_PASSES` times.
    """
    generator = torch.Generator().manual_seed(config.seed)
    steps = math.ceil(config.tokens / (config.batch * config.sequence))
    sizes = {name: len(rows) if config.mixture == "proportional" else 1 for name, rows in windows.items()}
    bounds = [round(steps * config.batch * part) for part in _cumulative_shares(list(sizes.values()))]
    chosen = []
    for (name, rows), first, last in zip(windows.items(), bounds, bounds[1:], strict=False):
        wanted = last - first
        if wanted > MAX_PASSES * len(rows):
            raise DraftError(
                f"not enough training text in {name}: it is to give {wanted * config.sequence} tokens and holds "
                f"{len(rows) * config.sequence} (each may be used {MAX_PASSES} times); lower tokens or give more text"
            )
        passes = math.ceil(wanted / len(rows)) if wanted else 0
        order = [torch.randperm(len(rows), generator=generator) for _ in range(passes)]
        chosen += [rows[torch.cat(order)[:wanted]]] if passes else []
    mixed = torch.cat(chosen)
    return mixed[torch.randperm(len(mixed), generator=generator)]


def _cumulative_shares(sizes: list[int]) -> list[float]:
    total = sum(sizes)
    if not total:
        raise DraftError("not enough training text: no data set fills one window; shorten sequence or give more text")
    return [sum(sizes[:i]) / total for i in range(len(sizes) + 1)]


def head_tokens(windows: torch.Tensor, size: int, vocabulary: int, always: list[int]) -> torch.Tensor:
    """The sorted ids (size,) of the tokens a head of `size` rows covers: `always`, then the most frequent in `windows`.

    Tokens of equal frequency come in the order of their ids. `vocabulary` is the size of the full vocabulary.

    Raises
    ------
    DraftError
        If `size` is too small for the tokens in `always`.
    """
    special = sorted({token for token in always if token is not None and token < vocabulary})
    if size < len(special):
        raise DraftError(
            f"vocabulary: {size} tokens cannot hold the {len(special)} special tokens, which it always has"
        )
    counts = torch.bincount(windows.flatten(), minlength=vocabulary)
    counts[special] = counts.max() + 1
    return counts.argsort(descending=True, stable=True)[:size].sort().values


# --- the model -------------------------------------------------------------------------------------------------------


def cut_draft(target: nn.Module, *, layers: int, token_ids: torch.Tensor) -> nn.Module:
    """A float32 draft of the target's first layers, ready to be trained: its embeddings are frozen.

    Parameters
    ----------
    target : LlamaForCausalLM or GPTNeoXForCausalLM
    layers : int
    token_ids : LongTensor (k,)
        Sorted ids of the tokens the output head covers; its rows are the target's. With all of them and all layers
        the draft is the target.

    Raises
    ------
    DraftError
        If the target has fewer layers.
    """
    check_size(layers, len(token_ids), target.config)
    config = copy.deepcopy(target.config)
    config.update({"num_hidden_layers": layers, "tie_word_embeddings": False})
    if len(token_ids) < config.vocab_size:
        config.head_token_ids = token_ids.tolist()
    draft = build_model(config, dtype=torch.float32).to(target.device)
    weights = target.state_dict()
    kept = {name: weights[name] for name in draft.state_dict() if name in weights}
    draft.load_state_dict(kept | _head(draft, target, token_ids))
    draft.get_input_embeddings().requires_grad_(False)
    return draft


def _head(draft: nn.Module, target: nn.Module, token_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    head = draft.get_output_embeddings().weight
    name = next(name for name, parameter in draft.named_parameters() if parameter is head)
    return {name: target.get_output_embeddings().weight[token_ids]}


def check_size(layers: int, vocabulary: int, target_config) -> None:
    """Refuse a draft larger than its target.

    Raises
    ------
    DraftError
        If it has more layers, or a larger vocabulary.
    """
    if layers > target_config.num_hidden_layers:
        raise DraftError(f"layers: {layers} asked for, the target has {target_config.num_hidden_layers}")
    if vocabulary > target_config.vocab_size:
        raise DraftError(f"vocabulary: {vocabulary} tokens asked for, the target has {target_config.vocab_size}")


# --- training and judging --------------------------------------------------------------------------------------------


def fit(
    draft: nn.Module,
    windows: torch.Tensor,
    config: DraftConfig,
    *,
    mixed_precision: bool,
    report: Callable[[int, float], None],
) -> None:
    """Train a draft on the next token of each window, in their order, by AdamW on the cross-entropy.

    Labels outside the draft's head carry no loss: it learns the law of the text given a token of its own. The model
    stays in eval mode: there is no dropout to draw.

    Parameters
    ----------
    draft : LlamaForCausalLM or GPTNeoXForCausalLM
        Float32, trained in place.
    windows : LongTensor (n, sequence + 1)
        `config.batch` of them a step.
    mixed_precision : bool
        Matrix products in bfloat16; the weights stay in float32.
    report : callable
        Called after each step with the tokens so far and the step's mean loss (nats a token).
    """
    trained = [parameter for parameter in draft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    steps = windows.split(config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine((step + 1) / len(steps)))
    soften_head(draft, steps[0])
    tokens = 0
    for rows in steps:
        with torch.autocast(draft.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
            logits, labels = predictions(draft, rows.to(draft.device))
            loss = cross_entropy(logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        tokens += labels.numel()
        report(tokens, loss.item())


def predictions(draft: nn.Module, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, length, k) after each token of the windows (n, length + 1) but the last, and their labels (n, length).

    A label is a row of the draft's head, or `IGNORED` for a token the head does not cover.
    """
    ids = covered(draft)
    row_of = torch.full((draft.config.vocab_size,), IGNORED, device=draft.device)
    row_of[ids] = torch.arange(len(ids), device=draft.device)
    return draft(rows[:, :-1], use_cache=False).logits, row_of[rows[:, 1:]]


def covered(draft: nn.Module) -> torch.Tensor:
    """Ids (k,) of the tokens a model's head covers."""
    ids = getattr(draft, "head_token_ids", None)
    return torch.arange(draft.config.vocab_size, device=draft.device) if ids is None else ids


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats over the labels that are not `IGNORED`; 0 if there is none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


@torch.no_grad()
def soften_head(draft: nn.Module, rows: torch.Tensor) -> float:
    """Scale the head's weights by the best of `HEAD_SCALES` on some windows, and return it.

    After a few layers the hidden state has the length it has after the last one, but not its direction: the target's
    head is sure of the wrong tokens. Smaller logits to begin with save the steps that unlearning this takes.
    """
    logits, labels = predictions(draft, rows.to(draft.device))
    best = min(HEAD_SCALES, key=lambda scale: cross_entropy(scale * logits, labels).item())
    draft.get_output_embeddings().weight.mul_(best)
    return best


def warmup_cosine(progress: float, warmup: float = 0.05) -> float:
    """The factor of the learning rate after a share `progress` (0 to 1) of the steps: linear to 1, then cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


@torch.inference_mode()
def judge(draft: nn.Module, target: nn.Module, windows: torch.Tensor, batch: int = 2) -> dict:
    """How well a draft predicts what the target would say, and the text itself.

    Parameters
    ----------
    draft, target : LlamaForCausalLM or GPTNeoXForCausalLM
    windows : LongTensor (n, length + 1)
        Each is one context; every position of it but the first is scored.

    Returns
    -------
    dict
        `acceptance`: mean over positions of sum_x min(p(x), q(x)) at temperature 1, the chance that speculative
        sampling accepts a draft token (Leviathan et al., 2023, section 3.2). `cross_entropy`: nats a token of the
        draft on the tokens its head covers; `coverage`: their share. `n_tokens`: positions scored.
    """
    ids = covered(draft)
    overlap = nll = scored = 0.0
    for rows in windows.to(draft.device).split(batch):
        p = target(rows[:, :-1], use_cache=False).logits.float().softmax(-1)[..., ids]
        logits, labels = predictions(draft, rows)
        overlap += torch.minimum(p, logits.float().softmax(-1)).sum().item()
        in_head = (labels != IGNORED).sum().item()
        nll += cross_entropy(logits, labels).item() * in_head
        scored += in_head
    count = windows.shape[0] * (windows.shape[1] - 1)
    return {
        "acceptance": overlap / count,
        "cross_entropy": nll / scored if scored else None,
        "coverage": scored / count,
        "n_tokens": count,
    }


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
    started = time.perf_counter()
    torch.set_num_threads(threads)
    shape = AutoConfig.from_pretrained(target)
    check_request(config, shape, data)
    model, tokenizer = load_model(target, device=device)
    text = read_text(config, data, tokenizer)
    token_ids = head_tokens(text.train, config.vocabulary, shape.vocab_size, special_tokens(tokenizer, shape))
    draft = cut_draft(model, layers=config.layers, token_ids=token_ids)
    half = model.dtype in (torch.bfloat16, torch.float16)
    loss = _fit_with_progress(draft, text.train, config, mixed_precision=half, progress=progress)
    _round_weights(draft, model.dtype)
    metrics = {
        "schema": 1,
        "id": config.name,
        "kind": "draft",
        "spec": asdict(config),
        "environment": describe(
            threads=threads, device=str(model.device), dtype=str(model.dtype).removeprefix("torch.")
        ),
        "parameters": draft.num_parameters(),
        "head_tokens": len(token_ids),
        "tokens": loss[-1]["tokens"],
        "loss": loss,
        "validation": {name: judge(draft, model, rows) for name, rows in text.validation.items()},
        "held_out": {name: judge(draft, model, rows) for name, rows in text.held_out.items()},
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(str(model.device)),
    }
    _write(draft, tokenizer, metrics, Path(target), Path(output))
    return metrics


def _round_weights(draft: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights in `dtype`. `draft.to(dtype)` would also round the frequencies of the rotary embeddings."""
    for parameter in draft.parameters():
        parameter.data = parameter.data.to(dtype)


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


def special_tokens(tokenizer, config) -> list[int]:
    """Ids of the tokens a draft must be able to say, whatever the text: end of text and the other special ones."""
    ends = config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return [*tokenizer.all_special_ids, *ends]


@dataclass(frozen=True)
class Text:
    """Windows of text, (n, sequence + 1) each: to train on, and by data set to judge on."""

    train: torch.Tensor
    validation: dict[str, torch.Tensor]
    held_out: dict[str, torch.Tensor]


def read_text(config: DraftConfig, data: dict, tokenizer) -> Text:
    """Read, split and tokenise the data sets of a draft.

    Raises
    ------
    DraftError
        If there is too little text; the message names the data set.
    """
    windows, validation, held_out = {}, {}, {}
    for name in config.data:
        train, kept = split_validation(load_documents(Path(data[name]) / "train.jsonl"), config.seed, name)
        test = load_documents(Path(data[name]) / "test.jsonl")
        windows[name] = cut_windows(encode(train, tokenizer), config.sequence)
        for part, documents, what in ((validation, kept, "validation"), (held_out, test, "test")):
            rows = cut_windows(encode(documents, tokenizer), config.sequence)
            if not len(rows):
                raise DraftError(
                    f"not enough text in {name}: its {what} documents do not fill one window of {config.sequence} "
                    "tokens; lower sequence or give more text"
                )
            part[name] = evenly_spread(rows, math.ceil(config.evaluation / config.sequence))
    return Text(training_windows(windows, config), validation, held_out)


def evenly_spread(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of the rows at equal distances, or all of them if there are fewer."""
    count = min(count, len(rows))
    return rows[[i * len(rows) // count for i in range(count)]]


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


def progress_bar(total: int, description: str, *, enabled: bool = True) -> tqdm:
    """A progress bar over tokens on stderr: one line that is redrawn in a terminal, a line every 10 s in a log."""
    terminal = sys.stderr.isatty()
    form = "{desc}: {percentage:3.0f}% of {total_fmt}, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}"
    return tqdm(
        total=total,
        desc=description,
        unit=" tokens",
        unit_scale=True,
        bar_format=None if terminal else form,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        mininterval=0.2 if terminal else 10,
        maxinterval=10,
        disable=not enabled,
    )


class _Lines:
    """A stream on which each state of a progress bar is a line of its own."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


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
