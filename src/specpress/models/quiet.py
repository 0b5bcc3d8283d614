"""transformers without its progress bars."""

import contextlib

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def no_progress_bars():
    """No progress bars of transformers inside the block."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
