"""A study file: checked, expanded, planned; the registry of names, and the sources a job depends on.

May import: the ground floor; neither torch nor snakemake. Read first: load.py, then expansion.py and registry.py.
"""
