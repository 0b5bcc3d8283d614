"""The model of a draft: the first layers of its target or a head on its states, over part of the vocabulary."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from specpress.models.build import build_model, with_layers
from specpress.study.draft_config import DraftError
from specpress.training.lesson import Lesson


def head_tokens(windows: torch.Tensor, size: int, vocabulary: int, always: list[int]) -> torch.Tensor:
    """The sorted ids (size,) of the tokens a head of `size` rows covers: `always`, then the most frequent in `windows`.

    Tokens of equal frequency come in the order of their ids. `vocabulary` is the size of the full vocabulary.

    Raises
    ------
    DraftError
        If `size` is too small for the tokens in `always`.
    """
    special = _special(always, size, vocabulary)
    return heaviest(torch.bincount(windows.flatten(), minlength=vocabulary), size, special)


def tokens_by_mass(lesson: Lesson, size: int, vocabulary: int, always: list[int]) -> torch.Tensor:
    """`head_tokens` by the mass that the target gives each token in its laws of a text, as far as it is known."""
    special = _special(always, size, vocabulary)
    mass = torch.zeros(vocabulary, dtype=torch.float64)
    mass.scatter_add_(0, lesson.top.flatten().long(), lesson.logs.flatten().double().exp())
    return heaviest(mass, size, special)


def heaviest(weights: torch.Tensor, size: int, always: list[int]) -> torch.Tensor:
    """The sorted ids of the `size` heaviest tokens, `always` among them; `weights` (vocabulary,)."""
    weights[always] = weights.max() + 1
    return weights.argsort(descending=True, stable=True)[:size].sort().values


def _special(always: list[int], size: int, vocabulary: int) -> list[int]:
    special = sorted({token for token in always if token is not None and token < vocabulary})
    if size < len(special):
        raise DraftError(
            f"vocabulary: {size} tokens cannot hold the {len(special)} special tokens, which it always has"
        )
    return special


def cut_draft(target: nn.Module, *, layers: int, token_ids: torch.Tensor, mlp_width: int | None = None) -> nn.Module:
    """A float32 draft of the target's first layers, ready to be trained: its embeddings are frozen.

    Parameters
    ----------
    target : causal LM of a family in `specpress.models.families`
    layers : int
    token_ids : LongTensor (k,)
        Sorted ids of the tokens the output head covers; its rows are the target's. With all of them and all layers
        the draft is the target.
    mlp_width : int or None
        Units of each MLP to keep, those of the largest weights; None keeps all.

    Raises
    ------
    DraftError
        If the target has fewer layers, or narrower ones.
    """
    check_size(layers, len(token_ids), target.config, mlp_width=mlp_width)
    weights = target.state_dict()
    narrowed = narrow(weights, target, mlp_width) if mlp_width else weights
    return _cut(target, narrowed, token_ids, {"num_hidden_layers": layers} | _width(mlp_width))


def cut_head(
    target: nn.Module,
    *,
    features: Sequence[int],
    token_ids: torch.Tensor,
    layers: int = 1,
    mlp_width: int | None = None,
) -> nn.Module:
    """`cut_draft` with an input for the outputs of these layers of the target: a feature head, to be trained.

    Before training it says what the draft does (see `specpress.models.feature_head`).
    """
    check_size(layers, len(token_ids), target.config, features=features, mlp_width=mlp_width)
    weights = target.state_dict()
    narrowed = narrow(weights, target, mlp_width) if mlp_width else weights
    changes = {"num_hidden_layers": layers, "feature_layers": list(features)}
    head = _cut(target, narrowed, token_ids, changes | _width(mlp_width))
    head.feature_input.begin(target.get_input_embeddings().weight)
    return head


def _cut(target: nn.Module, weights: dict, token_ids: torch.Tensor, changes: dict) -> nn.Module:
    """A model of the target's configuration with `changes`, and of `weights` those that it has."""
    config = copy.deepcopy(target.config)
    config.update({"tie_word_embeddings": False, **changes, **with_layers(config, changes["num_hidden_layers"])})
    if len(token_ids) < config.vocab_size:
        config.head_token_ids = token_ids.tolist()
    draft = build_model(config, dtype=torch.float32).to(target.device)
    kept = {name: weights[name] for name in draft.state_dict() if name in weights}
    own = {name: tensor for name, tensor in draft.state_dict().items() if name.startswith("feature_input.")}
    draft.load_state_dict(own | kept | _head(draft, target, token_ids))
    draft.get_input_embeddings().requires_grad_(False)
    draft.set_attn_implementation("sdpa")
    return draft


def _width(mlp_width: int | None) -> dict:
    return {"intermediate_size": mlp_width} if mlp_width else {}


def narrow(weights: dict[str, torch.Tensor], target: nn.Module, width: int) -> dict[str, torch.Tensor]:
    """The weights with `width` units of each MLP: those whose weights, in and out, multiply to the largest lengths.

    DraftError for a family whose MLP has gate and up in one map.
    """
    wide, narrowed = target.config.intermediate_size, dict(weights)
    for prefix in {name.partition(".mlp.")[0] for name in weights if ".mlp." in name}:
        parts = {name: weights[name] for name in weights if name.startswith(f"{prefix}.mlp.")}
        into = {name: tensor for name, tensor in parts.items() if tensor.shape[0] == wide}
        out = {name: tensor for name, tensor in parts.items() if tensor.dim() == 2 and tensor.shape[1] == wide}
        if not into:
            raise DraftError("mlp_width: this family has gate and up in one map, which is not cut: leave it out")
        sizes = [t.float().norm(dim=1) for t in into.values() if t.dim() == 2]
        sizes += [t.float().norm(dim=0) for t in out.values()]
        units = torch.stack(sizes).log().sum(0).topk(width).indices.sort().values
        narrowed |= {name: tensor[units] for name, tensor in into.items()}
        narrowed |= {name: tensor[:, units] for name, tensor in out.items()}
    return narrowed


def _head(draft: nn.Module, target: nn.Module, token_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    head = draft.get_output_embeddings().weight
    name = next(name for name, parameter in draft.named_parameters() if parameter is head)
    return {name: target.get_output_embeddings().weight[token_ids]}


def check_size(
    layers: int, vocabulary: int, target_config, *, features: Sequence[int] = (), mlp_width: int | None = None
) -> None:
    """Refuse a draft larger than its target, or a head that reads layers it has not.

    Raises
    ------
    DraftError
    """
    if features and max(features) > target_config.num_hidden_layers:
        raise DraftError(f"features: layer {max(features)} asked for, the target has {target_config.num_hidden_layers}")
    if mlp_width and mlp_width > target_config.intermediate_size:
        raise DraftError(f"mlp_width: {mlp_width} asked for, the target has {target_config.intermediate_size}")
    if layers > target_config.num_hidden_layers:
        raise DraftError(f"layers: {layers} asked for, the target has {target_config.num_hidden_layers}")
    if vocabulary > target_config.vocab_size:
        raise DraftError(f"vocabulary: {vocabulary} tokens asked for, the target has {target_config.vocab_size}")


def round_weights(draft: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights in `dtype`. `draft.to(dtype)` would also round the frequencies of the rotary embeddings."""
    for parameter in draft.parameters():
        parameter.data = parameter.data.to(dtype)
    if hasattr(draft, "feature_input"):
        draft.feature_input.to(dtype)
