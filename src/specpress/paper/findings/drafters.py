"""What the text may ask about drafters: the models that they run, and the texts that they come from."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import pandas as pd
from markupsafe import Markup

from specpress.analysis.formatting import is_missing
from specpress.analysis.kinds import drafter_of
from specpress.paper.prose import listed
from specpress.paper.wording import data_prose
from specpress.study.expansion import DATA_KEYS, models_of, parts
from specpress.study.registry import SEEING_CACHE


def runs_model(row: Mapping) -> bool:
    """Whether the drafter of an experiment, or one inside it, runs a model: its own, or the target in another form."""
    return bool(models_run(row)) or any(drafter["name"] in SEEING_CACHE for drafter in _drafters(row))


def models_run(row: Mapping) -> set[str]:
    """Names of the models and heads that the drafter of an experiment runs, those of drafters inside it included."""
    own = set() if is_missing(row["draft_model"]) else {row["draft_model"]}
    return own | set(models_of({"drafter": drafter_of(row)}))


def _drafters(row: Mapping) -> Iterator[Mapping]:
    """The drafter of an experiment and those inside it."""
    return (part for _, what, part in parts({"drafter": drafter_of(row)}) if what == "drafter")


class DrafterResults:
    """The part of `Results` that is about where drafters come from."""

    summary: pd.DataFrame
    drafts: list[dict]

    @cached_property
    def drafting(self) -> list[Mapping]:
        """A row of each speed experiment with a drafter."""
        rows = self.summary[(self.summary.kind == "speed") & self.summary.drafter.notna()]
        return rows.drop_duplicates("experiment").to_dict("records")

    @property
    def knows_texts(self) -> bool:
        """Whether a drafter knows a data set before the prompt."""
        return any(key in drafter for row in self.drafting for drafter in _drafters(row) for key in DATA_KEYS)

    @property
    def drafts_at_home(self) -> bool:
        """Whether a draft is measured on a text that it was trained on, or none by more than its training."""
        return not self._measured_on or any(self._trained_on[name] & on for name, on in self._measured_on.items())

    @property
    def drafts_elsewhere(self) -> list[Markup]:
        """Each draft that is measured on texts that it was not trained on, with these, as a phrase."""
        others = {name: sorted(on - self._trained_on[name]) for name, on in self._measured_on.items()}
        phrase = Markup("<code>{}</code> on {}")
        return [phrase.format(name, listed(map(data_prose, on))) for name, on in others.items() if on]

    @cached_property
    def _trained_on(self) -> dict[str, set[str]]:
        """The data sets of each draft: it is judged on what is held out of every one."""
        return {draft["name"]: set(draft["held_out"]) for draft in self.drafts if draft["held_out"]}

    @cached_property
    def _measured_on(self) -> dict[str, set[str]]:
        """The data sets of the experiments that each draft is run in."""
        found: dict[str, set[str]] = {}
        for row in self.drafting:
            for name in models_run(row) & set(self._trained_on):
                found.setdefault(name, set()).add(row["data"])
        return dict(sorted(found.items()))
