"""specpress: speculative decoding, KV-cache compression and their fusion, measured honestly.

The public names load on first use, so that `import specpress.study.load` (the workflow's configuration) never
imports torch.
"""

from importlib import import_module

_PUBLIC = {
    "generate": "specpress.decoding.generate",
    "Generation": "specpress.decoding.generate",
    "SamplingParams": "specpress.laws.sampling",
    "load_model": "specpress.models.load",
    "perplexity": "specpress.decoding.perplexity",
    "Perplexity": "specpress.decoding.perplexity",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'specpress' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
