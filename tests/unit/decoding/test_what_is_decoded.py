"""A model is decoded as transformers decodes it, or refused before any work, whoever loaded it."""

import pytest
import tiny
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from specpress import SamplingParams, generate, perplexity
from specpress.decoding.uncached import generate_uncached
from specpress.drafters import Cascade, CompressedTarget, DraftModel, PromptLookup
from specpress.engine.forward import forward_of
from specpress.laws.engines import laws_there
from specpress.laws.law import law_of
from specpress.presses import get_press

GREEDY = SamplingParams(temperature=0)
SIZES = {
    **{"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 64},
    **{"num_hidden_layers": 2, "vocab_size": tiny.VOCABULARY, "bos_token_id": 0, "eos_token_id": 1},
    **{"pad_token_id": 0, "max_position_embeddings": 256, "head_dim": 8},
}
FAMILIES = {
    "mistral": lambda **more: made(MistralForCausalLM, MistralConfig, **more),
    "qwen2": lambda **more: made(Qwen2ForCausalLM, Qwen2Config, **more),
    "qwen3": lambda **more: made(Qwen3ForCausalLM, Qwen3Config, **more),
    "phi3": lambda **more: made(Phi3ForCausalLM, Phi3Config, **more),
    "gpt2": lambda **more: made(GPT2LMHeadModel, GPT2Config, num_key_value_heads=6, **more),
}
PROMPT = tiny.prompt(20)


def made(model, config, **more):
    torch.manual_seed(0)
    network = model(config(**{**SIZES, **more}))
    for parameter in network.parameters():
        parameter.data *= 4 if parameter.dim() > 1 else 1
    return network.eval()


def plain(model, prompt, new):
    """Greedy decoding by the model's own forward, over the whole text at each step."""
    text = prompt
    for _ in range(new):
        with torch.inference_mode():
            text = torch.cat([text, model(text).logits[:, -1:].argmax(-1)], 1)
    return text[:, prompt.shape[1] :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("drafter", [None, PromptLookup])
@pytest.mark.parametrize("by", ["pass", "modules"])
def test_families_are_decoded_as_transformers_does(family, drafter, by):
    model = FAMILIES[family]()
    if by == "modules":
        model.register_forward_hook(lambda *_: None)  # who watches a model sees its modules run
    assert (forward_of(model) is None) == (by == "modules" or family == "gpt2")
    ours = generate(model, PROMPT, max_new_tokens=16, sampling=GREEDY, drafter=drafter and drafter()).tokens
    assert ours.tolist() == plain(model, PROMPT, 16).tolist()


WINDOWS = {
    "mistral": {"sliding_window": 24},
    "qwen2": {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 0},
    "qwen3": {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 0},
    "phi3": {"sliding_window": 24},
}


@pytest.mark.parametrize("family", WINDOWS)
@pytest.mark.parametrize("prompt", [20, 40])
def test_a_text_that_goes_past_the_window_is_decoded_right(family, prompt):
    """Also from a prompt longer than the window, alone, drafted for, and in batches with and without a drafter."""
    model, tokens = FAMILIES[family](**WINDOWS[family]), tiny.prompt(prompt, batch=2)
    expected = plain(model, tokens, 24)
    assert expected.tolist() != plain(FAMILIES[family](), tokens, 24).tolist()
    settings = {"max_new_tokens": 24, "sampling": GREEDY}
    for drafter in (lambda: None, PromptLookup, lambda: DraftModel(FAMILIES[family](**WINDOWS[family]))):
        assert generate(model, tokens[:1], drafter=drafter(), **settings).tokens.tolist() == expected[:1].tolist()
        assert generate(model, tokens, drafter=drafter(), **settings).tokens.tolist() == expected.tolist()
    mask = torch.ones_like(tokens)
    mask[0, :7] = 0
    expected = torch.cat([plain(model, tokens[:1, 7:], 24), expected[1:]])
    assert generate(model, tokens, attention_mask=mask, **settings).tokens.tolist() == expected.tolist()


@pytest.mark.parametrize("family", WINDOWS)
def test_perplexity_keeps_to_the_window(family):
    model, tokens = FAMILIES[family](**WINDOWS[family]), tiny.prompt(60)
    with torch.inference_mode():
        logits = model(tokens[:, :-1]).logits.float()
    expected = torch.nn.functional.cross_entropy(logits[0, 30:], tokens[0, 31:], reduction="sum")
    assert perplexity(model, tokens, context=30).nll == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("family", WINDOWS)
def test_what_cannot_keep_to_a_window_is_refused_past_it(family):
    model, press = FAMILIES[family](**WINDOWS[family]), get_press("knorm", compression_ratio=0.5)
    watched = FAMILIES[family](**WINDOWS[family])
    watched.register_forward_hook(lambda *_: None)
    message = "windows of 24 tokens, and a text of 25 goes past them"
    for call in (
        lambda: generate(model, PROMPT, max_new_tokens=5, press=press),
        lambda: generate(model, PROMPT, max_new_tokens=5, drafter=CompressedTarget(press)),
        lambda: generate(tiny.llama(), PROMPT, max_new_tokens=5, drafter=DraftModel(model, press=press)),
        lambda: generate(watched, PROMPT, max_new_tokens=5),
        lambda: generate_uncached(model, PROMPT, max_new_tokens=5),
        lambda: perplexity(model, tiny.prompt(25), context=8, press=press),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert generate(model, PROMPT, max_new_tokens=4, press=press).tokens.shape == (1, 4)


def test_a_window_that_is_not_used_is_none():
    model = FAMILIES["qwen2"](sliding_window=24, use_sliding_window=False)
    assert (
        generate(model, PROMPT, max_new_tokens=16, sampling=GREEDY).tokens.tolist() == plain(model, PROMPT, 16).tolist()
    )


@pytest.mark.parametrize(
    ("model", "config"), [(Gemma3ForCausalLM, Gemma3TextConfig), (Gemma2ForCausalLM, Gemma2Config)]
)
def test_families_whose_attention_is_another_are_refused(model, config):
    other = made(model, config)
    message = r"family 'gemma\w+', which is not decoded here: .*windows alternate.*; decoded are gpt2,"
    for call in (
        lambda: generate(other, PROMPT, max_new_tokens=2),
        lambda: generate(tiny.llama(), PROMPT, max_new_tokens=2, drafter=DraftModel(other)),
        lambda: generate(tiny.llama(), PROMPT, max_new_tokens=2, drafter=Cascade(other, PromptLookup())),
        lambda: generate_uncached(other, PROMPT, max_new_tokens=2),
        lambda: perplexity(other, PROMPT, context=8),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_layers_of_another_kind_are_refused():
    model = FAMILIES["qwen3"]()
    model.config.layer_types = ["full_attention", "chunked_attention"]
    with pytest.raises(ValueError, match="layers of the kind chunked_attention"):
        generate(model, PROMPT, max_new_tokens=2)


def longrope(first):
    factors = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 4.0, 8.0, 16.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": first, "factor": 8.0}
    return tiny.llama(rope_parameters={**rope, **factors})


@pytest.mark.parametrize("drafter", [PromptLookup, lambda: DraftModel(tiny.llama(1))])
def test_longrope_is_drafted_as_it_is_decoded_or_refused(drafter):
    model = longrope(64)
    for prompt in (tiny.prompt(20), tiny.prompt(70)):  # on one side of the change, and on the other
        alone = generate(model, prompt, max_new_tokens=24, sampling=GREEDY).tokens
        drafted = generate(model, prompt, max_new_tokens=24, sampling=GREEDY, drafter=drafter()).tokens
        assert drafted.tolist() == alone.tolist()
    with pytest.raises(ValueError, match=r"\(longrope\) changes at 64 tokens"):
        generate(model, tiny.prompt(50), max_new_tokens=24, drafter=drafter())
    crossing = generate(model, tiny.prompt(50), max_new_tokens=24, sampling=GREEDY).tokens
    assert crossing.shape == (1, 24)


def test_longrope_is_refused_where_a_longer_text_or_a_chunk_would_decide():
    model = longrope(64)
    mask = torch.ones(2, 50, dtype=torch.long)
    mask[1, :10] = 0
    for call in (
        lambda: generate(model, tiny.prompt(50, batch=2), attention_mask=mask, max_new_tokens=24),
        lambda: generate_uncached(model, tiny.prompt(50), max_new_tokens=24, drafter_model=tiny.llama(1)),
        lambda: perplexity(model, tiny.prompt(80), context=32),
    ):
        with pytest.raises(ValueError, match="changes at 64 tokens"):
            call()
    assert generate(model, tiny.prompt(50, batch=2), max_new_tokens=24).tokens.shape == (2, 24)


@pytest.mark.parametrize("drafter", [lambda: None, PromptLookup])
def test_a_phi3_is_not_decoded_across_the_change_of_its_longrope(drafter):
    """There transformers reads the whole text anew: keys of one side do not fit queries of the other."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.1, 1.2], "long_factor": [2.0, 4.0, 8.0]}
    model = tiny.phi3(original_max_position_embeddings=64, rope_parameters=rope)
    settings = {"max_new_tokens": 24, "sampling": GREEDY}
    for prompt in (tiny.prompt(40), tiny.prompt(65)):  # on one side of the change, and on the other
        ours = generate(model, prompt, drafter=drafter(), **settings).tokens
        assert ours.tolist() == plain(model, prompt, 24).tolist()
    for crossing in (tiny.prompt(50), tiny.prompt(64), tiny.prompt(50, batch=2)):
        with pytest.raises(ValueError, match=r"Phi-3 would .* anew.* Give prompts of more than 64 tokens, or ask"):
            generate(model, crossing, drafter=drafter(), **settings)


def test_models_that_are_none_say_what_was_given():
    model = tiny.llama()
    for given, said in (
        ((model, "tokenizer"), r"a tuple of 2; load_model returns two things: model, tokenizer = load_model"),
        ("a/path", "must be a transformers causal LM, such as load_model returns, got an object of str"),
        (None, "got an object of NoneType"),
        (torch.nn.Linear(2, 2), "got an object of Linear"),
        (LlamaModel(model.config), "no output head over tokens, got an object of LlamaModel"),
        (LlamaForSequenceClassification(model.config), "no output head over tokens"),
    ):
        for call in (
            lambda given=given: generate(given, PROMPT, max_new_tokens=2),
            lambda given=given: perplexity(given, PROMPT, context=8),
            lambda given=given: generate(model, PROMPT, max_new_tokens=2, drafter=DraftModel(given)),
        ):
            with pytest.raises(ValueError, match=said):
                call()


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 4), (6, 0), (2, 6)])
def test_heads_that_do_not_fit_are_refused(heads, kv_heads):
    model = tiny.llama()
    model.config.num_attention_heads, model.config.num_key_value_heads = heads, kv_heads
    if not kv_heads:
        model.config.num_key_value_heads = -1
    with pytest.raises(ValueError, match=r"attention heads and .* key-value heads"):
        generate(model, PROMPT, max_new_tokens=2)


def test_a_head_size_that_config_gives_is_used():
    model = tiny.llama(head_dim=16)
    assert (
        generate(model, PROMPT, max_new_tokens=16, sampling=GREEDY).tokens.tolist() == plain(model, PROMPT, 16).tolist()
    )


def test_dropout_at_random_is_refused():
    model = tiny.gpt_neox(hidden_dropout=0.5).train()
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        generate(model, PROMPT, max_new_tokens=2)
    assert generate(model.eval(), PROMPT, max_new_tokens=2).tokens.shape == (1, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("some text", r"got text; give its tokens: tokenizer\("),
        (["some", "texts"], "got a list of texts"),
        ([[1, 2, 3]], r"got a list; give torch\.tensor"),
        ({"input_ids": PROMPT}, r"got a dict; give its tensor: .*\.input_ids"),
        (None, "got an object of NoneType"),
        (PROMPT.numpy(), "got an object of ndarray"),
        (PROMPT.float(), "must be integers from 0 to 47"),
        (PROMPT[0], "must be .*got shape"),
        (PROMPT + 48, "integers from 0 to 47, the model's vocabulary"),
    ],
)
def test_what_is_no_tensor_of_tokens_is_named(given, said):
    for call in (
        lambda: generate(tiny.llama(), given, max_new_tokens=2),
        lambda: generate_uncached(tiny.llama(), given, max_new_tokens=2),
        lambda: perplexity(tiny.llama(), given, context=8),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_a_batch_encoding_is_named():
    from transformers import BatchEncoding

    with pytest.raises(ValueError, match=r"got a BatchEncoding; give its tensor"):
        generate(tiny.llama(), BatchEncoding({"input_ids": PROMPT}), max_new_tokens=2)


@pytest.mark.parametrize("asked", [16.0, "16", True, None])
def test_a_number_of_tokens_that_is_not_whole_is_refused(asked):
    with pytest.raises(ValueError, match="max_new_tokens must be a whole number"):
        generate(tiny.llama(), PROMPT, max_new_tokens=asked)


@pytest.mark.parametrize(
    ("prompt", "new", "ways"),
    [
        (20, 100_000, r"tokens; ask for at most 236 new ones"),
        (300, 10, r"tokens; shorten the prompt to 246 tokens"),
        (200, 100, r"tokens; shorten the prompt to 156 tokens or ask for at most 56 new ones"),
        (300, 300, r"tokens; shorten the prompt, and ask for fewer than 256 new ones"),
    ],
)
def test_a_text_too_long_says_what_would_fit(prompt, new, ways):
    with pytest.raises(ValueError, match=ways):
        generate(tiny.llama(), tiny.prompt(prompt), max_new_tokens=new)


def test_changed_weights_are_noticed_as_the_docstring_says():
    model = tiny.llama().to(torch.bfloat16)
    weight = model.model.layers[0].mlp.down_proj.weight
    before = generate(model, PROMPT, max_new_tokens=8, sampling=GREEDY).tokens
    with torch.no_grad():
        weight[5:40] += 3
    after = generate(model, PROMPT, max_new_tokens=8, sampling=GREEDY).tokens
    fresh = tiny.llama().to(torch.bfloat16)
    with torch.no_grad():
        fresh.model.layers[0].mlp.down_proj.weight[5:40] += 3
    assert after.tolist() == generate(fresh, PROMPT, max_new_tokens=8, sampling=GREEDY).tokens.tolist()
    assert after.tolist() != before.tolist()
    assert "`.data`" in generate.__doc__


BROKEN = {"nan": float("nan"), "inf": float("inf")}
WAYS = {
    "alone": lambda model, **_: generate(model, PROMPT, max_new_tokens=24, sampling=GREEDY),
    "batch": lambda model, **_: generate(model, tiny.prompt(20, batch=2), max_new_tokens=24, sampling=GREEDY),
    "lookup": lambda model, **_: generate(model, PROMPT, max_new_tokens=24, sampling=GREEDY, drafter=PromptLookup()),
    "rows": lambda model, **_: generate(
        model, tiny.prompt(20, batch=2), max_new_tokens=24, sampling=GREEDY, drafter=PromptLookup()
    ),
    "draft": lambda model, **_: generate(
        tiny.llama(), PROMPT, max_new_tokens=24, sampling=GREEDY, drafter=DraftModel(model)
    ),
    "cascade": lambda model, **_: generate(
        tiny.llama(), PROMPT, max_new_tokens=24, sampling=GREEDY, drafter=Cascade(model, PromptLookup())
    ),
    "uncached": lambda model, **_: generate_uncached(model, PROMPT, max_new_tokens=24, sampling=GREEDY),
    "sampled": lambda model, **_: generate(model, PROMPT, max_new_tokens=24),
    "perplexity": lambda model, **_: perplexity(model, tiny.prompt(44), context=20),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", BROKEN)
def test_logits_that_are_no_numbers_stop_every_way_of_decoding(way, number, monkeypatch):
    """Also where they come late: rotary angles are no numbers from the 30th position on."""
    model = tiny.llama(seed=1)
    rotary = model.model.rotary_emb
    right = type(rotary).forward

    def broken(self, x, positions):
        cos, sin = right(self, x, positions)
        if self is rotary:
            cos = torch.where(positions[..., None] >= 30, BROKEN[number], cos)
        return cos, sin

    monkeypatch.setattr(type(rotary), "forward", broken)
    with pytest.raises(ValueError, match=r"infinite or no numbers \(NaN\)"):
        WAYS[way](model)


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 17, 47])
def test_one_logit_that_is_no_number_is_enough(worst, place):
    logits = torch.zeros(48)
    logits[place] = worst
    for sampling in (GREEDY, SamplingParams(), SamplingParams(top_k=5), SamplingParams(top_p=0.5)):
        with pytest.raises(ValueError, match="no numbers"):
            law_of(logits, sampling)
        assert laws_there(logits[None].repeat(2, 1), sampling).sound.tolist() == [False, False]
    with pytest.raises(ValueError, match="no numbers"):
        law_of(torch.full((48,), -float("inf")), GREEDY)
    logits[place] = -float("inf")  # a token that cannot come is no fault
    assert law_of(logits, GREEDY).tokens[0] == (1 if place == 0 else 0)
