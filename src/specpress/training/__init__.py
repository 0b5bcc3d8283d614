"""Draft models made from a target: text, model, loop, judgement.

May import: decoding and below. Read first: train.py.
"""
