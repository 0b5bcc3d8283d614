"""The LaTeX of this project read back: as HTML, as plain text, its captions and numbers.

May import: Nothing of specpress. Read first: html.py.
"""
