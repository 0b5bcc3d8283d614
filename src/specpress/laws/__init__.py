"""The law of the next token: temperature, top-k, top-p, and draws from it.

May import: the ground floor. Read first: sampling.py, then law.py and, for GPUs, device.py.
"""
