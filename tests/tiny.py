"""Tiny models with random weights, of every family, for tests that need a real forward."""

import copy

import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from specpress.models.build import build_model

VOCABULARY = 48
GROUPED = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 64}


def llama(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> LlamaForCausalLM:
    """Three query heads a KV head, as in SmolLM2."""
    return _sharpened(LlamaForCausalLM, LlamaConfig, layers, seed, vocabulary, GROUPED | overrides)


def mistral(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> MistralForCausalLM:
    """Without a window, as Mistral has been since version 0.2."""
    settings = {**GROUPED, "sliding_window": None}
    return _sharpened(MistralForCausalLM, MistralConfig, layers, seed, vocabulary, settings | overrides)


def qwen2(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> Qwen2ForCausalLM:
    """Biases of queries, keys and values, which transformers starts at zero, drawn at random."""
    made = _sharpened(Qwen2ForCausalLM, Qwen2Config, layers, seed, vocabulary, GROUPED | overrides)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    return made


def qwen3(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> Qwen3ForCausalLM:
    """Heads of another size than hidden size over heads, and norms that differ from channel to channel."""
    settings = {**GROUPED, "head_dim": 16}
    made = _sharpened(Qwen3ForCausalLM, Qwen3Config, layers, seed, vocabulary, settings | overrides)
    for name, parameter in made.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            parameter.data.uniform_(0.5, 2)
    return made


def phi3(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> Phi3ForCausalLM:
    """Three quarters of the channels rotated, as in Phi-4-mini."""
    settings = {**GROUPED, "partial_rotary_factor": 0.75, "pad_token_id": None}
    return _sharpened(Phi3ForCausalLM, Phi3Config, layers, seed, vocabulary, settings | overrides)


def gpt_neox(layers: int = 2, *, seed: int = 0, vocabulary: int = VOCABULARY, **overrides) -> GPTNeoXForCausalLM:
    """Partial rotary embeddings and parallel residual, as in Pythia."""
    settings = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "rotary_pct": 0.25}
    return _sharpened(GPTNeoXForCausalLM, GPTNeoXConfig, layers, seed, vocabulary, settings | overrides)


def _sharpened(model, config, layers, seed, vocabulary, settings):
    """Weights scaled up, so that the laws are far from uniform and depend on the whole context."""
    torch.manual_seed(seed)
    settings = {"max_position_embeddings": 256, **settings}
    made = model(config(vocab_size=vocabulary, num_hidden_layers=layers, bos_token_id=0, eos_token_id=1, **settings))
    for parameter in made.parameters():
        parameter.data *= 4 if parameter.dim() > 1 else 1
    return made.eval()


# The two whose layers differ most, for tests of what does not depend on the family; the others; all of them.
FAMILIES = {"llama": llama, "gpt_neox": gpt_neox}
OTHERS = {"mistral": mistral, "qwen2": qwen2, "qwen3": qwen3, "phi3": phi3}
EVERY = {**FAMILIES, **OTHERS}


def prompt(length: int, *, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Random tokens, LongTensor (batch, length)."""
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def with_subset_head(model, kept: int):
    """The model with an output head over the first `kept` tokens of its vocabulary."""
    head = torch.nn.Linear(model.config.hidden_size, kept, bias=False)
    head.weight = torch.nn.Parameter(model.get_output_embeddings().weight.data[:kept].clone())
    model.set_output_embeddings(head)
    model.head_token_ids = torch.arange(kept)
    return model


def feature_head(target, layers, *, seed: int = 0, kept: int | None = None):
    """A head of two random layers that reads these layers of `target`; over its first `kept` tokens only, if given."""
    config = copy.deepcopy(target.config)
    config.update({"num_hidden_layers": 2, "feature_layers": list(layers), "tie_word_embeddings": False})
    if kinds := getattr(config, "layer_types", None):  # one for each layer
        config.layer_types = (2 * kinds)[:2]
    if kept is not None:
        config.head_token_ids = list(range(kept))
    torch.manual_seed(seed)
    head = build_model(config, dtype=target.dtype)
    for parameter in head.parameters():
        parameter.data *= 4 if parameter.dim() > 1 else 1
    return head


def distinct(length: int, vocabulary: int, *, seed: int = 0) -> torch.Tensor:
    """Random tokens none of which occurs twice, LongTensor (1, length): no two keys of a layer have the same norm."""
    return torch.randperm(vocabulary - 2, generator=torch.Generator().manual_seed(seed))[None, :length] + 2
