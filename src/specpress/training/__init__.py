"""Draft models made from a target: text, model, loop, judgement.

May import: models, data, study and the ground floor. Read first: train.py.
"""
