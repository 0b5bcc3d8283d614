"""Texts: readers of each format, documents, passages that become prompts.

May import: study and the ground floor. Read first: documents.py.
"""
