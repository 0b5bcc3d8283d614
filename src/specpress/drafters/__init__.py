"""Drafters: where proposed tokens come from, one file each. Each object belongs to one `generate` call.

May import: speculation and below. Read first: prompt_lookup.py, then draft_model.py.
"""

from specpress.drafters.cascade import Cascade
from specpress.drafters.compressed_target import CompressedTarget
from specpress.drafters.draft_model import DraftModel
from specpress.drafters.feature_head import FeatureHead
from specpress.drafters.prompt_lookup import PromptLookup
from specpress.drafters.quantized_target import QuantizedTarget
from specpress.speculation.drafter import Drafter, Proposal

__all__ = [
    "Cascade",
    "CompressedTarget",
    "DraftModel",
    "Drafter",
    "FeatureHead",
    "PromptLookup",
    "Proposal",
    "QuantizedTarget",
]
