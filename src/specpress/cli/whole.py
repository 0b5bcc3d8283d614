"""Whole numbers on the command line."""

import argparse


def at_least_one(text: str) -> int:
    """The number that a text says.

    Raises
    ------
    argparse.ArgumentTypeError
        If it says none, or one below 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)
