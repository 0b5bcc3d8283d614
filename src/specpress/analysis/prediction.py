"""What the roofline predicts for a cell of a regime map, from the machine's rates and the model's shape."""

from collections.abc import Mapping


def predict(spec: Mapping, cell: Mapping, shape: Mapping | None, rates: Mapping | None) -> tuple[dict, str]:
    """Predicted times and speed-ups by metric, and why those that are missing are."""
    return {}, "no prediction was made"
