"""The table of chains: the steps from the uncached protocol to the cached one, and the factor of each."""

from specpress.analysis.formatting import fixed
from specpress.paper.cells import Notes, short_interval
from specpress.paper.findings.points import Step
from specpress.paper.table import UNMEASURED, Block, Column, Entry, Grid, Row, Table, row

FACTORS = {"factor": "the step before", "factor_total": "the first step", "factor_anchor": "the cached baseline"}


def chain(results) -> Table:
    """The steps of every chain with the factor of each and the factor so far."""
    notes, several = Notes(), len(results.chains) > 1
    blocks = [
        Block([_row(step, notes) for step in steps], f"Measured, {name}" if several else "Measured")
        for name, steps in results.chains.items()
    ]
    reported = [
        row(given["method"], fixed(given["tokens_per_s"]), fixed(given["tpot_ms"]),
            *["", "", fixed(given["factor"]), "", "", ""])
        for given in results.original["fusion"]
    ]  # fmt: skip
    blocks = blocks or [UNMEASURED]
    blocks.append(Block(reported, "Reported by the original study, not measured here (1000 tokens)"))
    columns = [Column("left", 5.2), Column(), Column()]
    columns += [Column(), Column("left", gap="5pt", small=True)] * len(FACTORS)
    over = row("", "", "", Entry("factor (95% interval) over", span=6, align="center", rule="l"))
    head = row("", "tok/s", "TPOT, ms", *(Entry(title, span=2, align="center") for title in FACTORS.values()))
    return Table([Grid(columns, [over, head], blocks)], notes.lines())


def _row(step: Step, notes: Notes) -> Row:
    """A step; the anchor, which is no step of the chain, stands a little apart."""
    entries = [step.title, *(notes.show(step[metric]) for metric in ("tokens_per_s", "tpot_ms"))]
    for metric in FACTORS:
        known = metric in step.cells
        entries += [notes.show(step[metric], with_interval=True), short_interval(step[metric])] if known else ["", ""]
    return row(*entries, apart=step.is_anchor)
