"""Drafters: where proposed tokens come from. Each belongs to one `generate` call."""

from specpress.drafters.base import Drafter, Proposal
from specpress.drafters.cascade import Cascade
from specpress.drafters.compressed_target import CompressedTarget
from specpress.drafters.draft_model import DraftModel
from specpress.drafters.prompt_lookup import PromptLookup

__all__ = ["Cascade", "CompressedTarget", "DraftModel", "Drafter", "PromptLookup", "Proposal"]
