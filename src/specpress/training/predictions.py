"""What a draft says in training: the logits of a draft model after each token, of a head along each of its chains."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from specpress.models.feature_head import feature_layers, normed
from specpress.training.lesson import Lesson


def predictions(draft: nn.Module, lesson: Lesson, unrolled: int = 1) -> Iterator[tuple[Tensor, int]]:
    """Pairs of logits, (n, places, k), and an offset: those at place i are of the law after token offset + i.

    A draft model gives one pair. A head gives `unrolled`: of the first token it drafts, the second, and so on.
    """
    if feature_layers(draft):
        yield from _chains(draft, lesson, unrolled)
    else:
        yield draft(lesson.tokens[:, :-1], use_cache=False).logits, 0


def covered(draft: nn.Module) -> Tensor:
    """Ids (k,) of the tokens a model's head covers."""
    ids = getattr(draft, "head_token_ids", None)
    return torch.arange(draft.config.vocab_size, device=draft.device) if ids is None else ids


def _chains(head: nn.Module, lesson: Lesson, unrolled: int) -> Iterator[tuple[Tensor, int]]:
    """A chain of drafted tokens from each place of the windows at once.

    The chain of place i begins with the target's states of token i. Its later steps are given the head's own output, as
    in drafting (EAGLE-3's training-time test; Li et al., 2025, section 3.2), the text's tokens, and see the target's
    states up to i and the steps of their own chain.
    """
    places = lesson.tokens.shape[1] - 2
    layers, norm = head.base_model.layers, _final_norm(head)
    place = "layer_past" if hasattr(layers[0], "attention") else "past_key_values"  # as GPT-NeoX, and others, name it
    embeddings = head.get_input_embeddings()(lesson.tokens)
    given = head.feature_input.condensed(lesson.states[:, :places].to(embeddings.dtype))
    cache, own = DynamicCache(), torch.eye(places, dtype=torch.bool, device=given.device)
    mask = torch.ones_like(own).tril()
    for step in range(unrolled):
        following = embeddings[:, 1 + step : 1 + step + places]
        following = F.pad(following, (0, 0, 0, places - following.shape[1]))
        hidden = head.feature_input(given, following)
        positions = torch.arange(step, step + places, device=given.device)[None]
        rotation = head.base_model.rotary_emb(hidden, positions)
        for layer in layers:
            hidden = layer(hidden, attention_mask=mask[None, None], position_embeddings=rotation, **{place: cache})
        yield head.get_output_embeddings()(norm(hidden)), 1 + step
        given, mask = normed(hidden), torch.cat([mask, own], 1)


def _final_norm(model: nn.Module) -> nn.Module:
    body = model.base_model
    return body.norm if hasattr(body, "norm") else body.final_layer_norm
