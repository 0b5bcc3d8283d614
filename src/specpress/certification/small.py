"""Models over three tokens with random weights, and drafters on them: all that they do can be written down."""

import copy
import inspect
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from specpress.models.build import build_model
from specpress.presses import get_press
from specpress.speculation.drafter import Drafter

VOCABULARY = 3
_SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 512}
_KINDS = {"llama": (LlamaForCausalLM, LlamaConfig), "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig)}
FAMILIES = tuple(_KINDS)
_TARGET, _DRAFT, _MIDDLE = range(3)  # seeds


@cache
def model(family: str, seed: int = _TARGET, vocabulary: int = VOCABULARY) -> nn.Module:
    """A model of one layer whose laws are far from uniform and depend on all that came before."""
    kind, config = _KINDS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = kind(config(vocab_size=vocabulary, num_hidden_layers=1, bos_token_id=0, eos_token_id=0, **_SIZES))
    for parameter in made.parameters():
        parameter.data *= 12 if parameter.dim() > 1 else 1
    return made.eval()


def text(length: int, seed: int, vocabulary: int = VOCABULARY) -> Tensor:
    """Random tokens, LongTensor (length,): of so few, most have occurred before."""
    return torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(seed))


def maker(kind: Callable[..., Drafter], family: str, vocabulary: int = VOCABULARY) -> Callable[[], Drafter]:
    """A function that makes a fresh drafter of a class for a small target.

    Raises
    ------
    ValueError
        If the class has a parameter without a default that is none of a registered drafter's.
    """
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError) as error:  # of what is written in C
        raise ValueError(f"{getattr(kind, '__name__', kind)} makes no drafter: {error}") from error
    needed = [p.name for p in parameters if p.default is p.empty and p.kind < 2]
    if unknown := [name for name in needed if name not in _ARGUMENTS]:
        raise ValueError(
            f"{getattr(kind, '__name__', kind)} needs {', '.join(unknown)}, which certify cannot make up; it knows "
            f"{', '.join(_ARGUMENTS)}: give the parameter a default, or name a function that makes the drafter"
        )
    return lambda: kind(**{name: _ARGUMENTS[name](family, vocabulary) for name in needed})


def _without_models() -> list[Drafter]:
    from specpress.drafters import PromptLookup, SuffixLookup, TokenRecycling

    return [PromptLookup(), SuffixLookup(), TokenRecycling()]


def _draft(family: str, vocabulary: int) -> Drafter:
    from specpress.drafters import DraftModel

    return DraftModel(model(family, _DRAFT, vocabulary))


def _head(family: str, vocabulary: int) -> nn.Module:
    """A feature head on the target's one layer."""
    config = copy.deepcopy(model(family, _TARGET, vocabulary).config)
    config.update({"feature_layers": [1], "tie_word_embeddings": False})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_DRAFT)
        made = build_model(config, dtype=torch.float32)
    for parameter in made.parameters():
        parameter.data *= 12 if parameter.dim() > 1 else 1
    return made


# What the parameters of drafters are given, by name.
_ARGUMENTS: dict[str, Callable] = {
    "model": lambda family, vocabulary: model(family, _DRAFT, vocabulary),
    "intermediate_model": lambda family, vocabulary: model(family, _MIDDLE, vocabulary),
    "head": _head,
    "press": lambda family, vocabulary: get_press("knorm", compression_ratio=0.5),
    "drafter": _draft,
    "drafters": lambda family, vocabulary: [*_without_models(), _draft(family, vocabulary)],
}
