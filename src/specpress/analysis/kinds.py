"""Kinds of speed experiments, told by their factors: what a table or a figure keeps together."""

import json
from collections.abc import Container, Mapping

import pandas as pd

from specpress.study.expansion import branches

# In the order of the tables. `alone`: another model without a drafter; `other`: a drafter that is no draft model;
# `tree`: one that proposes trees; `lossy`: the target's cache compressed; `self`: only what drafts is compressed,
# the target verifies on its full cache.
KINDS = ("baseline", "alone", "constant", "other", "tree", "dynamic", "block", "cascade", "press", "lossy", "self")
LOSSLESS = ("constant", "other", "tree", "dynamic", "block", "cascade", "self")
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
    if branches(drafter_of(row)):
        return "tree"
    if row["drafter"] != "draft_model":
        return "cascade" if row["drafter"] == "cascade" else "other"
    if not pd.isna(row["verification"]) and row["verification"] != "token":
        return "block"
    return "constant" if not pd.isna(row["gamma"]) else "dynamic"


def of_kinds(rows: pd.DataFrame, kinds: Container[str]) -> pd.DataFrame:
    """The rows of experiments of these kinds."""
    return rows[pd.Series([kind_of(row) in kinds for _, row in rows.iterrows()], index=rows.index, dtype=bool)]


def uses_target(row: Mapping) -> bool:
    """Whether what drafts is made of the target: a head that reads its features, or its weights in fewer bits."""
    return row["drafter"] in ("feature_head", "quantized_target")


def drafter_of(row: Mapping) -> dict:
    """The drafter of an experiment as its study names it, without its own model and press."""
    parameters = row.get("drafter_parameters")
    return {"name": row["drafter"], **({} if parameters is None or pd.isna(parameters) else json.loads(parameters))}
