"""Files that are there whole or not at all, and the programs that write them: how they begin and end.

May import: Nothing of specpress. Read first: publish.py.
"""
