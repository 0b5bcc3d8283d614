"""What to expect: tokens a round, the roofline, the shapes of models; how far to trust: intervals, duels.

May import: Nothing of specpress. Read first: expected.py, then roofline.py.
"""
