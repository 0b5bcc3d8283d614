"""Presses: which slots of a KV cache to keep. kvpress's by name, and the original study's, one file each.

May import: engine and below. Read first: catalogue.py. `compression_ratio` is the fraction of slots REMOVED.
"""

from specpress.engine.compression_settings import Compression
from specpress.presses.catalogue import get_press, list_presses, press_lines

__all__ = ["Compression", "get_press", "list_presses", "press_lines"]
