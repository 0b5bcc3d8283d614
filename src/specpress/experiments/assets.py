"""What an experiment reads: models, each loaded once and when first asked for, and passages of the test texts."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from specpress.data.chat import opening
from specpress.data.documents import Passage, sample_passages
from specpress.data.questions import Question, is_prompts, load_questions
from specpress.data.store import TEST, TRAIN, load_documents
from specpress.data.tokens import in_tokens
from specpress.engine.graphs import use_eager, use_graphs
from specpress.hardware.recording import recording
from specpress.models.load import load_with
from specpress.models.tokenizers import Tokenizers

TEXT_TOKENS = 500_000  # of a data set that a drafter knows before the prompt, at most: tokenised in a second or two


class Assets:
    """The prepared models and data sets of a job, by the names the study gives them.

    Parameters
    ----------
    models, data : dict of name -> directory
    device : where the models go
    rounding : what `specpress.experiments.rounding` found of the baseline; None where no text is compared with its text
    graphs : whether their decoding steps are to run as CUDA graphs on a GPU, all captured ahead
    """

    def __init__(
        self,
        models: dict[str, Path],
        data: dict[str, Path],
        device: str | torch.device = "auto",
        *,
        rounding: dict | None = None,
        graphs: bool = True,
    ):
        recording.on = recording.ahead = graphs
        tokenizers = Tokenizers()
        self._models = {name: _Loaded(path, device, graphs, tokenizers) for name, path in models.items()}
        self._data, self.rounding = data, rounding
        self._made: dict = {}

    def model(self, name: str) -> nn.Module:
        """The model called `name`."""
        return self._models[name].pair[0]

    def folder(self, name: str) -> Path:
        """Where the model called `name` lies."""
        return self._models[name].path

    def tokenizer(self, name: str):
        """The tokenizer of the model called `name`."""
        return self._models[name].pair[1]

    def questions(self, spec: dict) -> list[Question] | None:
        """The questions of `spec["data"]` if it is a data set of prompts; None if it holds texts."""
        folder = self._data[spec["data"]]
        return load_questions(folder) if is_prompts(folder) else None

    def passages(
        self, spec: dict, *, count: int, length: int, tokenizer, least: int | None = None, opened: bool = True
    ) -> list[Passage]:
        """`count` passages of `length` tokens from the part of `spec["data"]` that no draft was trained on.

        least : take fewer, as many as there are, if they are so many at least
        opened : whether they begin as the tokenizer begins a text, with a token of its own for that if it has one
        """
        documents = load_documents(self._data[spec["data"]], TEST)
        options = {"least": least, "opening": opening(tokenizer) if opened else ()}
        return sample_passages(documents, tokenizer, count=count, length=length, seed=spec["seed"], **options)

    def of_text(self, make: Callable, data: str, model: str):
        """What `make` makes, once, of the part of a data set that no experiment reads, and the size of the vocabulary.

        The text comes document by document, as lists of a model's tokens.
        """
        key = (make, data, model)
        if key not in self._made:
            self._made[key] = make(self._text(data, model, TEXT_TOKENS), self.model(model).config.vocab_size)
        return self._made[key]

    def _text(self, data: str, model: str, tokens: int) -> list[list[int]]:
        """Its documents in a model's tokens, up to so many of them."""
        texts, missing = [], tokens
        documents = load_documents(self._data[data], TRAIN)
        for text in in_tokens((document.text for document in documents), self.tokenizer(model)):
            texts.append(text[:missing])
            missing -= len(texts[-1])
            if not missing:
                break
        return texts


class _Loaded:
    """A model directory, loaded when first asked for."""

    def __init__(self, path: Path, device: str | torch.device, graphs: bool, tokenizers: Tokenizers):
        self.path, self._device, self._graphs, self._tokenizers = path, device, graphs, tokenizers

    @cached_property
    def pair(self) -> tuple:
        model, tokenizer = load_with(self._tokenizers, self.path, device=self._device)
        if self._graphs and model.device.type == "cuda":
            use_graphs(model, ahead=True)
        else:
            use_eager(model)
        return model, tokenizer


def as_batch(passages: list[Passage], model: nn.Module) -> Tensor:
    """Passages of one length as LongTensor (batch, length) on the model's device."""
    return torch.tensor([passage.tokens for passage in passages], device=model.device)


def as_padded(passages: list[Passage], model: nn.Module) -> dict[str, Tensor]:
    """Passages of any lengths, as options of `generate`: `input_ids`, and where they differ `attention_mask`.

    Both are LongTensor (batch, longest), padded on the left.
    """
    longest = max(len(passage.tokens) for passage in passages)
    if all(len(passage.tokens) == longest for passage in passages):
        return {"input_ids": as_batch(passages, model)}
    rows = [[0] * (longest - len(passage.tokens)) + passage.tokens for passage in passages]
    mask = [[int(i >= longest - len(passage.tokens)) for i in range(longest)] for passage in passages]
    return {name: torch.tensor(x, device=model.device) for name, x in (("input_ids", rows), ("attention_mask", mask))}
