"""What a drafter promises, and a round: propose, verify, roll back.

May import: presses, engine, laws and below. Read first: drafter.py, verification.py (rejection sampling), rounds.py.
"""
