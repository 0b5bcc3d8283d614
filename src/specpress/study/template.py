"""A study of a model that somebody names: config/templates/model.yaml.j2, filled in for the model and the machine.

No torch: what is known of the model is its config.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
import yaml

from specpress.study import registry
from specpress.study.load import StudyError, load_study
from specpress.study.reading import read_yaml
from specpress.study.source_code import ROOT, class_parameters
from specpress.theory.shapes import BYTES, attention_window, shape_of, statement_of

TEMPLATE = ROOT / "config" / "templates" / "model.yaml.j2"
EMBEDDED = ROOT / "config" / "config.yaml"

# Bytes a second at which a decoding step reads weights and cache, on a machine of no particular merit.
_RATES = {"cpu": 2e10, "mps": 1e11, "cuda": 1e12}
_TASK_TOKENS, _TASK_MEMORY = 128, {"cpu": 3e9, "mps": 5e9, "cuda": 8e9}  # of a question; bytes of caches
_RATIOS = (0.3, 0.5, 0.7, 0.9)  # of a cache, removed
_TASK_CONTEXT, _TASK_VOCABULARY = 512, 4096
_LEAST_CONTEXT = 190  # tokens: in half of them presses keep a window of 64, and as many others
_WINDOW = 64  # slots that SnapKV always keeps


@dataclass(frozen=True)
class Sizes:
    """How long prompts and texts are, in tokens, and how many seconds an experiment may measure."""

    prompt: int
    long_prompt: int
    new: int
    context: int
    score: int
    budget: int

    @classmethod
    def of(cls, config: Mapping, device: str, dtype: str) -> "Sizes":
        """Sizes that suit a model and the kind of a device, "cpu", "cuda" or "mps".

        Raises
        ------
        ValueError
            If the model's context, or the window that it attends to, holds no text to measure on.
        """
        room = min(x for x in (config.get("max_position_embeddings"), attention_window(config), 2**20) if x)
        if room < _LEAST_CONTEXT:
            raise ValueError(
                f"the model's context of {room} tokens is too short for a study: it takes {_LEAST_CONTEXT} at least"
            )
        step = shape_of(config).read_parameters * BYTES[dtype] / _RATES[device]
        new = min(48 if step < 0.3 else 24, room // 4)
        context = min(768 if device == "cpu" else 2048, room // 2)
        long_prompt = min(512 if device == "cpu" else 2048, room // 2)
        prompt = min(64 if device == "cpu" else 256, room // 4)
        # three prompts, each decoded by both sides of a duel, with as much again for what a method costs
        return cls(prompt, long_prompt, new, context, min(96, room // 4), max(10, round(3 * new * 3 * step)))


def write_study(
    name: str,
    model: dict,
    config: Mapping,
    *,
    draft: dict | None = None,
    draft_config: Mapping | None = None,
    text: str | None = None,
    document_characters: int = 20_000,
    device: str = "cpu",
    dtype: str = "bfloat16",
) -> str:
    """The text of a study file, which `load_study` accepts.

    Parameters
    ----------
    name : of the study
    model, draft : sources, as a study has them; without a draft only drafters that need no training are measured
    config, draft_config : their config.json
    text : path of a UTF-8 text to measure on; by default the texts of the embedded study
    document_characters : of which the text's paragraphs are to make documents
    device : the kind of device that the sizes are for
    dtype : what the weights will be held in

    Raises
    ------
    ValueError
        If no study can be made of the model.
    """
    sizes = Sizes.of(config, device, dtype)
    source = {"source": {"kind": "path", "path": text}, "reader": "text", "document_characters": document_characters}
    data = {"text": source | {"test_fraction": 0.5}}
    if text is None:
        data = {key: entry for key, entry in read_yaml(EMBEDDED)["data"].items() if is_prose(entry)}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["yaml"] = _in_a_line
    written = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        model=model,
        draft=draft,
        shape=statement_of(shape_of(config)),
        draft_shape=draft_config and statement_of(shape_of(draft_config)),
        data=data,
        sizes=sizes,
        ratios=[0, *ratios(sizes.context)],
        ratio=max(ratio for ratio in ratios(sizes.long_prompt) if ratio <= 0.7),
        drafters=untrained(config, device),
        of_trees=registry.BRANCHING,
        tasks=can_read_tasks(config, sizes),
        rows=rows_of_tasks(config, sizes, device, dtype),
        device=device,
    )
    try:
        load_study(yaml.safe_load(written))
    except StudyError as error:
        raise ValueError(f"{TEMPLATE.relative_to(ROOT)} makes no study of this model: {error}") from error
    return written


def ratios(tokens: int) -> list[float]:
    """Shares of a cache of so many tokens that can be removed: what is left is more than a press's window."""
    return [ratio for ratio in _RATIOS if (1 - ratio) * tokens > _WINDOW + 1]


def untrained(config: Mapping, device: str) -> list[str]:
    """The drafters that need nothing but this target on this device: no parameter of theirs has to be given."""
    needs = {name: class_parameters(target) for name, target in registry.DRAFTERS.items()}
    names = [name for name, required in sorted(needs.items()) if required is not None and not any(required.values())]
    return [name for name in names if name != "quantized_target" or (device == "cpu" and in_groups(config))]


def can_read_tasks(config: Mapping, sizes: Sizes) -> bool:
    """Whether the sentences of tasks fit the context: not as single bytes, say."""
    return sizes.context >= _TASK_CONTEXT and config["vocab_size"] >= _TASK_VOCABULARY


def rows_of_tasks(config: Mapping, sizes: Sizes, device: str, dtype: str) -> int:
    """Problems answered at once, at most five: their caches, one a ratio, fit a part of a machine of no great merit."""
    row = 5 * (sizes.context + _TASK_TOKENS) * shape_of(config).kv_elements_per_token * BYTES[dtype]
    return max(1, min(5, int(_TASK_MEMORY[device] / row)))


def in_groups(config: Mapping) -> bool:
    """Whether the rows of all linear maps divide into the groups of numbers that share a scale in fewer bits."""
    shape = shape_of(config)
    return not any(width % 32 for width in (shape.hidden_size, shape.intermediate_size, shape.heads * shape.head_size))


def is_prose(data: Mapping) -> bool:
    """Whether a data set of a study is running text, and no list of prompts."""
    return data.get("kind", "text") == "text"


def _in_a_line(value: object) -> str:
    """A value in YAML, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).strip().removesuffix("\n...")
