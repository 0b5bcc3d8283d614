"""The likeliest successors of every token: the adjacency matrix of token recycling.

Luo et al. (2024), "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
section 3.2, keep tokens alone; here each comes with the probability that the model gave it, which orders the nodes of a
tree.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK = 128  # logits whose largest is taken first: the k largest of a row lie in the k blocks of the largest maxima


class Successors:
    """`tokens`, int32 (vocabulary, k), the most likely first; `mass`, float32 (vocabulary, k): how likely.

    Where nothing is known of a token its successors have no mass. At k = 8 and 49,152 tokens that is 3 MB.
    """

    def __init__(self, vocabulary: int, k: int):
        self.tokens = np.zeros((vocabulary, k), dtype=np.int32)
        self.mass = np.zeros((vocabulary, k), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def k(self) -> int:
        """Successors kept of each token."""
        return self.tokens.shape[1]

    def first(self, k: int) -> "Successors":
        """A copy of the `k` most likely of each token, which learns by itself.

        Raises
        ------
        ValueError
            If fewer are known.
        """
        if k > self.k:
            raise ValueError(f"the matrix knows {self.k} successors of a token, {k} were asked for")
        copied = Successors(0, k)
        copied.tokens, copied.mass = self.tokens[:, :k].copy(), self.mass[:, :k].copy()
        return copied

    def learn(self, tokens: Tensor, logits: Tensor, head: np.ndarray | None = None) -> None:
        """Replace the rows of `tokens`, LongTensor (n,), by what `logits`, (n, head size), say comes after each.

        Of a token that comes more than once the last counts. `head` : see `specpress.laws.law.law_of`
        """
        found, mass = most_likely(logits, self.k)
        rows, known = tokens.numpy(), found.shape[1]  # fewer than k where the head is small
        self.mass[rows] = 0
        self.tokens[rows, :known] = found if head is None else head[found]
        self.mass[rows, :known] = mass

    def after(self, token: int) -> list[tuple[int, float]]:
        """The known successors of a token and their mass, the most likely first."""
        pairs = zip(self.tokens[token].tolist(), self.mass[token].tolist(), strict=True)
        return [(token, mass) for token, mass in pairs if mass > 0]

    @classmethod
    def counted(cls, texts: Iterable[Sequence[int]], vocabulary: int, k: int) -> "Successors":
        """What follows each token in texts, lists of tokens, without a model.

        The mass of a successor is its count over those of all and their number, which leaves to what was never seen as
        much as if each successor had been new once (Witten and Bell, 1991, method C). Of equal counts the smaller token
        comes first.
        """
        made, texts = cls(vocabulary, k), [np.asarray(text, dtype=np.int64) for text in texts]
        pairs = np.concatenate([text[:-1] * vocabulary + text[1:] for text in texts] or [np.zeros(0, np.int64)])
        pairs, counts = np.unique(pairs, return_counts=True)
        tokens = pairs // vocabulary
        order = np.lexsort((-counts, tokens))
        starts = np.searchsorted(tokens, np.arange(vocabulary))
        rank = np.arange(len(pairs)) - starts[tokens]
        every = np.bincount(tokens, counts, vocabulary) + np.bincount(tokens, minlength=vocabulary)
        kept = order[rank < k]  # sorted by token, the order leaves tokens where they are
        rows, ranks = tokens[kept], rank[rank < k]
        made.tokens[rows, ranks] = pairs[kept] % vocabulary
        made.mass[rows, ranks] = counts[kept] / every[rows]
        return made


def most_likely(logits: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row of logits, (n, vocabulary), in falling order: their places, and their share.

    Returns int64 and float32 (n, min(k, vocabulary)). torch's own top-k over a vocabulary takes longer than a tree may
    cost; of the largest in each block of a row it is fast. The share is of the probability of all tokens in these
    blocks, which hold nearly all of it: a sum over the vocabulary takes longer than all the rest, and orders the nodes
    of a tree no better.
    """
    rows, size = logits.shape
    k, blocks = min(k, size), -(-size // _BLOCK)
    if blocks <= k:
        share, places = logits.float().softmax(-1).topk(k)
        return places.cpu().numpy(), share.cpu().numpy()
    least = torch.finfo(logits.dtype).min
    cut = torch.nn.functional.pad(logits, (0, blocks * _BLOCK - size), value=least) if size % _BLOCK else logits
    cut = cut.view(rows, blocks, _BLOCK)
    chosen = cut.amax(-1).topk(k).indices  # (rows, k) blocks
    inside = cut.gather(1, chosen[..., None].expand(-1, -1, _BLOCK)).flatten(1)
    share, found = inside.float().softmax(-1).topk(k)
    places = chosen.gather(1, found // _BLOCK) * _BLOCK + found % _BLOCK
    return places.cpu().numpy(), share.cpu().numpy()
