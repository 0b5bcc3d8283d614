"""The model of a draft: the first layers of its target, and a head over part of the vocabulary."""

import copy

import torch
from torch import nn

from specpress.models.build import build_model
from specpress.study.draft_config import DraftError


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


def _round_weights(draft: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights in `dtype`. `draft.to(dtype)` would also round the frequencies of the rotary embeddings."""
    for parameter in draft.parameters():
        parameter.data = parameter.data.to(dtype)
