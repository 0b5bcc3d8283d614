"""The shape of a model: what it takes to know its parameters, its KV cache and its arithmetic without its weights.

No torch, no network: `make plan` and the check of memory before a model is loaded read shapes only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gpt_neox")  # `specpress.models.families`

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
HELD_BYTES = {
    "q4": 0.625,
    "q8": 1.25,
}  # of a number in four or eight bits, scales included (specpress.models.quantized)


@dataclass(frozen=True)
class Shape:
    """A causal language model of one of the `ARCHITECTURES`.

    head_rows : the height of its output head
    feature_layers : layers of its target that a feature head reads (`specpress.models.feature_head`); 0 of other models
    """

    architecture: str
    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    head_rows: int
    tied: bool
    feature_layers: int = 0

    @property
    def input_parameters(self) -> int:
        """Parameters of the two maps beside the embeddings of a feature head."""
        return self.hidden_size**2 * (self.feature_layers + 1) if self.feature_layers else 0

    @property
    def layer_weights(self) -> int:
        """Numbers in the weights of the linear maps of one layer: attention and MLP."""
        hidden, wide = self.hidden_size, self.intermediate_size
        if self.architecture == "gpt_neox":
            return 4 * hidden * hidden + 2 * hidden * wide
        return 2 * hidden * (self.heads + self.kv_heads) * self.head_size + 3 * hidden * wide

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: attention, MLP, norms, and the biases that its family has."""
        hidden, wide = self.hidden_size, self.intermediate_size
        if self.architecture == "gpt_neox":
            return self.layer_weights + 4 * hidden + wide + hidden + 4 * hidden
        more = {"qwen2": (self.heads + 2 * self.kv_heads) * self.head_size, "qwen3": 2 * self.head_size}
        return self.layer_weights + 2 * hidden + more.get(self.architecture, 0)

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        embeddings = self.hidden_size * (self.vocabulary + (0 if self.tied else self.head_rows))
        norm = self.hidden_size * (2 if self.architecture == "gpt_neox" else 1)
        return embeddings + self.input_parameters + self.layers * self.layer_parameters + norm

    @property
    def read_parameters(self) -> int:
        """Parameters that one decoding step reads: all but the embeddings of the tokens it is not given."""
        return self.input_parameters + self.layers * self.layer_parameters + self.hidden_size * self.head_rows

    @property
    def kv_elements_per_token(self) -> int:
        """Numbers in the keys and values of one token, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size

    def size(self, dtype: str, weights: str | None = None) -> dict[str, int]:
        """What a model's manifest.json says of memory and time; `weights` "q4" or "q8" are those in fewer bits.

        weight_bytes: all parameters. step_weight_bytes: those a decoding step reads. flops_per_token: two operations
        for each of these. kv_bytes_per_token: one token's keys and values over all layers.
        """
        whole, step = self.parameters * BYTES[dtype], self.read_parameters * BYTES[dtype]
        if weights is not None:
            whole, step = self._held_bytes(dtype, weights)
        return {
            "weight_bytes": whole,
            "step_weight_bytes": step,
            "flops_per_token": 2 * self.read_parameters,
            "kv_bytes_per_token": self.kv_elements_per_token * BYTES[dtype],
            "layers": self.layers,
            "hidden_size": self.hidden_size,
        }

    def _held_bytes(self, dtype: str, weights: str) -> tuple[int, int]:
        """All bytes, and those a step reads: maps in fewer bits, the head in eight and apart from the embeddings."""
        embeddings, head = self.hidden_size * self.vocabulary, self.hidden_size * self.head_rows
        vectors = self.parameters - embeddings - (0 if self.tied else head) - self.layers * self.layer_weights
        step = self.layers * self.layer_weights * HELD_BYTES[weights] + head * HELD_BYTES["q8"] + vectors * BYTES[dtype]
        return int(step) + embeddings * BYTES[dtype], int(step)


def shape_of(config: dict) -> Shape:
    """The shape in a config.json of transformers.

    Raises
    ------
    ValueError
        If it belongs to another family than `ARCHITECTURES`.
    """
    if config.get("model_type") not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"model family {config.get('model_type')!r} is not supported; supported: {known}")
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_ids = config.get("head_token_ids")
    return Shape(
        architecture=config["model_type"],
        vocabulary=config["vocab_size"],
        hidden_size=hidden,
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or hidden // heads,
        head_rows=config["vocab_size"] if head_ids is None else len(head_ids),
        tied=bool(config.get("tie_word_embeddings", False)),
        feature_layers=len(config.get("feature_layers") or ()),
    )


def attention_window(config: Mapping) -> int | None:
    """The window that layers of a model attend to, by its config.json; None where all attend to every token."""
    return None if config.get("use_sliding_window", True) is False else config.get("sliding_window")


def stated_shape(stated: dict, *, vocabulary: int | None = None) -> Shape:
    """The shape that a study states: the key `shape` of a model, or a `random` source.

    Parameters
    ----------
    stated : dict
        `architecture`, `hidden_size`, `layers`, `heads`; and, unless the usual holds: `kv_heads` (as many as heads),
        `head_size` (hidden_size / heads), `intermediate_size` (4 x hidden_size), `vocabulary`, `tied` (false).
    vocabulary : int, optional
        For a source that does not state it.
    """
    heads, hidden = stated["heads"], stated["hidden_size"]
    vocabulary = stated.get("vocabulary", vocabulary)
    return Shape(
        architecture=stated["architecture"],
        vocabulary=vocabulary,
        hidden_size=hidden,
        intermediate_size=stated.get("intermediate_size", 4 * hidden),
        layers=stated["layers"],
        heads=heads,
        kv_heads=stated.get("kv_heads", heads),
        head_size=stated.get("head_size", hidden // heads),
        head_rows=vocabulary,
        tied=stated.get("tied", False),
    )


def statement_of(shape: Shape) -> dict:
    """The key `shape` of a study that `stated_shape` reads as this shape; of a model whose head is not cut."""
    names = ("architecture", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_size")
    return {name: getattr(shape, name) for name in (*names, "vocabulary", "tied")}
