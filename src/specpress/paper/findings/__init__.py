"""What the text, the tables and the figures may ask about a kind of result.

May import: what `specpress.paper` may. Read first: blocks.py, which groups speed experiments.
"""
