"""Progress of a training on stderr, in a terminal and in a log."""

import sys

from tqdm import tqdm


def progress_bar(total: int, description: str, *, enabled: bool = True) -> tqdm:
    """A progress bar over tokens on stderr: one line that is redrawn in a terminal, a line every 10 s in a log."""
    terminal = sys.stderr.isatty()
    form = "{desc}: {percentage:3.0f}% of {total_fmt}, {rate_fmt}, {elapsed} gone, {remaining} left{postfix}"
    return tqdm(
        total=total,
        desc=description,
        unit=" tokens",
        unit_scale=True,
        bar_format=None if terminal else form,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        mininterval=0.2 if terminal else 10,
        maxinterval=10,
        disable=not enabled,
    )


class _Lines:
    """A stream on which each state of a progress bar is a line of its own."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()
