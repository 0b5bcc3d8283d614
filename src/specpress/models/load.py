"""Models on disk: Llama and GPT-NeoX causal LMs, and the drafts trained here, whose head covers part of the vocabulary.

A draft's directory is an ordinary Hugging Face directory with one more key in config.json, `head_token_ids`: the
sorted ids of the full vocabulary that the rows of its output head stand for.
"""

import json
import re
import warnings
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
)

from specpress.hardware.devices import resolve_device
from specpress.models.build import build_model, mark_head, resolve_dtype
from specpress.models.families import family_of
from specpress.models.quantized import quantize_model, require_kernels, with_empty_codes
from specpress.models.quiet import no_progress_bars

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_HUB_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_model(path_or_repo, *, dtype="auto", device="auto", weights=None):
    """Load a Llama or GPT-NeoX causal LM for inference, with its tokenizer.

    Parameters
    ----------
    path_or_repo : str or Path
        A Hugging Face model directory (this workflow's models and drafts are such directories), or a hub repository
        "owner/name".
    dtype : str or torch.dtype
        "auto" keeps the dtype the model was stored in.
    device : str or torch.device
        "auto" takes cuda, else mps, else cpu.
    weights : str, optional
        "q4" or "q8" holds the linear maps in four or eight bits (see `specpress.models.quantized`), rounded here unless
        the directory holds them so already. None takes the weights as the directory has them.

    Returns
    -------
    model : LlamaForCausalLM or GPTNeoXForCausalLM
        In eval mode. `model.head_token_ids` is None when the output head covers the whole vocabulary; otherwise a
        LongTensor (k,): logit i of the k logits belongs to token `head_token_ids[i]`.
    tokenizer : PreTrainedTokenizerBase or None
        None, with a warning, only if the directory holds no tokenizer.

    Raises
    ------
    FileNotFoundError
        If there is no such directory, or it is not a model directory, or without weights as safetensors.
    ValueError
        If the model belongs to another family, its weights are not those that config.json speaks of, or they cannot be
        held as `weights` says, here or at all.
    """
    directory, device = _model_directory(path_or_repo), resolve_device(device)
    config, dtype = _config(directory), resolve_dtype(dtype)
    held = getattr(config, "weights_format", None)
    _check_weights(directory, held, weights, device)
    if held is None and getattr(config, "head_token_ids", None) is None:
        model = mark_head(_pretrained(directory, config, dtype))
    else:
        model = build_model(config, dtype=None if dtype == "auto" else dtype)
        model = model if held is None else with_empty_codes(model, held)
        model.load_state_dict(load_file(directory / "model.safetensors"))
    if weights != held and weights is not None:
        quantize_model(model, weights)
    return model.to(device).eval(), _load_tokenizer(directory)


def _check_weights(directory: Path, held: str | None, wanted: str | None, device) -> None:
    if held and wanted and held != wanted:
        raise ValueError(
            f"{directory} holds its weights in {held}, not {wanted}: leave `weights` out, or prepare it anew"
        )
    if held or wanted:
        require_kernels(wanted or held, device)


def _model_directory(path_or_repo) -> Path:
    path = Path(path_or_repo)
    if not path.exists() and isinstance(path_or_repo, str) and _HUB_REPOSITORY.fullmatch(path_or_repo):
        return _download(path_or_repo)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is not a directory; give the directory of a model (the one that holds config.json), "
            "or let the workflow make it: snakemake <that directory>/manifest.json"
        )
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path} holds no config.json, so it is not a complete model directory; "
            "if the workflow was writing it, run snakemake again"
        )
    return path


def _download(repo: str) -> Path:
    try:  # by name: experiments, which never come here, should not run again when the hub's module is edited
        return import_module("specpress.sources.hub").download_model(repo)
    except ValueError as error:
        raise FileNotFoundError(
            f"{repo!r} is neither a directory here nor a repository of the model hub: {error}; "
            "give the directory of a model that is on this machine"
        ) from error


def _config(directory: Path):
    """What config.json says; no code beside it is run."""
    file = directory / "config.json"
    try:
        family_of(json.loads(file.read_text(encoding="utf-8")).get("model_type"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON ({error}): get it again") from error
    return AutoConfig.from_pretrained(directory)


def _pretrained(directory: Path, config, dtype):
    """The model of a directory. Weights that are not there would be drawn at random: they are refused."""
    if not any(directory.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{directory} holds no weights as *.safetensors. Pickled weights (*.bin) can run code when they are "
            "read, so they never are; convert them where you trust them: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    try:
        with no_progress_bars():
            model, found = family_of(config.model_type).from_pretrained(
                directory, config=config, dtype=dtype, **options
            )
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the weights of {directory} cannot be read ({error}): get them again") from error
    wrong = [*sorted(found["missing_keys"]), *(key for key, *_ in found["mismatched_keys"])]
    if wrong:
        raise ValueError(
            f"{directory}: {len(wrong)} weights are missing or of another shape than config.json says, such as "
            f"{wrong[0]}; config.json and weights must be of one model"
        )
    return model


def _load_tokenizer(directory: Path):
    if not any((directory / name).is_file() for name in _TOKENIZER_FILES):
        warnings.warn(f"{directory} holds no tokenizer; load_model returns None for it", stacklevel=3)
        return None
    try:
        return AutoTokenizer.from_pretrained(directory)
    except (ValueError, OSError) as error:
        raise ValueError(f"the tokenizer of {directory} cannot be read ({error}): get its files again") from error
