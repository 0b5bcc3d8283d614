"""Tiny targets, and stories of sixteen words to train their drafts on."""

import torch

from specpress.data.documents import Document
from specpress.data.store import save_split
from specpress.models.build import random_model
from specpress.models.families import FAMILIES
from specpress.models.save import save_model
from specpress.study.draft_config import DraftConfig
from specpress.training import text, train
from specpress.training.text import cut_windows

ARCHITECTURES = ["llama", "gpt_neox"]  # the two that differ most
EVERY = list(FAMILIES)
VOCABULARY = 257
END_OF_TEXT = 256
WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "lay", "in", "sun", "while", "a", "bird", "sang", "of", "rain"]


def make_target(architecture, seed=0):
    source = {"architecture": architecture, "hidden_size": 32, "layers": 3, "heads": 2, "seed": seed}
    if architecture != "gpt_neox":
        source["kv_heads"] = 1
    return random_model(source, dtype=torch.float32)


def make_documents(count, words=300):
    generator = torch.Generator().manual_seed(7)
    texts = [torch.randint(len(WORDS), (words,), generator=generator).tolist() for _ in range(count)]
    return [Document(str(i), f"text {i}", " ".join(WORDS[j] for j in text)) for i, text in enumerate(texts)]


def make_config(**changes):
    small = {"layers": 2, "vocabulary": 64, "tokens": 4096, "sequence": 32, "batch": 4, "evaluation": 256}
    return DraftConfig.from_spec({"name": "draft", "target": "target", "data": ["stories"], **small, **changes})


def make_windows(tokenizer, length=32):
    return cut_windows(text.encode(make_documents(8), tokenizer), length)


def make_workspace(tmp_path, dtype):
    target, tokenizer = make_target("llama")
    save_model(target.to(dtype), tokenizer, tmp_path / "target", {"kind": "random"})
    save_split(tmp_path / "stories", make_documents(12), 0.3, {})
    return tmp_path


def run(workspace, config, output="draft", progress=False):
    data = {"stories": workspace / "stories"}
    return train.train_draft(config, workspace / "target", data, workspace / output, threads=1, progress=progress)
