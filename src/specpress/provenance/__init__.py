"""Where a number comes from: archives, `explain`, `compare`.

May import: analysis, study and the ground floor; never torch. Read first: archive.py.
"""
