"""A feature head against a plain computation by transformers' modules, on the states of one forward of the target."""

import pytest
import tiny
import torch

from specpress import SamplingParams, generate
from specpress.drafters import Cascade, DraftModel, FeatureHead
from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.laws.sampling import Randomness, probabilities
from specpress.models.build import build_model
from specpress.models.feature_head import normed
from specpress.models.load import load_model
from specpress.models.save import model_size, save_model
from specpress.schedules import Constant
from specpress.schedules.base import never
from specpress.speculation.prefill import prefill
from specpress.theory.shapes import shape_of

LAYERS = (1, 3)


def pair(family, **options):
    target = tiny.FAMILIES[family](3)
    return target, tiny.feature_head(target, LAYERS, **options)


@torch.inference_mode()
def drafted_laws(target, head, context, drafted):
    """The law of each of `drafted` tokens, by the plain way: every place of the head computed anew for each of them."""
    states = target(context[None, :-1], output_hidden_states=True).hidden_states
    states = head.feature_input.condensed(torch.cat([states[1], states[3]], -1))  # the last one is tested unnormed
    laws, text = [], context
    for token in drafted:
        embeddings = head.get_input_embeddings()(text[None, 1:])
        inputs = head.feature_input(states, embeddings)
        seen = []
        layer = head.base_model.layers[-1]
        handle = layer.register_forward_hook(lambda module, args, output, seen=seen: seen.append(output))
        logits = head(inputs_embeds=inputs, use_cache=False).logits[0, -1]
        handle.remove()
        laws.append(probabilities(logits, SamplingParams()))
        output = seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0]
        states = torch.cat([states, normed(output[:, -1:])], 1)
        text = torch.cat([text, token[None]])
    return torch.stack(laws)


def without_final_norm(target):
    """A target whose last norm is none: transformers gives the last output behind it, the head reads it before."""
    name = "norm" if hasattr(target.base_model, "norm") else "final_layer_norm"
    setattr(target.base_model, name, torch.nn.Identity())
    return target


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kept", [None, 20])
def test_its_laws_are_those_of_the_plain_way_round_after_round(family, kept):
    target, head = pair(family, kept=kept)
    drafter, cached = FeatureHead(head), CachedModel(target, 64)
    context = tiny.prompt(10)[0]
    plain = without_final_norm(tiny.FAMILIES[family](3))
    drafter.start(target, SamplingParams(), Randomness(0), 64)
    with decode_attention(target, head):
        prefill(cached, context[None, :-1], drafter=drafter)
        for accepted, gamma in ((2, 3), (0, 2), (4, 4)):
            proposal = drafter.propose(context, gamma, never)
            expected = drafted_laws(plain, head, context, proposal.tokens)
            for law, row in zip(proposal.laws, expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(law.mass), row.double(), atol=2e-5, rtol=1e-3)
            cached.feed(torch.cat([context[cached.length :], proposal.tokens])[None])
            cached.rollback_to(len(context) + accepted)
            drafter.rollback(len(context) + accepted)
            context = torch.cat([context, proposal.tokens[:accepted], torch.tensor([5])])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_children_stand_beside_its_main_line_with_its_laws(family):
    """The first of two children goes on; its law is the plain one, the second's that without the first."""
    target, head = pair(family, kept=20)
    drafter, cached = FeatureHead(head, children=2), CachedModel(target, 64)
    context, plain = tiny.prompt(10)[0], without_final_norm(tiny.FAMILIES[family](3))
    drafter.start(target, SamplingParams(), Randomness(0), 64)
    with decode_attention(target, head):
        prefill(cached, context[None, :-1], drafter=drafter)
        for _ in range(2):  # the second time after another token
            proposal = drafter.propose(context, 6, never)
            assert proposal.parents == [-1, -1, 0, 0, 2, 2]
            expected = drafted_laws(plain, head, context, proposal.tokens[::2])
            for first, second, row in zip(proposal.laws[::2], proposal.laws[1::2], expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(first.mass), row.double(), atol=2e-5, rtol=1e-3)
                assert len(second.tokens) == len(first.tokens) - 1
            cached.feed(context[None, cached.length :])
            context = torch.cat([context, torch.tensor([5])])


def test_children_of_a_head_are_at_least_one():
    with pytest.raises(ValueError, match="children must be at least 1, got 0"):
        FeatureHead(pair("llama")[1], children=0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("verification", ["traversal", "recursive"])
@pytest.mark.parametrize("likely", [False, True])
def test_greedy_text_of_its_trees_is_the_targets(family, verification, likely):
    target, head = pair(family)
    settings = {"max_new_tokens": 30, "sampling": SamplingParams(temperature=0)}
    drafter = FeatureHead(head, children=8, likely=likely)
    found = generate(
        target, tiny.prompt(12), drafter=drafter, schedule=Constant(24), verification=verification, **settings
    )
    assert torch.equal(found.tokens, generate(target, tiny.prompt(12), **settings).tokens)
    assert max(i.accepted for i in found.trace.iterations) > 0


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("verification", ["token", "block"])
def test_greedy_text_is_the_targets(family, verification):
    target, head = pair(family)
    settings = {"max_new_tokens": 30, "sampling": SamplingParams(temperature=0)}
    alone = generate(target, tiny.prompt(12), **settings)
    result = generate(
        target, tiny.prompt(12), drafter=FeatureHead(head), schedule=Constant(3), verification=verification, **settings
    )
    assert torch.equal(result.tokens, alone.tokens)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_in_a_cascade_its_laws_are_those_of_the_plain_way_too(family, rounds):
    """Whatever stands of a proposal: all of it, so that the intermediate model lacks two tokens, some, or nothing."""
    middle, head = pair(family, kept=20)
    plain, drafted = without_final_norm(tiny.FAMILIES[family](3)), []
    drafter = FeatureHead(head)
    propose = drafter.propose

    def watched(text, gamma, stop):
        drafted.append((text, propose(text, gamma, stop)))
        return drafted[-1][1]

    drafter.propose = watched
    cascade, context = Cascade(middle, drafter, gamma=2, rounds=rounds), tiny.prompt(10)[0]
    cascade.start(middle, SamplingParams(), Randomness(0), 99)
    with decode_attention(middle, head):
        for accepted in (9, 0, 1, 9, 9, 0, 2, 9):
            proposal = cascade.propose(context, 6, never)
            kept = proposal.tokens[:accepted]
            cascade.rollback(len(context) + len(kept))
            context = torch.cat([context, kept, torch.tensor([5])])
        assert len(drafted) > 8 or rounds == 1
        for text, proposal in drafted:
            expected = drafted_laws(plain, head, text, proposal.tokens)
            for law, row in zip(proposal.laws, expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(law.mass), row.double(), atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("children", [1, 2])
@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("seed", [0, 5])
def test_greedy_text_of_a_cascade_with_a_head_inside_is_the_targets(family, children, rounds, seed):
    """The intermediate model is the target, all of whose tokens stand, or another."""
    target, middle = tiny.FAMILIES[family](3), tiny.FAMILIES[family](3, seed=seed)
    drafter = Cascade(middle, FeatureHead(tiny.feature_head(middle, LAYERS), children=children), gamma=2, rounds=rounds)
    settings = {"max_new_tokens": 30, "sampling": SamplingParams(temperature=0)}
    found = generate(target, tiny.prompt(12), drafter=drafter, schedule=Constant(5), **settings)
    assert torch.equal(found.tokens, generate(target, tiny.prompt(12), **settings).tokens)
    assert (seed == 0) == all(i.accepted == i.proposed for i in found.trace.iterations)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_head_is_read_back_as_it_was_written(family, tmp_path):
    head = pair(family, kept=20)[1]
    save_model(head, None, tmp_path / "head", {})
    with pytest.warns(UserWarning, match="no tokenizer"):
        read, _ = load_model(tmp_path / "head")
    ours, theirs = head.state_dict(), read.state_dict()
    assert ours.keys() == theirs.keys()
    assert "feature_input.add.weight" in theirs
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert FeatureHead(read).reads == LAYERS
    assert shape_of(head.config.to_dict()).size("float32") == model_size(head)


def test_nothing_is_kept_for_drafters_that_do_not_ask(monkeypatch):
    def kept(*_):
        raise AssertionError("hidden states were kept")

    monkeypatch.setattr("specpress.engine.states.HiddenStates.keep", kept)
    target = tiny.llama()
    generate(target, tiny.prompt(8), max_new_tokens=6, drafter=DraftModel(tiny.llama(1)))
    with pytest.raises(AssertionError, match="were kept"):
        generate(target, tiny.prompt(8), max_new_tokens=6, drafter=FeatureHead(tiny.feature_head(target, (1,))))


def test_what_does_not_fit_is_refused():
    target, head = pair("llama")
    with pytest.raises(ValueError, match="is no feature head"):
        FeatureHead(target)
    with pytest.raises(ValueError, match="use FeatureHead"):
        DraftModel(head)
    settings = {"max_new_tokens": 4, "drafter": FeatureHead(head)}
    with pytest.raises(ValueError, match="layers 1, 3 of a target with hidden states of 48; this one has 2 layers"):
        generate(tiny.llama(2), tiny.prompt(8), **settings)
    with pytest.raises(ValueError, match="one sequence at a time"):
        generate(target, tiny.prompt(8, batch=2), **settings)
    target.base_model.layers[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="runs by its modules"):
        generate(target, tiny.prompt(8), **settings)


def test_a_new_head_is_built_with_its_input():
    target, head = pair("gpt_neox")
    assert build_model(head.config).feature_input.condense.in_features == 2 * target.config.hidden_size
