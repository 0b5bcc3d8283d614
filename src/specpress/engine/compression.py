"""Compression between forwards: a press scores the cache as it stands, then slots are evicted in position order.

kvpress compresses inside the prefill, each layer right after its attention. Here the same methods run after the
forward, on a view of the layer (`layer_view`) and on what it was given (`observation`). So one prefill serves several
presses, compression while decoding is the same call on a later cache, and no token's logits can depend on a later
token: the causality leak of compressing inside a forward cannot arise.

A press that scores slots (kvpress's ScorerPress) is asked for scores, and the best slots are gathered here, in position
order: repeated compression needs that (StreamingLLM's sinks and window are told by slot). Any other press runs its own
forward hook, as it would after its layer's attention.

A press sees one row of a batch after another, each as if it were alone: some of kvpress's choose for all rows by the
first (ChunkKVPress) or by what they have together (SimLayerKVPress, CriticalAdaKVPress).

While decoding, a press is shown the hidden states of the last `recent_tokens` tokens, whoever else compresses by the
same observations: as many as the buffer of kvpress's DecodingPress holds. Unlike that buffer, they outlive a
compression: the interval may be shorter than the window that a press needs.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import Tensor

from specpress.engine.cache import PreallocatedCache, PreallocatedLayer
from specpress.engine.compression_settings import always_kept, needs_attention_weights, recent_tokens
from specpress.engine.layer_view import LayerView, layer_view
from specpress.engine.observation import LayerObservation, Observations, observed_attention
from specpress.engine.scores import Scores
from specpress.files.program import is_lack_of_memory

__all__ = ["compress", "observed_attention"]


@torch.inference_mode()
def compress(
    cache: PreallocatedCache,
    press,
    observations: Observations,
    budget: int | None = None,
    decoding: bool = False,
    scores: Scores | None = None,
) -> None:
    """Let `press` evict slots in every layer. One with no more slots than it always keeps stays as it is.

    Parameters
    ----------
    cache : holds committed tokens only
    observations : of the forwards on this cache; those far beyond their `limit` are dropped
    press : a kvpress press
    budget : the most slots to keep in a layer, for presses that score slots
    decoding : bool, whether tokens have come after the prompt; the press's ratio is meant for the prompt alone, where
        the smaller of both numbers of slots is kept
    scores : those of copies of this very cache, if there are any

    Raises
    ------
    ValueError
        If the press fails on this cache, or what it needs was not observed.
    """
    press.post_init_from_model(observations.model)
    recent = None if observations.limit is None else recent_tokens(press)
    before, position = cache.slots, cache.position
    with _Seeded(cache.seen, cache.layers[0].keys) as chances:
        for layer, seen in zip(cache.layers, observations.layers, strict=True):
            seen.cut(cache.seen)
            if seen.end != cache.seen:
                raise ValueError(f"the cache has seen {cache.seen} tokens, of which {seen.end} were observed")
            shown = seen if recent is None else seen.last(recent)
            view = layer_view(observations.model, seen.layer, offset=position - shown.hidden_states.shape[1])
            _compress_layer(layer, press, view, shown, budget, decoding, scores, chances)
    if rotates_back(press):
        cache.moved_back += before - cache.slots
    observations.trim()


def scorer_of(press):
    """The ScorerPress that chooses the slots `press` keeps, or None if the press evicts in a way of its own."""
    from kvpress import KeyRerotationPress, ScorerPress

    press = press.press if isinstance(press, KeyRerotationPress) else press
    return press if isinstance(press, ScorerPress) and type(press).compress is ScorerPress.compress else None


def rotates_back(press) -> bool:
    """Whether the press gives the keys it keeps consecutive positions from 0 (StreamingLLM, section 3.2)."""
    from kvpress import KeyRerotationPress

    return isinstance(press, KeyRerotationPress)


def _compress_layer(
    layer: PreallocatedLayer,
    press,
    view: LayerView,
    seen: LayerObservation,
    budget: int | None,
    decoding: bool,
    known: Scores | None,
    chances: "_Seeded",
) -> None:
    scorer, tokens = scorer_of(press), seen.hidden_states.shape[1]
    try:
        if layer.slots <= always_kept(press):  # as a draft's copy of a small cache may be
            return
        if scorer is None:
            _run_hooks(layer, press, view, seen, chances)
            return
        kept = _slots_to_keep(layer.slots, 0 if decoding else scorer.compression_ratio, budget)
        if kept < layer.slots:
            with _keeping(scorer, kept, layer.slots):
                scores = _scores(scorer, layer, view, seen, known, chances)
            _keep_best(layer, view, _rounded(scores) if decoding else scores, kept, rotates_back(press))
    except Exception as error:
        if not isinstance(error, AssertionError) and not _is_of_kvpress(error):
            raise
        raise ValueError(
            f"{type(press).__name__} cannot compress a cache of {layer.slots} slots after {tokens} tokens: "
            f"{str(error) or type(error).__name__}"
        ) from error


def _shown(layer: PreallocatedLayer, press, view: LayerView, seen: LayerObservation) -> Iterator[tuple]:
    """What a press is given of each row: hidden states, keys, values, attention weights, and the layer's arguments."""
    counted = torch.arange(seen.hidden_states.shape[1], device=seen.hidden_states.device)
    placed = {
        "position_embeddings": view.rotary_emb(seen.hidden_states, counted[None]),
        "position_ids": counted[None],
        "cache_position": counted,
    }
    keys, weighed = view.shown(layer.keys), needs_attention_weights(press) and seen.attentions is not None
    for row in (slice(r, r + 1) for r in range(len(keys))):
        hidden_states = seen.hidden_states[row]
        arguments = {"hidden_states": hidden_states, **placed}
        yield hidden_states, keys[row], layer.values[row], seen.attentions[row] if weighed else None, arguments


def _scores(scorer, layer: PreallocatedLayer, view: LayerView, seen: LayerObservation, known, chances) -> Tensor:
    """Of every slot, (batch, KV heads, slots)."""
    rows = []
    for r, given in enumerate(_shown(layer, scorer, view, seen)):
        with chances.of(r):
            if known is None:
                rows.append(scorer.score(view, *given))
            else:
                place = (view.layer_idx, r)
                rows.append(known.of(scorer, place, lambda scoring, given=given: scoring.score(view, *given)))
    return torch.cat(rows)


def _run_hooks(layer: PreallocatedLayer, press, view: LayerView, seen: LayerObservation, chances: "_Seeded") -> None:
    """Let a press evict, or hide, in its own way.

    Raises ValueError if it keeps other numbers of slots of one row than of another.
    """
    rows, masked = [], []
    for r, (_, keys, values, attentions, arguments) in enumerate(_shown(layer, press, view, seen)):
        held = SimpleNamespace(keys=keys, values=values)
        arguments["past_key_values"] = SimpleNamespace(layers={view.layer_idx: held})
        view.masked_key_indices = None
        with chances.of(r):
            press.forward_hook(view, [], arguments, [None, attentions])
        rows.append((view.restored(held.keys), held.values))
        if view.masked_key_indices is not None:
            batch, heads, slots = view.masked_key_indices
            masked.append((batch + r, heads, slots))
    if len({keys.shape[2] for keys, _ in rows}) > 1:
        raise ValueError(
            f"{type(press).__name__} keeps different numbers of slots of the rows of this batch: take another press, "
            "or decode one sequence at a time"
        )
    layer.replace(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    if masked:
        layer.hide(*(torch.cat(parts) for parts in zip(*masked, strict=True)))


def _is_of_kvpress(error: Exception) -> bool:
    """Whether kvpress failed on its parameters; what a method needs, one of ours too, it states as an assertion."""
    if is_lack_of_memory(error):
        return False
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == "kvpress" for name in modules)


def _slots_to_keep(slots: int, ratio: float, budget: int | None) -> int:
    from kvpress.utils import compute_n_kept

    return min(compute_n_kept(slots, ratio) if ratio else slots, slots if budget is None else budget)


def _keep_best(layer: PreallocatedLayer, view: LayerView, scores: Tensor, kept: int, rotate: bool) -> None:
    from kvpress import KeyRerotationPress

    slots = scores.topk(kept, dim=-1).indices.sort(dim=-1).values
    turned = KeyRerotationPress.rerotate_keys(view, slots, view.shown(layer.keys)) if rotate else None
    layer.evict(slots)
    if rotate:
        layer.keys = view.restored(turned)


def _rounded(scores: Tensor) -> Tensor:
    """Scores to 16 bits: what differs by rounding alone, ties.

    A token that occurs twice has two keys of one norm in the first layer. Were the last bit to choose between them, the
    choice would depend on how many tokens were fed at once, and drafting would change the output.
    """
    mantissa, exponent = torch.frexp(scores.float())
    return torch.ldexp((mantissa * 2**16).round(), exponent - 16)


@contextmanager
def _keeping(scorer, kept: int, slots: int):
    """Give the press the ratio that keeps `kept` of `slots`: scores may depend on it (StreamingLLM's do)."""
    from kvpress.utils import compute_n_kept

    ratio = scorer.compression_ratio
    if compute_n_kept(slots, ratio) != kept:
        scorer.compression_ratio = 1 - (kept + 0.5) / slots
    try:
        yield
    finally:
        scorer.compression_ratio = ratio


class _Seeded:
    """Presses that draw random numbers draw the same ones whenever the cache has seen as many tokens, in every row.

    Parameters
    ----------
    seed : int
    keys : Tensor (rows, ...), on the device they draw on
    """

    def __init__(self, seed: int, keys: Tensor):
        self._seed, self._rows, self._device = seed, len(keys), keys.device
        self._forked = torch.random.fork_rng()

    def __enter__(self) -> "_Seeded":
        self._forked.__enter__()
        torch.default_generator.manual_seed(self._seed)  # torch.manual_seed spends a millisecond on absent devices
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(self._seed)
        self._states = [self._state()] * self._rows if self._rows > 1 else []
        return self

    def __exit__(self, *error) -> None:
        self._forked.__exit__(*error)

    @contextmanager
    def of(self, r: int):
        """Draw what row r draws next; layers follow each other, and rows within a layer."""
        if not self._states:  # a row alone
            yield
            return
        torch.default_generator.set_state(self._states[r][0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._states[r][1], self._device)
        yield
        self._states[r] = self._state()

    def _state(self) -> tuple[Tensor, Tensor | None]:
        of_device = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return torch.default_generator.get_state(), of_device
