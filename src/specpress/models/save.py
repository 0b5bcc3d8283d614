"""Models written to disk: complete or not at all, and what is read back is what was written."""

import warnings

import torch
import transformers
from safetensors import SafetensorError

from specpress.files.publish import publish
from specpress.models.config import keep_partial_rotary
from specpress.models.load import load_model
from specpress.models.quantized import weight_bytes
from specpress.models.quiet import transformers_quiet
from specpress.theory.shapes import shape_of

# Keys of a configuration that say how a model was stored or is run, not what it computes.
_NOT_THE_MODEL = {"_name_or_path", "architectures", "transformers_version", "_attn_implementation", "use_cache"}
_TEXT = "What was read in 1837: naïve  café,\n\tdef f(x): ½ “q” 日本"
_TOKENS = 8
_ROUNDED = 2**-7  # a model converted with .to(torch.bfloat16) has its rotary frequencies rounded too; reading does not


def save_model(model, tokenizer, directory, manifest):
    """Write a model directory that `load_model` reads; manifest.json comes last and marks it as complete.

    Parameters
    ----------
    model : of a family in `specpress.models.families`
        Stored in its own dtype, as one safetensors file.
    tokenizer : PreTrainedTokenizerBase or None
    directory : str or Path
        Other files already there stay.
    manifest : dict
        What the model is and where it comes from (JSON-able). Added to it are `model_size` and, as `files`, the sha256
        and size of each file, so that a job depending on the manifest depends on the weights.

    Before it is published the directory is read back and compared with the model: configuration, weights, logits on a
    few tokens, tokenizer.

    Raises
    ------
    OSError
        If the disk is full; nothing is left behind.
    ValueError
        If what was written reads back as another model; likewise.
    """
    keep_partial_rotary(model.config)
    _keep_ends_alone(model)
    with publish(directory, {**manifest, **model_size(model)}) as folder, transformers_quiet():
        try:
            model.save_pretrained(folder, max_shard_size="1TB")
        except SafetensorError as error:  # of a full disk, say
            raise OSError(f"the weights cannot be written to {directory}: {error}") from error
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if wrong := _difference(model, tokenizer, folder):
            raise ValueError(
                f"{directory} was not written: read back, the model is another one ({wrong}). Its configuration does "
                f"not survive transformers {transformers.__version__}; give a model that does"
            )


def _keep_ends_alone(model) -> None:
    """Of how the model's authors generate keep where a text begins and ends: the rest is not used here, and may be
    what transformers does not save."""
    given = getattr(model, "generation_config", None)
    if given is not None:
        kept = {name: getattr(given, name, None) for name in ("bos_token_id", "eos_token_id")}
        model.generation_config = transformers.GenerationConfig(**kept)


def _difference(model, tokenizer, folder) -> str | None:
    """In which way what `folder` holds is not the model and tokenizer that were written; None if in none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draft may have no tokenizer
        written, read = load_model(folder, device=model.device)
    ours, theirs = model.config.to_dict(), written.config.to_dict()
    for key in sorted(ours.keys() & theirs.keys() - _NOT_THE_MODEL):
        if ours[key] != theirs[key]:
            return f"{key} was {ours[key]!r} and is {theirs[key]!r}"
    stored, computed = written.state_dict(), dict(written.named_buffers())
    for name, held in model.state_dict().items():
        if name not in stored or not _same(held, stored[name]):
            return f"{name} differs"
    for name, held in model.named_buffers():  # those that are not stored too: rotary frequencies
        if name not in computed or not _same(held.float(), computed[name].float(), relative=_ROUNDED):
            return f"{name} differs"
    if wrong := _logits_difference(model, written):
        return wrong
    if tokenizer is not None and (tokenizer.get_vocab() != read.get_vocab() or tokenizer(_TEXT) != read(_TEXT)):
        return "its tokenizer reads text otherwise"
    return None


def _same(one: torch.Tensor, other: torch.Tensor, relative: float = 0.0) -> bool:
    """Whether two tensors are alike in shape, dtype and numbers, up to a relative difference."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.allclose(one, other, rtol=relative, atol=0, equal_nan=True)


def _logits_difference(model, written) -> str | None:
    """Whether two models with the same weights compute something else, beyond the rounding of sums in another order."""
    tokens = torch.arange(_TOKENS, device=model.device)[None] % model.config.vocab_size
    training = model.training
    try:
        with torch.inference_mode():
            ours, theirs = (m.eval()(tokens).logits.float() for m in (model, written))
    finally:
        model.train(training)
    close = _ROUNDED if model.dtype in (torch.float32, torch.float64) else 8 * _ROUNDED
    scale = float(ours.nan_to_num(0, 0, 0).std())
    if torch.allclose(ours, theirs, rtol=close, atol=close * scale, equal_nan=True):
        return None
    return f"its logits differ by {float((ours - theirs).abs().max()):.2g}"


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
        "hidden_size": shape.hidden_size,
    }
