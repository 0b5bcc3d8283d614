"""What a tokenizer puts around a text: its beginning, or a chat template."""

from collections.abc import Sequence

_DAY = "26 Jul 2024"  # today, for templates that say it: a prompt is the same on every day


def opening(tokenizer) -> list[int]:
    """The beginning-of-text token, if the tokenizer puts one before every text: its model was trained so."""
    begin = getattr(tokenizer, "bos_token_id", None)
    return [begin] if begin is not None and tokenizer.encode("", verbose=False)[:1] == [begin] else []


def in_template(turns: Sequence[dict], tokenizer) -> str:
    """Turns of a chat, {"role", "content"} each, in the model's template, up to where its answer begins.

    Raises
    ------
    ValueError
        If it has none.
    """
    require_template(tokenizer)
    day = {"date_string": _DAY, "strftime_now": lambda form: _DAY}
    return tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **day)


def require_template(tokenizer) -> None:
    """Refuse a tokenizer without a chat template.

    Raises
    ------
    ValueError
        If it has none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the model's tokenizer has no chat template: take a model that was tuned for chat, or leave `chat` out, so "
            "that the prompts are continued as plain text"
        )
