import numpy as np
import pytest
import torch

from specpress.drafters.growing.successors import Successors, most_likely


@pytest.mark.parametrize("size", [5, 40, 1024, 2000, 2048])  # fewer than k, few blocks, whole blocks, a block cut short
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_most_likely_is_top_k(size, dtype):
    logits = (torch.randn(6, size, generator=torch.Generator().manual_seed(size)) * 4).to(dtype)
    logits[0] = -logits[0].abs() - 1  # what fills the last block must not win
    places, mass = most_likely(logits, 8)
    expected = torch.softmax(logits.float(), -1).topk(min(8, size))
    assert places.shape == mass.shape == expected.indices.shape
    assert torch.equal(logits.gather(1, torch.from_numpy(places)), logits.float().topk(min(8, size)).values.to(dtype))
    whole = expected.values.numpy()
    assert mass / mass[:, :1] == pytest.approx(whole / whole[:, :1], rel=1e-4)
    assert (mass > 0.999 * whole).all()
    assert (mass.sum(1) < 1.001).all()


def test_learns_what_was_seen_last():
    successors = Successors(6, 2)
    logits = torch.tensor([[0.0, 9, 8, 0, 0, 0], [0, 0, 0, 9, 8, 0], [9, 0, 0, 0, 0, 8]])
    successors.learn(torch.tensor([4, 2, 4]), logits)
    assert [token for token, _ in successors.after(4)] == [0, 5]
    assert [token for token, _ in successors.after(2)] == [3, 4]
    assert successors.after(0) == []
    assert sum(mass for _, mass in successors.after(4)) == pytest.approx(1, abs=1e-2)


def test_a_head_over_part_of_the_vocabulary_says_which_tokens_it_means():
    successors = Successors(9, 3)
    successors.learn(torch.tensor([1]), torch.tensor([[0.0, 5.0]]), head=np.array([4, 7]))
    assert [token for token, _ in successors.after(1)] == [7, 4]


def test_counts_of_text():
    successors = Successors.counted([[1, 2, 1, 3, 1, 2], [], [1], [4, 1, 5]], vocabulary=6, k=2)
    assert successors.after(1) == [(2, pytest.approx(2 / 7)), (3, pytest.approx(1 / 7))]  # of four, of three kinds
    assert successors.after(4) == [(1, pytest.approx(1 / 2))]
    assert successors.after(5) == successors.after(0) == []
    assert Successors.counted([], 6, 2).after(1) == []


def test_a_copy_learns_by_itself():
    successors = Successors(4, 2)
    successors.learn(torch.tensor([1]), torch.eye(4)[2:3] * 9)
    copied = successors.first(1)
    assert copied.after(1) == successors.after(1)[:1]
    copied.learn(torch.tensor([1]), torch.eye(4)[3:] * 9)
    assert copied.after(1)[0][0] == 3
    assert successors.after(1)[0][0] == 2


def test_more_successors_than_are_known_are_refused():
    with pytest.raises(ValueError, match="knows 2 successors of a token, 3 were asked for"):
        Successors(4, 2).first(3)
