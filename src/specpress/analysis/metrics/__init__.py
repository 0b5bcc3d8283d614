"""Rows of the tables, one module a kind of metrics file.

May import: what `specpress.analysis` may. Read first: duels.py, then speed.py.
"""
