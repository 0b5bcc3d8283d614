"""Texts and prompts: readers of each format, documents and their passages, questions, how both are stored.

May import: study and the ground floor. Read first: documents.py.
"""
