"""What is wrong with the drafts of a study and with how its experiments use them, beyond the schema."""

from collections.abc import Iterator
from typing import Any

from specpress.study.checks.schema import against_schema, definition, path_of
from specpress.study.draft_config import DraftConfig, DraftError
from specpress.study.expansion import MODEL_KEYS, parts


def draft_problems(name: str, draft: dict) -> Iterator[str]:
    """What the schema cannot say of a draft: its keys together."""
    if not any(against_schema(draft, definition("draft"))):
        try:
            DraftConfig.from_spec({"name": name, **draft})
        except DraftError as error:
            yield f"drafts.{name}.{error}"


def head_problems(drafts: dict, body: dict, path: str) -> Iterator[str]:
    """Feature heads where a model is wanted, which can say nothing alone, and models where a head is.

    drafts : those of the study
    body : an experiment, whose place in the study is `path`
    """
    named = [(body, path), *((part, path_of(path, at)) for at, what, part in parts(body) if what != "press")]
    for part, where in named:
        for key in ("baseline", *MODEL_KEYS):
            name = part.get(key)
            if key != "head" and _kind(drafts, name) == "head":
                yield f"{where}.{key}: {name!r} is a feature head: draft with {{name: feature_head, head: {name}}}"
            if key == "head" and _kind(drafts, name) == "model":
                yield f"{where}.head: {name!r} is no feature head: give it `kind: head`, or draft with draft_model"


def _kind(drafts: dict, name: Any) -> str | None:
    """What kind of draft a name stands for; None for what is no draft."""
    draft = drafts.get(name) if isinstance(name, str) else None
    return draft.get("kind", "model") if isinstance(draft, dict) else None
