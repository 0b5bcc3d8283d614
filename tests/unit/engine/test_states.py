"""Hidden states kept for a drafter, and a pass that begins behind the embeddings, against transformers' own."""

import pytest
import tiny
import torch

from specpress.engine.attention import decode_attention
from specpress.engine.cached_model import CachedModel
from specpress.engine.states import HiddenStates
from specpress.engine.tree import Tree


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_layers_put_out_is_kept_as_transformers_tells_it(family):
    model, tokens = tiny.FAMILIES[family](3), tiny.prompt(9, batch=2)
    cached = CachedModel(model, 16)
    cached.states = HiddenStates((1, 2))
    with decode_attention(model):
        cached.feed(tokens[:, :5])
        cached.feed(tokens[:, 5:])
    with torch.inference_mode():
        expected = torch.cat(model(tokens, output_hidden_states=True).hidden_states[1:3], -1)
    torch.testing.assert_close(cached.states.take(), expected)


def test_rejected_tokens_leave_no_states():
    model, tokens, other = tiny.llama(), tiny.prompt(9), tiny.prompt(3, seed=1)
    cached = CachedModel(model, 16)
    cached.states = HiddenStates((2,))
    with decode_attention(model):
        cached.feed(tokens)
        cached.rollback_to(7)
        cached.feed(other)
        found = cached.states.take()
        cached.rollback_to(6)
        cached.feed(other)
        again = cached.states.take()
        fresh = CachedModel(model, 16)
        fresh.states = HiddenStates((2,))
        fresh.feed(torch.cat([tokens[:, :7], other], 1))
    torch.testing.assert_close(found, fresh.states.take())
    assert again.shape[1] == 3  # what was taken is not given twice
    with pytest.raises(ValueError, match="since its states were last taken"):
        cached.states.take()


def test_of_a_tree_the_states_of_the_path_that_stands_are_kept():
    model, tokens = tiny.llama(), tiny.prompt(9)
    cached, plain = CachedModel(model, 16), CachedModel(model, 16)
    cached.states, plain.states = HiddenStates((1, 2)), HiddenStates((1, 2))
    with decode_attention(model):
        cached.feed(tokens, tree=Tree((-1, 0, -1, 2, 2)))  # the last five of nine: two children, the second with two
        cached.keep(5, (2, 4))
        plain.feed(tokens[:, [0, 1, 2, 3, 6, 8]])
    found, expected = cached.states.take(), plain.states.take()
    torch.testing.assert_close(found, expected)
    assert cached.states.end == cached.length == 6


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_pass_may_begin_behind_the_embeddings(family):
    model, tokens = tiny.FAMILIES[family](), tiny.prompt(9)
    with decode_attention(model):
        expected = CachedModel(model, 16).feed(tokens, keep=9)
        inputs = model.get_input_embeddings()(tokens).detach()
        got = CachedModel(model, 16).feed(torch.zeros_like(tokens), keep=9, inputs=inputs)
    torch.testing.assert_close(got, expected)
