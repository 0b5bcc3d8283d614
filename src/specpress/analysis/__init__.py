"""Metrics files to tidy tables: estimates, intervals, contrasts.

May import: study and the ground floor; never torch. Read first: tables.py, then rows.py and statistics.py.
"""
