"""Publishing files: complete or not at all.

May import: Nothing of specpress. Read first: publish.py.
"""
