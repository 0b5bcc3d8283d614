"""Trees that no model drafts: what is known of likely continuations, and how a tree is grown from it.

May import: what `specpress.drafters` may. Read first: growth.py.
"""
