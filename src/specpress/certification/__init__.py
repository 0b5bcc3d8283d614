"""Is a drafter, or a rule of verification, lossless? Small laws enumerated, and the engine's own text tested.

May import: decoding and below. Read first: enumerated.py, then sampled.py; certificate.py joins
them, small.py has the models and drafters.
"""
