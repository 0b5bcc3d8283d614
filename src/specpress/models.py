"""Models on disk: Llama and GPT-NeoX causal LMs, and the drafts trained here, whose head covers part of the vocabulary.

A draft's directory is an ordinary Hugging Face directory with one more key in config.json, `head_token_ids`: the
sorted ids of the full vocabulary that the rows of its output head stand for.
"""

import contextlib
import json
import re
import warnings
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils import logging as transformers_logging

from specpress.byte_level import byte_tokenizer, gguf_tokenizer
from specpress.devices import resolve_device
from specpress.files import publish
from specpress.shapes import shape_of

FAMILIES = {"llama": LlamaForCausalLM, "gpt_neox": GPTNeoXForCausalLM}

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_HUB_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_model(path_or_repo, *, dtype="auto", device="auto"):
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
        If the model belongs to another family, or its weights are not those that config.json speaks of.
    """
    directory = _model_directory(path_or_repo)
    config = _config(directory)
    dtype = resolve_dtype(dtype)
    if getattr(config, "head_token_ids", None) is None:
        model = _mark_head(_pretrained(directory, config, dtype))
    else:
        model = build_model(config, dtype=None if dtype == "auto" else dtype)
        model.load_state_dict(load_file(directory / "model.safetensors"))
    return model.to(resolve_device(device)).eval(), _load_tokenizer(directory)


def build_model(config, *, dtype=None):
    """A model of `config` with new weights, in eval mode on the CPU; its head is cut if the config says so.

    Parameters
    ----------
    config : LlamaConfig or GPTNeoXConfig
        With `head_token_ids` (k sorted token ids) the output head has k rows and no bias; `vocab_size` stays the size
        of the full vocabulary, which the input embeddings keep. The loss of transformers (`labels=`) does not know
        about such a head.
    dtype : torch.dtype, optional
        The config's dtype, if not given.

    Raises
    ------
    ValueError
        If the family is not supported, or `head_token_ids` do not fit the vocabulary.
    """
    _family(config.model_type)
    token_ids = getattr(config, "head_token_ids", None)
    if token_ids is not None:
        _check_head(token_ids, config)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype or torch.get_default_dtype())
    if token_ids is not None:
        head = nn.Linear(config.hidden_size, len(token_ids), bias=False, dtype=model.dtype)
        nn.init.normal_(head.weight, std=config.initializer_range)
        model.set_output_embeddings(head)
    return _mark_head(model).eval()


def save_model(model, tokenizer, directory, manifest):
    """Write a model directory that `load_model` reads; manifest.json comes last and marks it as complete.

    Parameters
    ----------
    model : LlamaForCausalLM or GPTNeoXForCausalLM
        Stored in its own dtype, as one safetensors file.
    tokenizer : PreTrainedTokenizerBase or None
    directory : str or Path
        Other files already there stay.
    manifest : dict
        What the model is and where it comes from (JSON-able). Added to it are `model_size` and, as `files`, the sha256
        and size of each file, so that a job depending on the manifest depends on the weights.

    Raises
    ------
    OSError
        If the disk is full; nothing is left behind.
    """
    with publish(directory, {**manifest, **model_size(model)}) as folder, _no_progress_bars():
        try:
            model.save_pretrained(folder, max_shard_size="1TB")
        except SafetensorError as error:  # of a full disk, say
            raise OSError(f"the weights cannot be written to {directory}: {error}") from error
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def model_size(model) -> dict[str, int]:
    """What a model needs, for estimates of memory and time: see `specpress.shapes.Shape.size`.

    weight_bytes counts every parameter once, tied ones too; kv_bytes_per_token is one token's keys and values over all
    layers, in the model's dtype.
    """
    shape = shape_of(model.config.to_dict())
    return {
        "weight_bytes": sum(parameter.nbytes for parameter in model.parameters()),
        "step_weight_bytes": shape.read_parameters * model.dtype.itemsize,
        "flops_per_token": 2 * shape.read_parameters,
        "kv_bytes_per_token": shape.kv_elements_per_token * model.dtype.itemsize,
        "layers": shape.layers,
    }


def random_model(source, *, dtype=torch.bfloat16):
    """A small model with seeded random weights and a byte-level tokenizer: for tests and the tiny study.

    Parameters
    ----------
    source : dict
        `architecture` (llama or gpt_neox), `hidden_size`, `layers`, `heads`, `seed`; for llama also `kv_heads`,
        by default `heads`.
    dtype : torch.dtype

    Returns
    -------
    model : LlamaForCausalLM or GPTNeoXForCausalLM
        257 tokens, 2048 positions; the weights have standard deviation hidden_size^-1/2, so that its logits differ
        by about 1. A GPT-NeoX rotates a quarter of each head's channels, as Pythia does.
    tokenizer : PreTrainedTokenizerFast
    """
    tokenizer = byte_tokenizer()
    config = _random_config(source, tokenizer)
    # drawn in float32 and rounded: the same weights in every dtype; `.to(dtype)` would round the rotary frequencies too
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source["seed"])
        weights = build_model(config, dtype=torch.float32).state_dict()
        model = build_model(config, dtype=torch.bfloat16 if dtype == "auto" else dtype)
    model.load_state_dict(weights)
    return model, tokenizer


def from_gguf(path, *, dtype=torch.bfloat16):
    """The model and tokenizer of a GGUF file, dequantised.

    Raises
    ------
    ValueError
        If the model or tokenizer is of a kind not supported here.
    """
    path = Path(path)
    tokenizer = gguf_tokenizer(path)
    with _no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.bfloat16 if dtype == "auto" else dtype
        )
    _family(model.config.model_type)
    return _mark_head(model).eval(), tokenizer


def _random_config(source: dict, tokenizer):
    hidden, heads = source["hidden_size"], source["heads"]
    if heads % source.get("kv_heads", heads):
        raise ValueError(f"heads ({heads}) must be a multiple of kv_heads ({source['kv_heads']})")
    if hidden % (8 * heads):
        raise ValueError(f"hidden_size {hidden} must be a multiple of 8 x heads ({heads}): rotary embeddings need it")
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": source["layers"],
        "num_attention_heads": heads,
        "max_position_embeddings": 2048,
        "initializer_range": hidden**-0.5,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if source["architecture"] == "llama":
        return LlamaConfig(num_key_value_heads=source.get("kv_heads", heads), **common)
    if source["architecture"] == "gpt_neox":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
        return GPTNeoXConfig(rope_parameters=rope, **common)
    raise ValueError(f"unknown architecture {source['architecture']!r}; known: {', '.join(sorted(FAMILIES))}")


def resolve_dtype(dtype):
    """A torch dtype from its name ("bfloat16"); "auto" and torch dtypes pass through.

    Raises
    ------
    ValueError
        If torch has no floating-point dtype of that name.
    """
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    resolved = getattr(torch, str(dtype), None)
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise ValueError(f"unknown dtype {dtype!r}; use auto, bfloat16, float16, float32 or float64")
    return resolved


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
        return import_module("specpress.hub").download_model(repo)
    except ValueError as error:
        raise FileNotFoundError(
            f"{repo!r} is neither a directory here nor a repository of the model hub: {error}; "
            "give the directory of a model that is on this machine"
        ) from error


def _config(directory: Path):
    """What config.json says; no code beside it is run."""
    file = directory / "config.json"
    try:
        _family(json.loads(file.read_text(encoding="utf-8")).get("model_type"))
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
        with _no_progress_bars():
            model, found = _family(config.model_type).from_pretrained(directory, config=config, dtype=dtype, **options)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the weights of {directory} cannot be read ({error}): get them again") from error
    wrong = [*sorted(found["missing_keys"]), *(key for key, *_ in found["mismatched_keys"])]
    if wrong:
        raise ValueError(
            f"{directory}: {len(wrong)} weights are missing or of another shape than config.json says, such as "
            f"{wrong[0]}; config.json and weights must be of one model"
        )
    return model


def _family(model_type: str) -> type:
    if model_type not in FAMILIES:
        raise ValueError(
            f"model family {model_type!r} is not supported; supported: {', '.join(sorted(FAMILIES))} "
            "(Llama, SmolLM2, ... and Pythia, GPT-NeoX)"
        )
    return FAMILIES[model_type]


def _check_head(token_ids: list[int], config) -> None:
    if not token_ids or sorted(set(token_ids)) != list(token_ids):
        raise ValueError("config.head_token_ids must be a non-empty list of increasing token ids")
    if token_ids[0] < 0 or token_ids[-1] >= config.vocab_size:
        raise ValueError(
            f"config.head_token_ids run from {token_ids[0]} to {token_ids[-1]}, "
            f"outside the vocabulary of {config.vocab_size} tokens"
        )
    if config.tie_word_embeddings:
        raise ValueError("a head over part of the vocabulary cannot be tied: set config.tie_word_embeddings to False")


def _mark_head(model):
    token_ids = getattr(model.config, "head_token_ids", None)
    ids = None if token_ids is None else torch.tensor(token_ids, dtype=torch.long)
    # a buffer, so that the ids follow the model to its device
    model.register_buffer("head_token_ids", ids, persistent=False)
    return model


def _load_tokenizer(directory: Path):
    if not any((directory / name).is_file() for name in _TOKENIZER_FILES):
        warnings.warn(f"{directory} holds no tokenizer; load_model returns None for it", stacklevel=3)
        return None
    try:
        return AutoTokenizer.from_pretrained(directory)
    except (ValueError, OSError) as error:
        raise ValueError(f"the tokenizer of {directory} cannot be read ({error}): get its files again") from error


@contextlib.contextmanager
def _no_progress_bars():
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
