"""What a template may say: the results of one study, as cells, blocks, points and verdicts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from specpress.analysis.formatting import is_missing
from specpress.analysis.physics import SPEEDUPS
from specpress.analysis.tables import read_table
from specpress.paper.captions import Caption, captions
from specpress.paper.cells import Cell
from specpress.paper.claims import claims_by_verdict, judged_claims, verdict_counts
from specpress.paper.decisions import overlap, perplexity_phrase, relative_phrase, speed_phrase
from specpress.paper.disturbance import doubts
from specpress.paper.findings.blocks import told_apart
from specpress.paper.findings.categories import CategoryResults
from specpress.paper.findings.drafters import DrafterResults
from specpress.paper.findings.points import Step, by_factor, chains_of, links_of
from specpress.paper.findings.presses import PressResults
from specpress.paper.findings.regimes import RegimeResults
from specpress.paper.findings.speed import SpeedResults
from specpress.paper.findings.tasks import TaskResults, mode_name
from specpress.paper.prose import counted, described, listed, named, share, tally, upper_first
from specpress.paper.setup import Setup
from specpress.paper.typesetting.latex import Tex
from specpress.paper.wording import data_prose, press_name, press_setting, schedule_name


@dataclass(frozen=True)
class Results(SpeedResults, DrafterResults, CategoryResults, PressResults, RegimeResults, TaskResults):
    """The tables of one study, its environment, the original study's numbers, and what paper/ says about it all.

    `original`, `sources` and `captions` as the files of these names in paper/ hold them.
    """

    summary: pd.DataFrame
    environment: Mapping
    original: Mapping
    sources: Mapping
    captions: Mapping

    @classmethod
    def read(cls, summary: Path, environment: Path, original: Path, sources: Path, captions: Path) -> "Results":
        """The results of a study from the files of these names: CSV, JSON, and three of YAML."""
        written = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (original, sources, captions))
        return cls(read_table(summary), json.loads(environment.read_text(encoding="utf-8")), *written)

    def context(self) -> dict:
        """The names of the templates."""
        functions: list[Callable] = [
            speed_phrase, perplexity_phrase, relative_phrase, tally, counted, listed, described, data_prose, press_name,
            press_setting, schedule_name, verdict_counts, claims_by_verdict, links_of, by_factor, mode_name, named,
            overlap, told_apart,
            share, upper_first, Tex,
        ]  # fmt: skip
        return {
            "results": self, "setup": self.setup, "environment": self.environment, "original": self.original,
            "sources": self.sources, "caption": self.caption, **{function.__name__: function for function in functions},
        }  # fmt: skip

    @cached_property
    def physics(self) -> dict[str, int]:
        """How many speed-ups stand beside the most that traffic and counts allow, and how many lie above it."""
        marks = self.summary[self.summary.metric.isin([f"{metric}_above" for metric in SPEEDUPS])].estimate.dropna()
        return {"compared": len(marks), "above": int(marks.sum())}

    @property
    def doubts(self) -> str:
        """What the machine puts in doubt, in a sentence; nothing where it does not."""
        return doubts(self.summary, [control["speedup"] for _, control in self.speeds_of("baseline")])

    def caption(self, name: str) -> Markup:
        """The caption of a figure or table, such as "figures/pareto"."""
        return self.all_captions[name].text

    @cached_property
    def all_captions(self) -> dict[str, Caption]:
        """Titles and captions by what they describe."""
        measured = {"timed": self.best_gain is not None, "decoding": self.has_decoding()}
        return captions(self.captions, original=self.original, **measured)

    @cached_property
    def setup(self) -> Setup:
        """Machine, software, protocols."""
        return Setup(self.summary, self.environment)

    @cached_property
    def cells(self) -> list[Cell]:
        """Every row of the summary."""
        return [Cell.of(row) for row in self.summary.to_dict("records")]

    @cached_property
    def chains(self) -> dict[str, list[Step]]:
        """The steps of every chain."""
        return chains_of(self.summary)

    @cached_property
    def drafts(self) -> list[dict]:
        """Each draft trained: name, its metrics as cells, and its held-out metrics by data set."""
        drafts = []
        for name, rows in self.summary[self.summary.kind == "draft"].groupby("experiment"):
            records = rows.to_dict("records")
            held_out: dict[str, dict[str, Cell]] = {}
            for row in records:
                if not is_missing(row["data"]):
                    held_out.setdefault(row["data"], {})[row["metric"]] = Cell.of(row)
            cells = {row["metric"]: Cell.of(row) for row in records if is_missing(row["data"])}
            drafts.append({"name": name, "cells": cells, "held_out": held_out})
        return drafts

    @cached_property
    def claims(self) -> list[dict]:
        """The original study's claims with verdict, reason and evidence."""
        return judged_claims(self)
