"""The paper: results as tables, figures, sentences and verdicts.

May import: analysis, study and the ground floor; never torch. Read first: results.py, then table.py.
"""
