"""The text a draft is trained on and judged on: windows of tokens, no document in two parts."""

import math
from dataclasses import dataclass

import torch

from specpress.data.store import TEST, TRAIN, load_documents
from specpress.data.tokens import in_tokens
from specpress.study.draft_config import DraftConfig, DraftError

MAX_PASSES = 4  # beyond four passes repeated text teaches little (Muennighoff et al., 2023, section 5)


VALIDATION_SHARE = 16  # one training document in 16 is kept for validation


def encode(documents, tokenizer) -> list[list[int]]:
    """Token ids of each document, closed by the end-of-text token if the tokenizer has one."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [[*ids, *end] for ids in in_tokens((document.text for document in documents), tokenizer)]


def split_validation(documents: list, seed: int, name: str) -> tuple[list, list]:
    """Training and validation documents: one in `VALIDATION_SHARE`, and at least one, is kept for validation.

    `name` is the data set's, for the message.

    Raises
    ------
    DraftError
        If there are fewer than two documents.
    """
    if len(documents) < 2:
        raise DraftError(
            f"not enough training text in {name}: {len(documents)} training documents, at least 2 are needed "
            "(one of them for validation)"
        )
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    kept = set(order[: max(1, len(documents) // VALIDATION_SHARE)])
    train = [document for i, document in enumerate(documents) if i not in kept]
    return train, [documents[i] for i in sorted(kept)]


def cut_windows(texts: list[list[int]], length: int) -> torch.Tensor:
    """The text of all documents, end to end, as windows (n, length + 1).

    The last token of a window is the first of the next, so that each token but the first is predicted once.
    """
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    if len(tokens) <= length:
        return tokens.new_empty(0, length + 1)
    return tokens.unfold(0, length + 1, length)


def training_windows(windows: dict[str, torch.Tensor], config: DraftConfig) -> torch.Tensor:
    """The windows of one pass of the training run in their order, (steps * batch, sequence + 1).

    Each data set gives its share (see `DraftConfig.mixture`), in passes over its windows in a new order each; the
    shares are then mixed.

    Raises
    ------
    DraftError
        If a data set would have to be read more than `MAX_PASSES` times.
    """
    generator = torch.Generator().manual_seed(config.seed)
    steps = math.ceil(config.tokens / (config.passes * config.batch * config.sequence))
    sizes = {name: len(rows) if config.mixture == "proportional" else 1 for name, rows in windows.items()}
    bounds = [round(steps * config.batch * part) for part in _cumulative_shares(list(sizes.values()))]
    chosen = []
    for (name, rows), first, last in zip(windows.items(), bounds, bounds[1:], strict=False):
        wanted = last - first
        if wanted > MAX_PASSES * len(rows):
            raise DraftError(
                f"not enough training text in {name}: it is to give {wanted * config.sequence} tokens and holds "
                f"{len(rows) * config.sequence} (each may be used {MAX_PASSES} times); lower tokens or give more text"
            )
        passes = math.ceil(wanted / len(rows)) if wanted else 0
        order = [torch.randperm(len(rows), generator=generator) for _ in range(passes)]
        chosen += [rows[torch.cat(order)[:wanted]]] if passes else []
    mixed = torch.cat(chosen)
    return mixed[torch.randperm(len(mixed), generator=generator)]


def _cumulative_shares(sizes: list[int]) -> list[float]:
    total = sum(sizes)
    if not total:
        raise DraftError("not enough training text: no data set fills one window; shorten sequence or give more text")
    return [sum(sizes[:i]) / total for i in range(len(sizes) + 1)]


def special_tokens(tokenizer, config) -> list[int]:
    """Ids of the tokens a draft must be able to say, whatever the text: end of text and the other special ones."""
    ends = config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return [*tokenizer.all_special_ids, *ends]


@dataclass(frozen=True)
class Text:
    """Windows of text, (n, sequence + 1) each: to train on, and by data set to judge on."""

    train: torch.Tensor
    validation: dict[str, torch.Tensor]
    held_out: dict[str, torch.Tensor]


def read_text(config: DraftConfig, data: dict, tokenizer) -> Text:
    """Read, split and tokenise the data sets of a draft.

    Raises
    ------
    DraftError
        If there is too little text; the message names the data set.
    """
    windows, validation, held_out = {}, {}, {}
    for name in config.data:
        train, kept = split_validation(load_documents(data[name], TRAIN), config.seed, name)
        test = load_documents(data[name], TEST)
        windows[name] = cut_windows(encode(train, tokenizer), config.sequence)
        for part, documents, what in ((validation, kept, "validation"), (held_out, test, "test")):
            rows = cut_windows(encode(documents, tokenizer), config.sequence)
            if not len(rows):
                raise DraftError(
                    f"not enough text in {name}: its {what} documents do not fill one window of {config.sequence} "
                    "tokens; lower sequence or give more text"
                )
            part[name] = evenly_spread(rows, math.ceil(config.evaluation / config.sequence))
    return Text(training_windows(windows, config), validation, held_out)


def evenly_spread(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of the rows at equal distances, or all of them if there are fewer."""
    count = min(count, len(rows))
    return rows[[i * len(rows) // count for i in range(count)]]
