"""The tables of the paper and the report, by name: each a function of the results that returns a `Table`."""

from collections.abc import Callable

from specpress.paper.table import Table
from specpress.paper.tables.categories import categories
from specpress.paper.tables.chain import chain
from specpress.paper.tables.claims import claims
from specpress.paper.tables.lossless import lossless
from specpress.paper.tables.presses import all_presses, presses
from specpress.paper.tables.speed import all_speeds, dynamic, fusion, speed, trees
from specpress.paper.tables.tasks import all_tasks, tasks

TABLES: dict[str, Callable[..., Table]] = {
    "speed": speed, "trees": trees, "dynamic": dynamic, "presses": presses, "fusion": fusion, "lossless": lossless,
    "claims": claims, "chain": chain, "categories": categories, "tasks": tasks, "all-speeds": all_speeds,
    "all-presses": all_presses,
    "all-tasks": all_tasks,
}  # fmt: skip
