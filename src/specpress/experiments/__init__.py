"""The measuring itself, one module a kind of experiment: `measure(spec, assets) -> dict`.

A kind is loaded by name, so that editing it reruns its experiments and no others. May import: decoding and below.
Read first: run.py, then duels/arms.py.
"""
