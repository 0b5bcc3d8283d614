"""The names a study may use, and where each lives: one line to add a drafter, a schedule or a press.

Nothing here imports the classes: the workflow reads this table while it is parsed, to refuse unknown names and to
know which source file an experiment depends on.
"""

from importlib import import_module

DRAFTERS = {
    "draft_model": "specpress.drafters.draft_model:DraftModel",
    "prompt_lookup": "specpress.drafters.prompt_lookup:PromptLookup",
    "compressed_target": "specpress.drafters.compressed_target:CompressedTarget",
    "cascade": "specpress.drafters.cascade:Cascade",
}

SCHEDULES = {
    "constant": "specpress.schedules:Constant",
    "aimd": "specpress.schedules:AIMD",
    "plus_minus_one": "specpress.schedules:PlusMinusOne",
    "heuristic": "specpress.schedules:Heuristic",
    "confidence": "specpress.schedules:Confidence",
    "optimal": "specpress.schedules:Optimal",
}

PRESSES = {
    "knorm": "kvpress:KnormPress",
    "streaming_llm": "kvpress:StreamingLLMPress",
}

PROTOCOLS = {
    "original": "specpress.uncached:generate_uncached",
}


def resolve(table: dict[str, str], name: str, what: str) -> type:
    """The class registered under `name` in `table`.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones. `what` says what the name stands for ("press").
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
