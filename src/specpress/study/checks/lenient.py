"""Reading a study that may be malformed: what has the right type, or nothing; the schema says what is wrong with it."""

from typing import Any


def items(config: dict, key: str, kind: type) -> Any:
    """`config[key]` if it has the right type, else an empty one: the schema has already complained."""
    value = config.get(key)
    return value if isinstance(value, kind) else kind()


def field(value: Any, key: str) -> Any:
    """`value[key]` where that is defined, else None."""
    return value.get(key) if isinstance(value, dict) else None
