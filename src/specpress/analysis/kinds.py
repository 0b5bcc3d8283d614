"""Kinds of speed experiments, told by their factors: what a table or a figure keeps together."""

from collections.abc import Mapping

import pandas as pd

# In the order of the tables. `alone`: another model without a drafter; `other`: a drafter that is no model; `lossy`:
# the target's cache compressed; `self`: only what drafts is compressed, the target verifies on its full cache.
KINDS = ("baseline", "alone", "constant", "other", "dynamic", "block", "cascade", "press", "lossy", "self")
LOSSLESS = ("constant", "other", "dynamic", "block", "cascade", "self")
LOSSY = ("press", "lossy")


def kind_of(row: Mapping) -> str:
    """Which of `KINDS` an experiment is, by the factors of a row of the summary."""
    if pd.isna(row["drafter"]):
        if not pd.isna(row["press"]):
            return "press"
        return "baseline" if row["model"] == row["baseline"] else "alone"
    if not pd.isna(row["press"]):
        return "lossy"
    if row["drafter"] == "compressed_target" or not pd.isna(row["drafter_press"]):
        return "self"
    if row["drafter"] != "draft_model":
        return "cascade" if row["drafter"] == "cascade" else "other"
    if not pd.isna(row["verification"]) and row["verification"] != "token":
        return "block"
    return "constant" if not pd.isna(row["gamma"]) else "dynamic"
