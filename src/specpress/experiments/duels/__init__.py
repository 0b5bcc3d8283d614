"""Baseline and methods on the same prompts, in turn, until what is gained is known well enough.

May import: what `specpress.experiments` may. Read first: duel.py, then contest.py.
"""
