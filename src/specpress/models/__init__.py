"""Models on disk: families, loading, building, saving, tokenizers.

May import: study and the ground floor. Read first: load.py.
"""
