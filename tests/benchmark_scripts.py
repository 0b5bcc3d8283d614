"""The scripts of benchmarks/ as modules, and a text for them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from specpress.data.documents import Document
from specpress.data.store import save_split

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    """The script of this name, which finds those beside it only while it is imported."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def save_words(folder: Path, source: dict) -> None:
    """A prepared data set of twelve short documents, half of them to test on."""
    documents = [Document(str(i), f"Words {i}", f"The words of text {i}. " * 40) for i in range(12)]
    save_split(folder, documents, 0.5, {"source": source})
