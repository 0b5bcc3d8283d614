"""Which models are decoded as they were meant, and up to which length; the others are refused before any work.

Decoding gives a model's own modules a cache and a mask of its own. What a family computes besides (windows of
attention, soft caps, states that are no keys and values) would be left out silently, so that only families are decoded
whose decoding the tests compare with transformers' own.
"""

from collections.abc import Collection, Iterable, Sequence

from torch import nn
from transformers import PretrainedConfig

from specpress.engine.forward import follows_length, forward_of
from specpress.models.config import check_heads
from specpress.models.families import FAMILIES, REFUSED

BY_THEIR_MODULES = ("gpt2",)  # decoded, but by transformers' own modules


def check_lengths(
    target: nn.Module,
    drafts: Iterable[nn.Module],
    lengths: Sequence[int],
    new: int,
    drafted: bool,
    unwindowed: Collection[nn.Module] = (),
) -> None:
    """Raise ValueError unless all models compute from prompts of these lengths on, by `new` tokens, what they should.

    Parameters
    ----------
    target : the model whose text it is
    drafts : models that propose tokens, whose law may be any
    lengths : tokens of each prompt, without padding
    drafted : whether several tokens of a text go through one forward
    unwindowed : those of the models that are run on no cache, or on one that a press compresses
    """
    for whose, model in (("the model", target), *(("the draft model", draft) for draft in drafts)):
        _check_family(model.config, whose)
        _check_dropout(model, whose)
        by_modules = forward_of(model) is None
        _check_window(model.config, whose, max(lengths) + new, by_modules or any(model is m for m in unwindowed))
    _check_rotary(target.config, lengths, new, drafted or len(set(lengths)) > 1)


def check_model(model: nn.Module, whose: str = "the model") -> None:
    """Raise ValueError unless `model` is a causal LM that is decoded here as transformers decodes it."""
    if isinstance(model, tuple | list):
        raise ValueError(
            f"{whose} must be a model, got a {type(model).__name__} of {len(model)}; load_model returns two things: "
            "model, tokenizer = load_model(...)"
        )
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or not isinstance(config, PretrainedConfig):
        raise ValueError(f"{whose} must be a transformers causal LM, such as load_model returns, got {_kind(model)}")
    if model.get_output_embeddings() is None:
        raise ValueError(f"{whose} has no output head over tokens, got {_kind(model)}; load it as a causal LM")
    check_heads(config)


def _check_family(config, whose: str) -> None:
    known = sorted({*FAMILIES, *BY_THEIR_MODULES})
    if config.model_type not in known:
        reason = f": {REFUSED[config.model_type]}; decoded are" if config.model_type in REFUSED else ", only"
        raise ValueError(
            f"{whose} is of the family {config.model_type!r}, which is not decoded here{reason} {', '.join(known)}"
        )


def _check_dropout(model: nn.Module, whose: str) -> None:
    config = model.config
    dropped = [p for name in ("attention", "hidden", "resid", "embd") for p in _dropout(config, name)]
    if model.training and any(dropped):
        raise ValueError(f"{whose} is in training mode and would drop activations at random: call model.eval() first")


def _dropout(config, name: str) -> list[float]:
    return [p for suffix in ("dropout", "pdrop") if (p := getattr(config, f"{name}_{suffix}", None))]


def _check_window(config, whose: str, length: int, unwindowed: bool) -> None:
    """A text that goes past a window of attention is refused where the window would not be kept to.

    It is kept to by the engine's pass on a cache of all tokens: a press leaves slots from which windows cannot be told.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ValueError(f"{whose} has layers of the kind {', '.join(sorted(kinds))}, which are not decoded here")
    window = getattr(config, "sliding_window", None)
    if not unwindowed or not window or getattr(config, "use_sliding_window", True) is False or length <= window:
        return
    raise ValueError(
        f"{whose} attends to windows of {window} tokens, and a text of {length} goes past them, which only decoding by "
        "the engine's own pass and without a press can keep to: leave out the press, give a shorter prompt or ask for "
        "fewer tokens, or take a model without sliding windows"
    )


def _check_rotary(config, lengths: Sequence[int], new: int, together: bool) -> None:
    """Rotary frequencies that change at a length would do so in the middle of a forward.

    Decoded token by token they change with the token, as in transformers; tokens that are verified `together`, or
    beside those of a longer text, would have the frequencies of the last of them. Of a Phi-3 transformers drops the
    whole cache at the change, as its keys do not fit the queries after it: that is not done here.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if not follows_length(rope.get("rope_type", "default")):
        return
    first = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    if (rope["rope_type"] == "longrope" and min(lengths) > first) or max(lengths) + new <= first:
        return
    crossing = (
        f"the model's rotary embedding ({rope['rope_type']}) changes at {first} tokens, where prompts of "
        f"{min(lengths)} tokens and {new} new ones cross it"
    )
    if config.model_type == "phi3":
        raise ValueError(
            f"{crossing}: a Phi-3 would have to read its whole text anew there, which is not done here. Give prompts "
            f"of more than {first} tokens, or ask for fewer new ones, so that all stay within {first}"
        )
    if together:
        raise ValueError(
            f"{crossing}: drafted or batched tokens would not be those decoded one by one. Decode such a text alone "
            f"and without a drafter, or keep to {first} tokens"
        )


def _kind(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"an object of {type(thing).__name__}"
