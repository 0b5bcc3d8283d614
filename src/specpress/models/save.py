"""Models written to disk: complete or not at all."""

from safetensors import SafetensorError

from specpress.files.publish import publish
from specpress.models.quantized import weight_bytes
from specpress.models.quiet import no_progress_bars
from specpress.theory.shapes import shape_of


def save_model(model, tokenizer, directory, manifest):
    """Write a model directory that `load_model` reads; manifest.json comes last and marks it as complete.

    Parameters
    ----------
    model : LlamaForCausalLM or GPTNeoXForCausalLM
        Stored in its own dtype, as one safetensors file.
    tokenizer : PreTrainedTokenizerBase or None
    directory : str or Path
        Other files already there stay.
    manifest : dict
        What the model is and where it comes from (JSON-able). Added to it are `model_size` and, as `files`, the sha256
        and size of each file, so that a job depending on the manifest depends on the weights.

    Raises
    ------
    OSError
        If the disk is full; nothing is left behind.
    """
    with publish(directory, {**manifest, **model_size(model)}) as folder, no_progress_bars():
        try:
            model.save_pretrained(folder, max_shard_size="1TB")
        except SafetensorError as error:  # of a full disk, say
            raise OSError(f"the weights cannot be written to {directory}: {error}") from error
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def model_size(model) -> dict[str, int]:
    """What a model needs, for estimates of memory and time: see `specpress.theory.shapes.Shape.size`.

    weight_bytes counts every parameter once, tied ones too, and those in fewer bits with their scales;
    kv_bytes_per_token is one token's keys and values over all layers, in the model's dtype.
    """
    shape, held = shape_of(model.config.to_dict()), weight_bytes(model)
    in_fewer_bits = getattr(model.config, "weights_format", None) is not None
    return {
        "weight_bytes": held,
        "step_weight_bytes": held - model.get_input_embeddings().weight.nbytes
        if in_fewer_bits
        else shape.read_parameters * model.dtype.itemsize,
        "flops_per_token": 2 * shape.read_parameters,
        "kv_bytes_per_token": shape.kv_elements_per_token * model.dtype.itemsize,
        "layers": shape.layers,
    }
