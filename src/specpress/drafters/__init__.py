"""Drafters: where proposed tokens come from, one file each. Each object belongs to one `generate` call.

May import: speculation and below. Read first: prompt_lookup.py, then draft_model.py.
"""

from specpress.drafters.cascade import Cascade
from specpress.drafters.compressed_target import CompressedTarget
from specpress.drafters.draft_model import DraftModel
from specpress.drafters.feature_head import FeatureHead
from specpress.drafters.growing.successors import Successors
from specpress.drafters.growing.suffix_automaton import SuffixAutomaton
from specpress.drafters.mixture import Mixture
from specpress.drafters.prompt_lookup import PromptLookup
from specpress.drafters.quantized_target import QuantizedTarget
from specpress.drafters.suffix_lookup import SuffixLookup
from specpress.drafters.token_recycling import TokenRecycling
from specpress.speculation.drafter import Drafter, Proposal

__all__ = [
    "Cascade",
    "CompressedTarget",
    "DraftModel",
    "Drafter",
    "FeatureHead",
    "Mixture",
    "PromptLookup",
    "Proposal",
    "QuantizedTarget",
    "Successors",
    "SuffixAutomaton",
    "SuffixLookup",
    "TokenRecycling",
]
