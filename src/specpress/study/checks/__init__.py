"""What is wrong with a study, in one line for each problem, led by the path of its key.

May import: what `specpress.study` may. Read first: whole.py, which asks the others.
"""
