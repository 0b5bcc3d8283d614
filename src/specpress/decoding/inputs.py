"""What can be decoded: refusals of bad input, before any work."""

from collections.abc import Iterable
from numbers import Integral
from operator import index

import torch
from torch import Tensor, nn

from specpress.models.families import FAMILIES


def check_prompt(model: nn.Module, input_ids: Tensor, max_new_tokens: int) -> None:
    """Raise ValueError unless `model` can go on from `input_ids`, (batch, prompt_len), by `max_new_tokens` tokens."""
    check_tokens(model, input_ids)
    if not isinstance(max_new_tokens, Integral) or isinstance(max_new_tokens, bool):
        raise ValueError(f"max_new_tokens must be a whole number, got {max_new_tokens!r}")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    check_context(model, input_ids.shape[1], max_new_tokens, "the model's")


def check_tokens(model: nn.Module, input_ids: Tensor, whose: str = "the model's") -> None:
    """Raise ValueError unless `input_ids` are tokens of `model`, LongTensor (batch, n)."""
    if not isinstance(input_ids, Tensor):
        raise ValueError(f"input_ids must be a LongTensor (batch, prompt_len), got {_described(input_ids)}")
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must be (batch, prompt_len), got shape {tuple(input_ids.shape)}")
    batch, prompt = input_ids.shape
    if prompt == 0 or batch == 0:
        raise ValueError("the prompt is empty: give at least one token, such as the beginning-of-text token")
    whole = input_ids.dtype in (torch.int64, torch.int32)
    if not whole or not 0 <= int(input_ids.min()) <= int(input_ids.max()) < model.config.vocab_size:
        raise ValueError(
            f"input_ids must be integers from 0 to {model.config.vocab_size - 1}, {whose} vocabulary; "
            "was the prompt tokenized with another model's tokenizer?"
        )


def _described(thing: object) -> str:
    """What was given in place of token ids, and how to make token ids of it."""
    if isinstance(thing, str):
        return 'text; give its tokens: tokenizer(text, return_tensors="pt").input_ids'
    if hasattr(thing, "keys"):
        return f'a {type(thing).__name__}; give its tensor: tokenizer(text, return_tensors="pt").input_ids'
    if isinstance(thing, list | tuple) and thing and isinstance(thing[0], str):
        return 'a list of texts; give their tokens: tokenizer(texts, return_tensors="pt", padding=True)'
    if isinstance(thing, list | tuple):
        return f"a {type(thing).__name__}; give torch.tensor([...]), a row a prompt"
    return f"an object of {type(thing).__name__}"


def check_context(model: nn.Module, prompt: int, new: int, whose: str) -> None:
    """Raise ValueError unless `prompt` + `new` tokens fit the context that `model` was trained for."""
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompt + new > context:
        ways = [f"shorten the prompt to {context - new} tokens"] if new < context else []
        ways += [f"ask for at most {context - prompt} new ones"] if prompt < context else []
        raise ValueError(
            f"a prompt of {prompt} tokens and {new} new ones do not fit {whose} context of {context} "
            f"tokens; {' or '.join(ways) or f'shorten the prompt, and ask for fewer than {context} new ones'}"
        )


def check_family(model: nn.Module) -> None:
    """Raise ValueError unless presses know how to look into `model`."""
    if model.config.model_type not in FAMILIES:
        raise ValueError(
            f"presses do not support model family {model.config.model_type!r}, only {', '.join(sorted(FAMILIES))}; "
            "leave out the press"
        )


def left_padding(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
    """The mask as LongTensor (batch, prompt_len) on the host, 1 for real tokens, 0 for padding; None without padding.

    Raises
    ------
    ValueError
        If a row has no real token, or padding anywhere but on the left.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != input_ids.shape:
        shapes = f"{tuple(input_ids.shape)}, got {tuple(attention_mask.shape)}"
        raise ValueError(f"attention_mask must have the shape of input_ids, {shapes}")
    mask = (attention_mask != 0).long().cpu()
    if not mask.any(1).all():
        raise ValueError("a prompt of the batch is empty: attention_mask hides a whole row")
    if (mask.diff(dim=1) < 0).any():
        raise ValueError('attention_mask must hide padding on the left alone: pad with tokenizer.padding_side = "left"')
    return None if mask.all() else mask


def token_set(eos_token_id: int | Iterable[int] | None) -> frozenset[int]:
    """End-of-text tokens as a set."""
    if eos_token_id is None:
        return frozenset()
    try:
        return frozenset([index(eos_token_id)])
    except TypeError:  # several
        return frozenset(map(index, eos_token_id))


def until_end(tokens: Tensor, stop_tokens: frozenset[int]) -> Tensor:
    """Tokens, LongTensor (n,), up to and including the first end-of-text token."""
    ends = [i for i, token in enumerate(tokens.tolist()) if token in stop_tokens]
    return tokens[: ends[0] + 1] if ends else tokens
