"""The command `specpress`: generate, train, list, certify, new, explain, compare, archive.

May import: Everything below. Read first: main.py.
"""
