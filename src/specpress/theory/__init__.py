"""What to expect: tokens a round, the roofline, the shapes of models.

May import: Nothing of specpress. Read first: expected.py, then roofline.py.
"""
