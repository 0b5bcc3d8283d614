"""What is checked before any model is loaded: vocabularies, lengths against the model's context, memory."""

import filecmp
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from specpress.hardware.devices import free_memory
from specpress.models.vocabulary import Vocabulary, may_be_padded
from specpress.study.expansion import models_of, parts
from specpress.study.memory import largest, require
from specpress.study.registry import ON_CPU
from specpress.theory.shapes import attention_window

SHORTEN = {"perplexity": "context or score", "regime": "contexts", "tasks": "context"}  # the keys that say how long


def check(
    spec: dict, models: Mapping[str, str | Path], device: torch.device, data: Mapping[str, str | Path] | None = None
) -> None:
    """Refuse an experiment that could only fail.

    Raises
    ------
    ValueError
        A model has another vocabulary than the baseline, whose tokens all are given, prompts ask for a chat template
        that the baseline lacks, a drafter has no kernels for the device, the texts are longer than the model's
        context, or the memory cannot hold it all.
    """
    models = {name: Path(folder) for name, folder in models.items()}
    for _, what, part in parts(spec):
        if what == "drafter" and part["name"] in ON_CPU and device.type != "cpu":
            raise ValueError(
                f"{spec['id']}: {part['name']} runs on a CPU only, not on {device.type}: leave it out, or set the "
                "study's device to cpu"
            )
    if not all((folder / "manifest.json").is_file() for folder in models.values()):
        return  # not prepared by the workflow: loading them says what is missing
    baseline = spec.get("baseline", spec["model"])
    if spec.get("chat"):
        require_template(models[spec["model"]], f"{spec['id']}: chat", model_name=spec["model"])
    if spec.get("data") in (data or {}):
        check_template(models[baseline], Path(data[spec["data"]]), model_name=baseline, data_name=spec["data"])
    for name in models_of(spec):
        if name != baseline:  # whose tokens the prompts are
            check_vocabulary(models[baseline], models[name], target_name=baseline, draft_name=name)
    check_length(spec, models[spec["model"]])
    manifests = {name: json.loads((models[name] / "manifest.json").read_text()) for name in models_of(spec)}
    if all("weight_bytes" in manifest for manifest in manifests.values()):
        require(spec, manifests, free_memory(device), str(device))


def check_template(model: Path, data: Path, *, model_name: str, data_name: str) -> None:
    """Refuse prompts for a chat template, if the model has none.

    Raises
    ------
    ValueError
        If so.
    """
    manifest = data / "manifest.json"
    if manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8")).get("chat"):
        require_template(model, f"data.{data_name}.chat", model_name=model_name)


def require_template(model: Path, key: str, *, model_name: str) -> None:
    """Refuse a model without a chat template, by its files, for what asks for one under `key` of the study.

    Raises
    ------
    ValueError
        If it has none.
    """
    settings = model / "tokenizer_config.json"
    inside = settings.is_file() and json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
    if not inside and not (model / "chat_template.jinja").is_file():
        raise ValueError(
            f"{key}: the tokenizer of {model_name} has no chat template; take a model that was tuned "
            "for chat, or remove `chat`, so that the prompts are continued as plain text"
        )


def check_length(spec: dict, folder: Path) -> None:
    """Refuse texts that are longer than the context of the model in `folder`, or with a press than its window.

    For tasks the question is estimated.

    Raises
    ------
    ValueError
        With both lengths, and the keys that shorten the texts.
    """
    config = json.loads((folder / "config.json").read_text())
    limit, window, (_, tokens) = config.get("max_position_embeddings"), attention_window(config), largest(spec)
    keys = SHORTEN.get(spec["kind"], "prompt_tokens or max_new_tokens")
    if limit is not None and tokens > limit:
        raise ValueError(
            f"{spec['id']}: texts of {tokens} tokens do not fit the context of {spec['model']}, {limit} tokens; "
            f"make {keys} smaller, or take a model with a longer context"
        )
    if window is not None and tokens > window and any(what == "press" for _, what, _ in parts(spec)):
        raise ValueError(
            f"{spec['id']}: texts of {tokens} tokens go past the window of {window} that {spec['model']} attends to, "
            f"which a press cannot keep to; make {keys} smaller, or take a model without a window"
        )


def check_vocabulary(target: Path, draft: Path, *, target_name: str, draft_name: str) -> None:
    """Refuse a draft whose tokens are not the target's, by the files of both models.

    Raises
    ------
    ValueError
        With the first difference: the size of the vocabulary, or a token.
    """
    wrong = (
        f"{draft_name} cannot draft for {target_name}: {{}}. Speculative decoding needs one tokenizer for both, and so "
        "does a comparison on the same tokens; take a model of its family, or train one from it (key `drafts` of "
        "the study)"
    )
    if _hold_the_same(target, draft, "tokenizer.json"):
        return  # megabytes that need not be read as JSON
    sizes = [json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (target, draft)]
    ours, theirs = _tokens(target), _tokens(draft)
    if ours is not None and ours == theirs:
        return  # the sizes may differ: padding
    if not may_be_padded(*sizes):
        raise ValueError(wrong.format(f"it has a vocabulary of {sizes[1]} tokens, {target_name} one of {sizes[0]}"))
    if ours is not None and theirs is not None:
        raise ValueError(wrong.format(ours.difference(theirs, "there", f"in {target_name}")))


def _hold_the_same(one: Path, other: Path, name: str) -> bool:
    """Whether both folders hold a file of that name, of the same bytes."""
    files = [folder / name for folder in (one, other)]
    return all(file.is_file() for file in files) and filecmp.cmp(*files, shallow=False)


def _tokens(folder: Path) -> Vocabulary | None:
    """The tokens of tokenizer.json; None for a model without one."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    pairs = (
        vocabulary.items() if isinstance(vocabulary, dict) else ((piece[0], i) for i, piece in enumerate(vocabulary))
    )
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    return Vocabulary.of(dict(pairs) | added)
