"""A model on a KV cache, fast: forward pass, attention, caches, compression, CUDA graphs.

May import: laws, models, data, study and the ground floor. Read first: cached_model.py, then cache.py, forward.py
and attention.py.
"""
