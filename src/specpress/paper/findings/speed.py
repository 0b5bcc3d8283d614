"""What the text may ask about speed experiments."""

from collections.abc import Mapping
from functools import cached_property

import pandas as pd

from specpress.analysis.formatting import is_missing, number
from specpress.analysis.kinds import LOSSLESS, LOSSY, uses_target
from specpress.paper.cells import Cell
from specpress.paper.findings.blocks import Block, Speed, blocks_of, picked, usual_baseline
from specpress.paper.findings.drafters import runs_model


class SpeedResults:
    """The part of `Results` that speed experiments make."""

    summary: pd.DataFrame

    @cached_property
    def blocks(self) -> list[Block]:
        """Speed experiments by target, prompts, batch and sampling."""
        return blocks_of(self.summary)

    @property
    def tree_sizes(self) -> int:
        """How many constant sizes of trees were measured."""
        return len({speed.row["gamma"] for _, speed in self.speeds_of("tree") if not is_missing(speed.row["gamma"])})

    @property
    def untrained_trees(self) -> list[Speed]:
        """The drafters of trees that run no model."""
        return [speed for _, speed in self.speeds_of("tree") if not runs_model(speed.row)]

    @property
    def swept(self) -> list[Block]:
        """The blocks with a draft model at a constant gamma."""
        return [block for block in self.blocks if block.of_kind("constant")]

    def speeds_of(self, *kinds: str) -> list[tuple[Block, Speed]]:
        """The speed experiments of some kinds, each with its block."""
        return [(block, speed) for block in self.blocks for speed in block.of_kind(*kinds)]

    def best_of(self, *kinds: str) -> list[tuple[Block, Speed]]:
        """Of each block that has experiments of these kinds the one that is `picked`, as one of those in its block."""
        found = [(block, picked(block.of_kind(*kinds))) for block in self.blocks]
        return [(block, speed) for block, speed in found if speed is not None]

    @cached_property
    def best_lossless(self) -> list[tuple[Block, Speed]]:
        """The `picked` lossless methods of single sequences: with the shortest prompts, of each way of sampling.

        And one with the longest; with the intervals that they have as some of all lossless methods of single sequences.
        Where there are none, those of the smallest batch.
        """
        found = [(b, s, 1 if is_missing(s.row["batch"]) else s.row["batch"]) for b, s in self.speeds_of(*LOSSLESS)]
        least = min((batch for _, _, batch in found), default=1)
        single = [(block, speed) for block, speed, batch in found if batch == least]
        blocks = {speed.experiment: block for block, speed in single}
        lengths = [block.prompt_tokens for block, _ in single]
        shortest, longest = (min(lengths), max(lengths)) if single else (None, None)
        groups: dict[str, list[Speed]] = {}
        for block, speed in single:
            if block.prompt_tokens == shortest:
                groups.setdefault(block.sampling, []).append(speed)
        if shortest != longest:
            groups["longest"] = [speed for block, speed in single if block.prompt_tokens == longest]
        best = [picked(group, looks=len(single)) for group in groups.values()]
        return [(blocks[speed.experiment], speed) for speed in best]

    @cached_property
    def usual_baseline(self) -> str | None:
        """The baseline that prose does not name, where there are several; None where there is one."""
        several = len({speed.row["baseline"] for block in self.blocks for speed in block.speeds}) > 1
        return usual_baseline(self.summary) if several else None

    def others(self, *, of_target: bool) -> list[tuple[Block, list[Speed]]]:
        """By block the drafters that are no draft model: those that use the target's weights or features, or not."""
        found = [(b, [s for s in b.of_kind("other") if uses_target(s.row) == of_target]) for b in self.blocks]
        return [(block, speeds) for block, speeds in found if speeds]

    def alone(self) -> list[tuple[Block, list[Speed]]]:
        """By block the models that were timed alone."""
        return [(block, block.of_kind("alone")) for block in self.blocks if block.of_kind("alone")]

    def fastest(self, *, lossless: bool) -> list[tuple[Block, Speed]]:
        """Of each block the method that is `picked` among those that write what the target does, or the others."""
        return self.best_of(*(LOSSLESS if lossless else LOSSY))

    def contrasts(self, metric: str) -> list[tuple[Block, Speed, Cell]]:
        """The experiments with a contrast of this name, each with its block and the cell."""
        return [(b, s, s[metric]) for b in self.blocks for s in b.speeds if s[metric].defined]

    @property
    def cascades(self) -> list[tuple[Block, Speed, Cell]]:
        """Cascades over the plain draft model that was picked on their prompts, each as one of all such pairs."""
        found = self.contrasts("speedup_over_plain")
        pairs = sum(max(1, len(block.of_kind("constant", "dynamic", "block"))) for block, _, _ in found)
        return [(block, speed, cell.among(pairs)) for block, speed, cell in found]

    def speed_of(self, experiment: str) -> Speed | None:
        """The speed experiment of this id."""
        return next((s for b in self.blocks for s in b.speeds if s.experiment == experiment), None)

    @cached_property
    def compared(self) -> list[Speed]:
        """Speed experiments whose tokens were compared with the baseline's, without the baseline itself."""
        speeds = [speed for block in self.blocks for speed in block.speeds if speed.kind != "baseline"]
        return [speed for speed in speeds if speed["lossless_compared"].defined]

    def lossless_total(self, part: str) -> int:
        """Sum over the compared experiments of lossless_<part>: compared, equal, explained or unexplained."""
        return int(sum(speed[f"lossless_{part}"].value or 0 for speed in self.compared))

    def rounding(self) -> list[Mapping]:
        """Of each model that greedy texts are compared with: its name, the error `allowed`, of how many `rows`."""
        rows = self.summary[self.summary.kind == "rounding"]
        found = {model: dict(zip(part.metric, part.estimate, strict=True)) for model, part in rows.groupby("model")}
        return [
            {
                "model": model,
                "allowed": number("rounding_allowed", f["rounding_allowed"]),
                "rows": int(f["rounding_rows"]),
            }
            for model, f in found.items()
        ]
