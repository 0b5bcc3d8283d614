"""transformers without its progress bars and reports: what matters of them is said here, in one line."""

import contextlib

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def transformers_quiet():
    """No progress bars and no warnings of transformers inside the block."""
    was_on, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if was_on:
            transformers_logging.enable_progress_bar()
