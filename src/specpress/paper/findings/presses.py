"""What the text may ask about presses: their perplexity, and what they gain."""

from collections.abc import Mapping
from functools import cached_property

import pandas as pd

from specpress.analysis.formatting import is_missing
from specpress.paper.cells import Cell
from specpress.paper.decisions import side_counts
from specpress.paper.findings.points import PressPoint, press_of, press_points


class PressResults:
    """The part of `Results` that perplexity experiments make."""

    summary: pd.DataFrame
    environment: Mapping
    original: Mapping

    @cached_property
    def points(self) -> list[PressPoint]:
        """The points of every perplexity experiment."""
        return press_points(self.summary)

    def points_at(self, ratio: float) -> list[PressPoint]:
        """The points at one ratio that have a ratio to the full cache."""
        return [p for p in self.points if p.ratio == ratio and p.cell("ppl_ratio").defined]

    @property
    def model_costs(self) -> list[tuple[Mapping, Cell]]:
        """Models whose perplexity on a full cache was set beside their baseline's: the row and its cell."""
        rows = self.summary[self.summary.metric == "model_ppl_ratio"].to_dict("records")
        return [(row, Cell.of(row)) for row in rows]

    @property
    def main_ratio(self) -> float | None:
        """The ratio the text speaks about: the original study's 0.7 where it was measured, else the highest."""
        ratios = {point.ratio for point in self.points if point.ratio}
        return self.original["main_ratio"] if self.original["main_ratio"] in ratios else max(ratios, default=None)

    @cached_property
    def main_points(self) -> list[list[PressPoint]]:
        """By block, the points at the main ratio from the lowest perplexity to the highest, each as one of so many."""
        blocks: dict[tuple, list[PressPoint]] = {}
        for point in self.points_at(self.main_ratio) if self.main_ratio else []:
            blocks.setdefault(point.block, []).append(point)
        return [_as_one_of_many(points, "ppl_ratio") for points in blocks.values()]

    @property
    def has_ratios(self) -> bool:
        """Whether a perplexity can be set against that of the full cache."""
        return any(point.cell("ppl_ratio").defined for point in self.points)

    def press_sides(self, metric: str, ratio: float | None = None) -> dict[str, int]:
        """How many points compressed once (all, or of one ratio) lie above one, below it, or neither, by a metric."""
        cells = [p.cell(metric) for p in self.points if p.ratio and ratio in (None, p.ratio)]
        return side_counts(cell.side() for cell in cells if cell.defined)

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

        At the main ratio, or at the highest where none was measured there; each as one of its block.
        """
        found = [p for p in self.points if p.context >= self.original["long_context"] and p.cell("acceptance").defined]
        ratios = {point.ratio for point in found}
        ratio = self.main_ratio if self.main_ratio in ratios else max(ratios, default=None)
        blocks: dict[tuple, list[PressPoint]] = {}
        for point in found:
            if point.ratio == ratio:
                blocks.setdefault(point.block, []).append(point)
        return [_as_one_of_many(points, "acceptance")[::-1] for points in blocks.values()]

    @cached_property
    def best_gain(self) -> PressPoint | None:
        """The point with the largest gain of a step on the compressed cache, as one of all those measured."""
        found = [p for p in self.points if p.ratio and p.cell("step_speedup").defined]
        best = max(found, key=lambda point: point.cell("step_speedup").value, default=None)
        return best and best.among("step_speedup", len(found))

    def traffic_bound(self, point: PressPoint) -> float | None:
        """How many times as fast a step at batch one is at most, if a byte of cache costs what one of weights does."""
        shape = self.environment["models"].get(point.model, {})
        kept = point.cell("kv_bytes").value
        weights = shape.get("step_weight_bytes")
        if kept is None or not weights or not shape.get("kv_bytes_per_token"):
            return None
        return (weights + point.context * shape["kv_bytes_per_token"]) / (weights + kept)

    def quality_of(self, row: Mapping) -> Cell | None:
        """The perplexity ratio of the press of a speed experiment, as it was set there, on its model, if measured.

        On its data at the nearest context. Once, or while decoding where the experiment compresses as it decodes.
        """
        if is_missing(row["press"]) or is_missing(row["ratio"]):
            return None
        same = [p for p in self.points if (p.model, p.press, p.parameters) == press_of(row)]
        same = [p for p in same if abs(p.ratio - row["ratio"]) < 1e-9]
        same = [p for p in same if p.data == row["data"]] or same
        mode = "once" if is_missing(row["cache_budget"]) else "decoding"
        same = [p for p in same if p.cell("ppl_ratio", mode).defined]
        nearest = min(same, key=lambda p: abs(p.context - row["prompt_tokens"]), default=None)
        return nearest.cell("ppl_ratio", mode) if nearest else None


def _as_one_of_many(points: list[PressPoint], metric: str) -> list[PressPoint]:
    """The points from the lowest value of a metric to the highest, with the intervals of one of so many."""
    ordered = sorted(points, key=lambda point: point.cell(metric).value)
    return [point.among(metric, len(points)) for point in ordered]
