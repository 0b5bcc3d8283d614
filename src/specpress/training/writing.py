"""Text that the target writes itself, for a draft to be trained on what it will meet."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from specpress.decoding.generate import generate
from specpress.laws.sampling import SamplingParams
from specpress.study.draft_config import DraftConfig

ROWS = 64  # windows that are written at a time


def rewritten(
    target: nn.Module, windows: Tensor, config: DraftConfig, report: Callable[[int], None] = lambda _: None
) -> Tensor:
    """Windows, (n, length + 1), of which the share `config.own_text` goes on, from its middle, as the target would.

    They are spread evenly over the windows. The seeds of the draws follow `config.seed`. `report` is called with the
    tokens written so far.
    """
    count = round(config.own_text * len(windows))
    chosen = torch.tensor([i * len(windows) // max(count, 1) for i in range(count)], dtype=torch.long)
    half, written = windows.shape[1] // 2, windows.clone()
    for batch, rows in enumerate(chosen.split(ROWS) if count else ()):
        sampling = SamplingParams(config.own_temperature, top_p=config.own_top_p, seed=config.seed + batch)
        new = windows.shape[1] - half
        result = generate(target, windows[rows, :half], max_new_tokens=new, sampling=sampling)
        written[rows, half:] = result.tokens.to(windows.device)
        report(min((batch + 1) * ROWS, count) * new)
    return written
