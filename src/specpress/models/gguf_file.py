"""A GGUF file that is read once, however many ask: the tokenizer, the weights as codes, and transformers, twice.

transformers also lists the names of all tensors of a model anew for every module of it. Both are half a minute for a
model of a hundred million numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import gguf
import numpy as np


class Reader(gguf.GGUFReader):
    """gguf's, whose map of the file is a plain array: every slice of a `memmap` is one of its own, made in Python."""

    @property
    def data(self) -> np.ndarray:
        """The bytes of the file, as they are in the page cache."""
        return self._bytes

    @data.setter
    def data(self, mapped: np.memmap) -> None:
        self._bytes = np.asarray(mapped)


@contextmanager
def read_once() -> Iterator[None]:
    """Inside the block who asks gguf for a reader of a file gets the one that there is already."""
    readers = cache(Reader)
    own = {
        "GGUFReader": lambda path: readers(str(path)),
        "get_tensor_name_map": cache(gguf.get_tensor_name_map),
    }
    before = {name: getattr(gguf, name) for name in own}
    _set(own)
    try:
        yield
    finally:
        _set(before)


def _set(named: dict) -> None:
    for name, value in named.items():
        setattr(gguf, name, value)
