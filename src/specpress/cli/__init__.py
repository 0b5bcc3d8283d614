"""The command `specpress`: generate, list, explain, archive, compare.

May import: Everything below. Read first: main.py.
"""
