import tiny
import torch

from specpress import SamplingParams, generate
from specpress.decoding.generate import prepare
from specpress.drafters import Proposal, SuffixLookup
from specpress.experiments.duels.tree_sample import branched, sample, walked
from specpress.laws.law import point


class Numbers:
    """A tokenizer whose tokens are their numbers."""

    def decode(self, tokens):
        return " ".join(map(str, tokens))


def test_a_tree_is_shown_with_what_the_text_went_through():
    target, prompt = tiny.llama(), tiny.prompt(24)
    settings = {"max_new_tokens": 60, "sampling": SamplingParams(temperature=0)}
    text = generate(target, prompt, **settings).tokens[0].tolist()
    loop = prepare(target, prompt, drafter=SuffixLookup(6), verification="traversal", **settings)
    found = sample(loop, Numbers())
    kept = [node["token"] for node in found["nodes"] if node["kept"]]
    written = Numbers().decode([*prompt[0].tolist(), *text])
    assert kept
    assert " ".join([found["before"], *kept, found["next"] or ""]).strip() in written
    assert 0 < len(found["nodes"]) <= 6


def test_a_tree_of_which_another_than_the_first_child_was_kept_shows_more():
    proposal = Proposal(torch.tensor([3, 4, 5]), [point(t) for t in (3, 4, 5)], [-1, -1, 1])
    assert branched(proposal, [1, 2])
    assert not branched(proposal, [0])
    assert not branched(Proposal(torch.tensor([3, 4]), [point(3), point(4)]), [0, 1])


def test_the_path_of_a_text_through_a_tree():
    proposal = Proposal(torch.tensor([3, 4, 5, 3]), [point(t) for t in (3, 4, 5, 3)], [-1, -1, 1, 2])
    assert walked(proposal, [4, 5, 3, 3]) == [1, 2, 3]
    assert walked(proposal, [5]) == []
    assert walked(Proposal(torch.tensor([3, 4]), [point(3), point(4)]), [3, 4, 1]) == [0, 1]
