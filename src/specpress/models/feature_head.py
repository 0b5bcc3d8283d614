"""What a feature head reads beside embeddings: hidden states of its target.

A feature head (EAGLE: Li et al., 2024, section 4; several layers fused as in EAGLE-3: Li et al., 2025, section 3) is a
small model of its target's family, whose place j is given the embedding of token j + 1 and the target's hidden states
after token j, and says the law of token j + 2. Where the target has not been yet, the head's own output stands in for
the states. On disk it is a draft with one more key in config.json, `feature_layers`: the numbers of the target's layers
whose outputs it reads.

What is read is added to the embedding through a map that is zero before training: a head begins as the draft model of
its layers, and loses nothing by looking at more. EAGLE joins both in one map, which has to be learnt from nothing: with
minutes of training that came out worse than no hidden states at all (docs/drafts.md).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-6  # torch takes that of the dtype: of bfloat16 it is as large as the states of a head of one layer


class FeatureInput(nn.Module):
    """Two linear maps: hidden states of several layers to one of them, and that to what is added to an embedding.

    Hidden states are brought to a root mean square of 1 first, as those of deep layers are a hundred times as long as
    others; what is added is scaled to the length of embeddings.
    """

    def __init__(self, layers: int, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.condense = nn.Linear(layers * hidden_size, hidden_size, bias=False)
        self.add = nn.Linear(hidden_size, hidden_size, bias=False)
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def begin(self, embeddings: Tensor) -> None:
        """Where training begins: the mean of the layers, of which nothing is added to `embeddings`, (tokens, size)."""
        layers = self.condense.in_features // self.hidden_size
        one = torch.eye(self.hidden_size, dtype=self.condense.weight.dtype, device=self.condense.weight.device)
        self.condense.weight.copy_(one.repeat(1, layers) / layers)
        self.add.weight.zero_()
        self.scale.copy_(embeddings.float().pow(2).mean().sqrt())

    def condensed(self, states: Tensor) -> Tensor:
        """Hidden states, (batch, n, layers x hidden size), as (batch, n, hidden size)."""
        return self.condense(normed(states.unflatten(-1, (-1, self.hidden_size))).flatten(-2))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """The head's input, (batch, n, hidden size), from condensed or own states and embeddings of that size."""
        return embeddings + self.scale * self.add(states)


def normed(x: Tensor) -> Tensor:
    """Vectors in the last dimension at a root mean square of 1, in their dtype; computed in float32."""
    return F.rms_norm(x.float(), x.shape[-1:], eps=_EPSILON).to(x.dtype)


def feature_layers(model: nn.Module) -> Sequence[int]:
    """The layers of its target whose outputs a model reads: none, unless it is a feature head."""
    return tuple(getattr(getattr(model, "config", None), "feature_layers", None) or ())


def add_input(model: nn.Module) -> nn.Module:
    """The model with a `feature_input` of its own, if its configuration says that it is a feature head."""
    if layers := feature_layers(model):
        model.feature_input = FeatureInput(len(layers), model.config.hidden_size).to(model.dtype)
    return model
