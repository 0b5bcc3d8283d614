"""Models that are made, not loaded: of a configuration, of random weights, of a GGUF file."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from specpress.models.byte_level import byte_tokenizer, gguf_tokenizer
from specpress.models.families import FAMILIES, family_of
from specpress.models.feature_head import add_input
from specpress.models.gguf_blocks import gguf_blocks
from specpress.models.quantized import quantize_model
from specpress.models.quiet import transformers_quiet


def build_model(config, *, dtype=None):
    """A model of `config` with new weights, in eval mode on the CPU; its head is cut if the config says so.

    Parameters
    ----------
    config : of a family in `specpress.models.families`
        With `head_token_ids` (k sorted token ids) the output head has k rows and no bias; `vocab_size` stays the size
        of the full vocabulary, which the input embeddings keep. The loss of transformers (`labels=`) does not know
        about such a head. With `feature_layers` it is a feature head (see `specpress.models.feature_head`).
    dtype : torch.dtype, optional
        The config's dtype, if not given.

    Raises
    ------
    ValueError
        If the family is not supported, or `head_token_ids` do not fit the vocabulary.
    """
    family_of(config.model_type)
    token_ids = getattr(config, "head_token_ids", None)
    if token_ids is not None:
        _check_head(token_ids, config)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype or torch.get_default_dtype())
    if token_ids is not None:
        head = nn.Linear(config.hidden_size, len(token_ids), bias=False, dtype=model.dtype)
        nn.init.normal_(head.weight, std=config.initializer_range)
        model.set_output_embeddings(head)
    return mark_head(add_input(model)).eval()


def with_layers(config, layers: int) -> dict:
    """What a configuration says of the number of layers, for a model of the first `layers` of them."""
    kinds = getattr(config, "layer_types", None)
    return {"num_hidden_layers": layers, **({"layer_types": kinds[:layers]} if kinds else {})}


def random_model(source, *, dtype=torch.bfloat16):
    """A small model with seeded random weights and a byte-level tokenizer: for tests and the tiny study.

    Parameters
    ----------
    source : dict
        `architecture` (the name of a family), `hidden_size`, `layers`, `heads`, `seed`; and `kv_heads`, by default
        `heads`, which a GPT-NeoX has as many of.
    dtype : torch.dtype

    Returns
    -------
    model : of the family's class
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


def from_gguf(path, *, dtype=torch.bfloat16, weights=None):
    """The model and tokenizer of a GGUF file, dequantised; or, with `weights`, held in four or eight bits.

    Codes that the file holds in as many bits are kept as they are (see `specpress.models.gguf_blocks`).

    Raises
    ------
    ValueError
        If the model or tokenizer is of a kind not supported here.
    """
    from specpress.models.gguf_file import read_once  # gguf is for those who read such a file

    with read_once():
        return _from_gguf(Path(path), dtype, weights)


def _from_gguf(path: Path, dtype, weights: str | None):
    tokenizer = gguf_tokenizer(path)
    with transformers_quiet():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.bfloat16 if dtype == "auto" else dtype
        )
    family_of(model.config.model_type)
    if weights is not None:
        quantize_model(model, weights, gguf_blocks(path, model, weights))
    return mark_head(model).eval(), tokenizer


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
    if source["architecture"] not in FAMILIES:
        raise ValueError(f"unknown architecture {source['architecture']!r}; known: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[source["architecture"]].small_config(source.get("kv_heads", heads), **common)


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


def mark_head(model):
    """Give the model its `head_token_ids`: see `specpress.models.load.load_model`."""
    token_ids = getattr(model.config, "head_token_ids", None)
    ids = None if token_ids is None else torch.tensor(token_ids, dtype=torch.long)
    # a buffer, so that the ids follow the model to its device
    model.register_buffer("head_token_ids", ids, persistent=False)
    return model
