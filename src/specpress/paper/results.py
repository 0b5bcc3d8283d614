"""What a template may say: the results of one study, as cells, blocks, points and verdicts."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from specpress.analysis.formatting import is_missing
from specpress.analysis.kinds import LOSSLESS
from specpress.paper.captions import Caption, captions
from specpress.paper.cells import Cell
from specpress.paper.claims import claims_by_verdict, judged_claims, verdict_counts
from specpress.paper.decisions import ABOVE, BELOW, overlap, perplexity_phrase, relative_phrase, speed_phrase
from specpress.paper.latex import Tex
from specpress.paper.points import PressPoint, RegimeCell, Step, chains_of, links_of, press_points, regime_cells
from specpress.paper.prose import counted, described, listed, named, share, tally, upper_first
from specpress.paper.setup import Setup
from specpress.paper.speeds import Block, Speed, blocks_of, fastest
from specpress.paper.wording import data_prose, press_name, press_setting, schedule_name


@dataclass(frozen=True)
class Results:
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
        return cls(pd.read_csv(summary), json.loads(environment.read_text(encoding="utf-8")), *written)

    def context(self) -> dict:
        """The names of the templates."""
        functions: list[Callable] = [
            speed_phrase, perplexity_phrase, relative_phrase, tally, counted, listed, described, data_prose, press_name,
            press_setting, schedule_name, verdict_counts, claims_by_verdict, links_of, named, overlap, share,
            upper_first, Tex,
        ]  # fmt: skip
        return {
            "results": self, "setup": self.setup, "environment": self.environment, "original": self.original,
            "sources": self.sources, "caption": self.caption, **{function.__name__: function for function in functions},
        }  # fmt: skip

    def caption(self, name: str) -> Markup:
        """The caption of a figure or table, such as "figures/pareto"."""
        return self.all_captions[name].text

    @cached_property
    def all_captions(self) -> dict[str, Caption]:
        """Titles and captions by what they describe."""
        return captions(self.captions, original=self.original)

    @cached_property
    def setup(self) -> Setup:
        """Machine, software, protocols."""
        return Setup(self.summary, self.environment)

    @cached_property
    def cells(self) -> list[Cell]:
        """Every row of the summary."""
        return [Cell.of(row) for row in self.summary.to_dict("records")]

    # Speed

    @cached_property
    def blocks(self) -> list[Block]:
        """Speed experiments by target, prompts, batch and sampling."""
        return blocks_of(self.summary)

    @property
    def swept(self) -> list[Block]:
        """The blocks with a draft model at a constant gamma."""
        return [block for block in self.blocks if block.of_kind("constant")]

    def speeds_of(self, *kinds: str) -> list[tuple[Block, Speed]]:
        """The speed experiments of some kinds, each with its block."""
        return [(block, speed) for block in self.blocks for speed in block.of_kind(*kinds)]

    def best_of(self, *kinds: str) -> list[tuple[Block, Speed]]:
        """The fastest experiment of these kinds in each block that has one."""
        found = [(block, fastest(block.of_kind(*kinds))) for block in self.blocks]
        return [(block, speed) for block, speed in found if speed is not None]

    @cached_property
    def best_lossless(self) -> list[tuple[Block, Speed]]:
        """The fastest lossless method of single sequences with the shortest prompts, and with the longest."""
        single = [(b, s) for b, s in self.best_of(*LOSSLESS) if is_missing(s.row["batch"])]
        lengths = [s.row["prompt_tokens"] for _, s in single]
        ends = dict.fromkeys([min(lengths), max(lengths)]) if single else ()
        groups = [[(b, s) for b, s in single if s.row["prompt_tokens"] == length] for length in ends]
        return [max(group, key=lambda found: found[1]["speedup"].value) for group in groups]

    def contrasts(self, metric: str) -> list[tuple[Block, Speed, Cell]]:
        """The experiments with a contrast of this name, each with its block and the cell."""
        return [(b, s, s[metric]) for b in self.blocks for s in b.speeds if s[metric].defined]

    def speed_of(self, experiment: str) -> Speed | None:
        """The speed experiment of this id."""
        return next((s for b in self.blocks for s in b.speeds if s.experiment == experiment), None)

    @cached_property
    def compared(self) -> list[Speed]:
        """Speed experiments whose tokens were compared with the baseline's, without the baseline itself."""
        speeds = [speed for block in self.blocks for speed in block.speeds if speed.kind != "baseline"]
        return [speed for speed in speeds if speed["lossless_compared"].defined]

    def lossless_total(self, part: str) -> int:
        """Sum over the compared experiments of lossless_<part>: compared, equal, near_ties or different."""
        return int(sum(speed[f"lossless_{part}"].value or 0 for speed in self.compared))

    # Presses

    @cached_property
    def points(self) -> list[PressPoint]:
        """The points of every perplexity experiment."""
        return press_points(self.summary)

    def points_at(self, ratio: float) -> list[PressPoint]:
        """The points at one ratio that have a ratio to the full cache."""
        return [p for p in self.points if p.ratio == ratio and p.cell("ppl_ratio").defined]

    @property
    def main_ratio(self) -> float | None:
        """The ratio the text speaks about: the original study's 0.7 where it was measured, else the highest."""
        ratios = {point.ratio for point in self.points if point.ratio}
        return self.original["main_ratio"] if self.original["main_ratio"] in ratios else max(ratios, default=None)

    @cached_property
    def main_points(self) -> list[list[PressPoint]]:
        """By block, the points at the main ratio from the lowest perplexity to the highest."""
        blocks: dict[tuple, list[PressPoint]] = {}
        for point in self.points_at(self.main_ratio) if self.main_ratio else []:
            blocks.setdefault(point.block, []).append(point)
        return [sorted(points, key=lambda p: p.cell("ppl_ratio").value) for points in blocks.values()]

    @property
    def has_ratios(self) -> bool:
        """Whether a perplexity can be set against that of the full cache."""
        return any(point.cell("ppl_ratio").defined for point in self.points)

    def press_sides(self, metric: str, ratio: float | None = None) -> dict[str, int]:
        """How many points compressed once (all, or of one ratio) lie above one, below it, or neither, by a metric."""
        cells = [p.cell(metric) for p in self.points if p.ratio and ratio in (None, p.ratio)]
        return _counts(cell.side() for cell in cells if cell.defined)

    def has_decoding(self) -> bool:
        """Whether perplexity was also measured while compressing as it decodes."""
        return any(point.cell("ppl_ratio", "decoding").defined for point in self.points)

    def worse_while_decoding(self) -> dict[str, int]:
        """How many points have a lower, a higher or an overlapping perplexity ratio when compressed while decoding."""
        pairs = [(p.cell("ppl_ratio"), p.cell("ppl_ratio", "decoding")) for p in self.points if p.ratio]
        pairs = [(a, b) for a, b in pairs if a.low is not None and b.low is not None]
        higher = sum(b.low > a.high for a, b in pairs)
        lower = sum(b.high < a.low for a, b in pairs)
        return {"all": len(pairs), "higher": higher, "lower": lower, "open": len(pairs) - higher - lower}

    @cached_property
    def long_acceptances(self) -> list[list[PressPoint]]:
        """By block, the points on long contexts with an acceptance at one ratio, from the highest down.

        At the main ratio, or at the highest where none was measured there.
        """
        found = [p for p in self.points if p.context >= self.original["long_context"] and p.cell("acceptance").defined]
        ratios = {point.ratio for point in found}
        ratio = self.main_ratio if self.main_ratio in ratios else max(ratios, default=None)
        blocks: dict[tuple, list[PressPoint]] = {}
        for point in found:
            if point.ratio == ratio:
                blocks.setdefault(point.block, []).append(point)
        return [sorted(points, key=lambda point: -point.cell("acceptance").value) for points in blocks.values()]

    @cached_property
    def best_gain(self) -> PressPoint | None:
        """The point with the largest paired gain of a step on the compressed cache."""
        found = [p for p in self.points if p.ratio and p.cell("step_speedup").defined]
        return max(found, key=lambda point: point.cell("step_speedup").value, default=None)

    def traffic_bound(self, point: PressPoint) -> float | None:
        """How many times as fast a step at batch one is at most, if a byte of cache costs what one of weights does."""
        shape = self.environment["models"].get(point.model, {})
        kept = point.cell("kv_bytes").value
        if kept is None or not shape.get("weight_bytes") or not shape.get("kv_bytes_per_token"):
            return None
        return (shape["weight_bytes"] + point.context * shape["kv_bytes_per_token"]) / (shape["weight_bytes"] + kept)

    def quality_of(self, row: Mapping) -> Cell | None:
        """The perplexity ratio of the press of a speed experiment, on its data at the nearest context, if measured.

        Once, or while decoding where the experiment compresses as it decodes.
        """
        if is_missing(row["press"]) or is_missing(row["ratio"]):
            return None
        same = [p for p in self.points if p.press == row["press"] and abs(p.ratio - row["ratio"]) < 1e-9]
        same = [p for p in same if p.data == row["data"]] or same
        mode = "once" if is_missing(row["cache_budget"]) else "decoding"
        same = [p for p in same if p.cell("ppl_ratio", mode).defined]
        nearest = min(same, key=lambda p: abs(p.context - row["prompt_tokens"]), default=None)
        return nearest.cell("ppl_ratio", mode) if nearest else None

    # Regime maps, chains, drafts

    @cached_property
    def regime(self) -> list[RegimeCell]:
        """The measured cells of the regime map."""
        return regime_cells(self.summary)

    def best_cell(self, metric: str) -> RegimeCell | None:
        """The cell with the largest value of a metric."""
        return max((c for c in self.regime if c[metric].defined), key=lambda c: c[metric].value, default=None)

    def regime_sides(self, metric: str) -> dict[str, int]:
        """How many cells of the map lie entirely above one, below it, or neither, by a metric."""
        return _counts(cell[metric].side() for cell in self.regime if cell[metric].defined)

    def prediction_errors(self, measured: str, within: float = 0.2) -> dict[str, float] | None:
        """How the roofline fares on one metric: cells (`all`), those `near`, within a share, largest and mean error.

        Errors are predicted over measured, less one; None where no cell has both.
        """
        pairs = [(cell[f"predicted_{measured}"], cell[measured]) for cell in self.regime]
        errors = [p.value / m.value - 1 for p, m in pairs if p.defined and m.defined]
        if not errors:
            return None
        return {
            "all": len(errors), "within": within, "near": sum(abs(error) <= within for error in errors),
            "largest": max(map(abs, errors)), "mean": sum(errors) / len(errors),
        }  # fmt: skip

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


def _counts(sides: Iterable[str]) -> dict[str, int]:
    """How many lie `above`, `below`, or neither (`open`), of `all`."""
    sides = list(sides)
    counts = {name: sides.count(name) for name in (ABOVE, BELOW)}
    return counts | {"open": len(sides) - sum(counts.values()), "all": len(sides)}
