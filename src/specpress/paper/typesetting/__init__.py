"""Text on a page: templates, LaTeX, and characters that the paper's fonts lack.

May import: what `specpress.paper` may. Read first: rendering.py.
"""
