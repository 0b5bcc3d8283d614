"""From the tables of a study to what the templates print: cells, rows, and sentences chosen by the results.

Whether something is faster, worse or undecided is read off the interval, never off the estimate alone.
"""

from specpress.paper.cells import Cell, Notes
from specpress.paper.results import Results

__all__ = ["Cell", "Notes", "Results"]
