"""Metrics files to tidy tables: one row an observation, one row an estimate, and the environment they come from.

`observations` has one row per experiment, metric and prompt (passage, repeat, training step, or iteration of a draft
length). `summary` has one row per experiment, setting and metric: the estimate, its interval, the units behind it and
the factors of the experiment. A value that could not be measured keeps its row: the estimate is empty and `note` says
why. One module a kind of experiment makes the rows of that kind.
"""

from specpress.analysis.loading import MetricsError, load_metrics
from specpress.analysis.provenance import environment
from specpress.analysis.tables import observations, summary

__all__ = ["MetricsError", "environment", "load_metrics", "observations", "summary"]
