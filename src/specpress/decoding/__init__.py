"""The loops: one sequence, a batch, teacher-forced perplexity, the uncached protocol.

May import: drafters and below. Read first: loop.py, then generate.py.
"""
