"""The table of the original study's claims, with verdict and evidence."""

from markupsafe import Markup

from specpress.paper.prose import upper_first
from specpress.paper.table import Block, Column, Entry, Grid, Table, row

VERDICT = Markup("<strong>{}</strong>: {}.")


def claims(results) -> Table:
    """One numbered row a claim."""
    rows = [
        row(str(number), claim["claim"], VERDICT.format(upper_first(claim["verdict"]), claim["reason"]),
            claim["evidence"], apart=number > 1)
        for number, claim in enumerate(results.claims, 1)
    ]  # fmt: skip
    columns = [Column(), Column("left", 4.0, gap="\u00a0"), Column("left", 3.9), Column("left", 7.8)]
    head = row(Entry("Claim of the original study", span=2, align="left"), "Verdict of this study", "Evidence")
    return Table([Grid(columns, [head], [Block(rows)])])
