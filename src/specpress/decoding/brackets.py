"""Parts timed between steps: whatever slows the machine for a while slows a part and the steps next to it alike."""

from collections.abc import Callable, Mapping

COLUMNS = ("part", "size", "seconds", "before", "after")


def bracketed(
    parts: Mapping[tuple[str, int], Callable[[], float]], step: Callable[[], float], rounds: int
) -> dict[str, list]:
    """Time each part between two steps, `rounds` times in turn, after once each to warm up.

    Parameters
    ----------
    parts : by name and size, what runs one and returns its seconds
    step : runs one step of what they are set against, and returns its seconds

    Returns
    -------
    Columns: part, size; seconds of the part, and of the step before and after it.
    """
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    for run in (step, *parts.values()):
        run()
    before = step()
    for _ in range(rounds):
        for (name, size), run in parts.items():
            row = (name, size, run(), before, before := step())
            for column, value in zip(COLUMNS, row, strict=True):
                columns[column].append(value)
    return columns
