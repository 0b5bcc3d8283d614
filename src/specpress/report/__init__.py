"""The HTML report: its pages, beside what the paper says.

May import: paper, provenance and everything below them; no torch. Read first: pages.py.
"""
