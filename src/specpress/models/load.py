"""Models on disk: causal LMs of known families, and the drafts trained here, whose head covers part of the vocabulary.

A draft's directory is an ordinary Hugging Face directory with one more key in config.json, `head_token_ids`: the
sorted ids of the full vocabulary that the rows of its output head stand for.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers.initialization import no_init_weights

from specpress.hardware.devices import resolve_device
from specpress.models.build import build_model, mark_head, resolve_dtype
from specpress.models.config import MERGE_ADAPTER, first_line, read_config
from specpress.models.families import family_of
from specpress.models.quantized import quantize_model, require_kernels, with_empty_codes
from specpress.models.quiet import transformers_quiet
from specpress.models.tokenizers import Tokenizers
from specpress.models.vocabulary import know_tokens

_KEYS_OF_OUR_OWN = ("head_token_ids", "feature_layers")  # of config.json, that transformers knows nothing of
_FLOATING = {"F64", "F32", "F16", "BF16"}  # as safetensors calls them
_HUB_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def load_model(path_or_repo, *, dtype="auto", device="auto", weights=None):
    """Load a causal LM of a family in `specpress.models.families` for inference, with its tokenizer.

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
    model : of the family's class, such as LlamaForCausalLM
        In eval mode. `model.head_token_ids` is None when the output head covers the whole vocabulary; otherwise a
        LongTensor (k,): logit i of the k logits belongs to token `head_token_ids[i]`. `model.vocabulary` are the
        tokens of the tokenizer; logits beyond them, of a padded vocabulary, get no mass in decoding.
    tokenizer : PreTrainedTokenizerBase or None
        None, with a warning, only if the directory holds no tokenizer.

    Raises
    ------
    FileNotFoundError
        If there is no such directory, or it is not a model directory, or without weights as safetensors.
    ValueError
        If the model belongs to another family, is quantised by others or an adapter, its weights are not those that
        config.json speaks of, or they cannot be held as `weights` says, here or at all.
    """
    return load_with(Tokenizers(), path_or_repo, dtype=dtype, device=device, weights=weights)


def load_with(tokenizers: Tokenizers, path_or_repo, *, dtype="auto", device="auto", weights=None):
    """`load_model` of a model that shares its tokenizer with those loaded before, if it is among `tokenizers`."""
    directory, device = _model_directory(path_or_repo), resolve_device(device)
    config, dtype = read_config(directory), resolve_dtype(dtype)
    held = getattr(config, "weights_format", None)
    _check_format(directory, held, weights, device)
    if not any(directory.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{directory} holds no weights as *.safetensors. Pickled weights (*.bin) can run code when they are "
            "read, so they never are; convert them where you trust them: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    _check_dtypes(directory, held)
    tokenizer, vocabulary = tokenizers.of(directory, config.model_type)  # first: weights take longer
    of_our_own = held is not None or any(getattr(config, key, None) is not None for key in _KEYS_OF_OUR_OWN)
    model = mark_head((_written_here if of_our_own else _pretrained)(directory, config, dtype))
    if weights != held and weights is not None:
        quantize_model(model, weights)
    return know_tokens(model.to(device).eval(), vocabulary), tokenizer


def _check_format(directory: Path, held: str | None, wanted: str | None, device) -> None:
    if held and wanted and held != wanted:
        raise ValueError(
            f"{directory} holds its weights in {held}, not {wanted}: leave `weights` out, or prepare it anew"
        )
    if held or wanted:
        require_kernels(wanted or held, device)


def _check_dtypes(directory: Path, held: str | None) -> None:
    """Refuse weights that are no floating-point numbers: read as such they would be those of another model."""
    for path in sorted(directory.glob("*.safetensors")) if held is None else ():
        with _readable(directory), safe_open(path, "pt") as file:
            kinds = {file.get_slice(name).get_dtype(): name for name in file.keys() if name.endswith(".weight")}  # noqa: SIM118
        if others := sorted(kinds.keys() - _FLOATING):
            raise ValueError(
                f"{path}: {kinds[others[0]]} is stored as {others[0]}, which is not decoded here; give the model in "
                "bfloat16, float16 or float32, from which it was made"
            )


def _model_directory(path_or_repo) -> Path:
    path = Path(path_or_repo)
    if not path.exists() and isinstance(path_or_repo, str) and _HUB_REPOSITORY.fullmatch(path_or_repo):
        return _download(path_or_repo)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is not a directory; give the directory of a model (the one that holds config.json), "
            "or let the workflow make it: snakemake <that directory>/manifest.json"
        )
    if (path / "adapter_config.json").is_file():
        raise ValueError(f"{path} holds an adapter (LoRA), not a whole model: {MERGE_ADAPTER}")
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


def _pretrained(directory: Path, config, dtype):
    """The model of a directory, whose weights are all those of the files and no others."""
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    family = family_of(config.model_type).model
    with _readable(directory), transformers_quiet():
        model, found = family.from_pretrained(directory, config=config, dtype=dtype, **options)
    _check_weights(
        directory, found["missing_keys"], found["unexpected_keys"], [k for k, *_ in found["mismatched_keys"]]
    )
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False  # the files hold two that differ, whatever config.json says
    return model


def _written_here(directory: Path, config, dtype):
    """The model of a directory that transformers alone cannot read: a head over part of the vocabulary, codes."""
    with _readable(directory):
        with no_init_weights():  # a second for numbers that are not used
            model = build_model(config, dtype=None if dtype == "auto" else dtype)
        model.tie_weights()  # which belongs to what was left out
        if (held := getattr(config, "weights_format", None)) is not None:
            model = with_empty_codes(model, held)
        weights = load_file(directory / "model.safetensors")
    wanted = model.state_dict()
    other = [name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape]
    _check_weights(directory, wanted.keys() - weights.keys(), weights.keys() - wanted.keys(), other)
    model.load_state_dict(weights)
    return model


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """What goes wrong while a model is made and its weights are read, as a ValueError that says where.

    transformers has no kinds of errors of its own for it: a config.json that contradicts itself ends in any.
    """
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the weights of {directory} cannot be read ({error}): get them again") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"{directory}: no model can be made of its config.json and weights ({said})") from error


def _check_weights(directory: Path, missing: Iterable[str], unknown: Iterable[str], mismatched: Iterable[str]) -> None:
    """Refuse weights that config.json does not speak of, and a config.json that speaks of others.

    Weights that are not there would be drawn at random, those that are not spoken of dropped: another model either way.
    """
    if wrong := [*sorted(missing), *sorted(mismatched)]:
        raise ValueError(
            f"{directory}: {len(wrong)} weights are missing or of another shape than config.json says, such as "
            f"{wrong[0]}; config.json and weights must be of one model"
        )
    if wrong := sorted(unknown):
        raise ValueError(
            f"{directory}: {len(wrong)} weights are not spoken of by config.json, such as {wrong[0]}, and would be "
            "dropped; config.json (attention_bias, num_hidden_layers, ...) and weights must be of one model"
        )
