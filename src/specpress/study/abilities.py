"""What each press of the registry can do here, and why some cannot run. Nothing is imported: the workflow reads this.

Presses that are not named below evict after the prompt and while decoding, with any attention.
"""

from dataclasses import dataclass

from specpress.study.registry import PRESSES

EVICTS, PROMPT_ONLY, QUALITY_ONLY, REFUSED = "evicts", "evicts after the prompt", "quality only", "cannot run"


@dataclass(frozen=True)
class Ability:
    """What a press can do.

    status : EVICTS, PROMPT_ONLY (not under a cache budget), QUALITY_ONLY (saves no memory), or REFUSED
    reason : why it is not EVICTS; for REFUSED, what is missing and where to get it
    eager : it scores attention weights, so the prompt is read with eager attention
    even : it keeps as many slots in every layer and head, and hides none
    """

    status: str = EVICTS
    reason: str = ""
    eager: bool = False
    even: bool = True


_EVERY_TOKEN = "scores from the hidden states of every token, which are not kept while decoding"
_OWN_WAY = "evicts in a way of its own instead of scoring slots"
_LENGTHS = "keeps different numbers of slots in different layers"
_MASKS = "hides slots instead of evicting them, a different number in each head"
_BUDGET = (
    "compresses inside the forward that verifies drafted tokens; use cache_budget and compression_interval instead"
)
_REPLAY = "reads the prompt a second time through a patched forward, with the tokenizer of the model's hub name"

ABILITIES = {
    "adakv": Ability(QUALITY_ONLY, _MASKS, even=False),
    "block": Ability(PROMPT_ONLY, _EVERY_TOKEN),
    "cam": Ability(REFUSED, f"merges values while decoding: {_BUDGET}"),
    "chunk": Ability(PROMPT_ONLY, _OWN_WAY),
    "chunkkv": Ability(PROMPT_ONLY, "keeps whole chunks, of which the last of a text may be shorter", even=False),
    "compactor": Ability(PROMPT_ONLY, _EVERY_TOKEN),
    "composed": Ability(PROMPT_ONLY, _OWN_WAY),
    "compression_ratio_decoding": Ability(REFUSED, _BUDGET),
    "critical_adakv": Ability(QUALITY_ONLY, _MASKS, even=False),
    "decoding": Ability(REFUSED, _BUDGET),
    "dms": Ability(QUALITY_ONLY, _MASKS, even=False),
    "duo_attention": Ability(
        REFUSED, "needs attention patterns of the model: github.com/mit-han-lab/duo-attention, attn_patterns"
    ),
    "entropy_gated_chunkkv": Ability(PROMPT_ONLY, _OWN_WAY),
    "expected_attention_stats": Ability(
        REFUSED,
        "needs query statistics of the model: hub collection alessiodevoto/expectedattentionstats, or kvpress's script "
        "expected_attention_with_stats.py; expected_attention takes them from the prompt",
    ),
    "fastkvzip": Ability(REFUSED, "needs trained gates of the model: hub repository Jang-Hyun/Fast-KVzip"),
    "finch": Ability(REFUSED, "needs a delimiter token between context and question, added to model and tokenizer"),
    "kvcompose": Ability(REFUSED, f"{_REPLAY}, and eager attention; {_LENGTHS}"),
    "kvgrad": Ability(REFUSED, f"{_REPLAY} and a backward pass; {_MASKS}"),
    "kvzap": Ability(REFUSED, "needs a trained surrogate of the model: hub repositories nvidia/KVzap-*"),
    "kvzip": Ability(REFUSED, f"{_REPLAY}; {_MASKS}"),
    "leverage_score": Ability(PROMPT_ONLY, _EVERY_TOKEN),
    "lukv": Ability(REFUSED, "needs budget curves of the model: github.com/baidu-baige/LU-KV"),
    "merging": Ability(PROMPT_ONLY, _OWN_WAY),
    "non_causal_attn": Ability(PROMPT_ONLY, _EVERY_TOKEN),
    "observed_attention": Ability(PROMPT_ONLY, "scores attention weights, which exist after the prompt", eager=True),
    "per_layer_compression": Ability(PROMPT_ONLY, _LENGTHS, even=False),
    "prefill_decoding": Ability(REFUSED, _BUDGET),
    "pyramidkv": Ability(PROMPT_ONLY, _LENGTHS, even=False),
    "qfilter": Ability(REFUSED, "needs trained filters of the model: hub repositories nthngdy/*_qfilt"),
    "restorekv": Ability(REFUSED, "needs trained adapters of the model: hub repositories higokri/RestoreKV-*"),
    "simlayerkv": Ability(PROMPT_ONLY, _LENGTHS, even=False),
    "think": Ability(QUALITY_ONLY, "sets key channels to zero instead of evicting slots"),
}

_NAMES = {target.split(":")[1]: name for name, target in PRESSES.items()}


def ability_of(press) -> Ability:
    """What a press object can do: the least of what it and the presses inside it can."""
    found = [_of_class(type(press)), *(ability_of(inner) for inner in inner_presses(press))]
    worst = max(found, key=lambda ability: [EVICTS, PROMPT_ONLY, QUALITY_ONLY, REFUSED].index(ability.status))
    eager, even = any(ability.eager for ability in found), all(ability.even for ability in found)
    return Ability(worst.status, worst.reason, eager, even)


def inner_presses(press) -> list:
    """The presses that a wrapper was given."""
    return [*getattr(press, "presses", ()), *([press.press] if hasattr(press, "press") else [])]


def _of_class(kind: type) -> Ability:
    """The ability of a registered class or of the nearest one it derives from.

    A press of one's own that scores attention weights says so with a class attribute `needs_attention_weights = True`.
    """
    if getattr(kind, "needs_attention_weights", False):
        return ABILITIES["observed_attention"]
    for base in kind.__mro__:
        if base.__name__ in _NAMES:
            return ABILITIES.get(_NAMES[base.__name__], Ability())
    return Ability()
