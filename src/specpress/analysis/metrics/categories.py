"""Rows of a duelled method by category of its prompts: what kind of text speculation pays on.

Costs are the machine's, one for all categories; tokens a round are the text's, counted on the prompts of each. Terms as
vLLM and Spec-Bench use them: a draft is a round in which something was proposed; acceptance length is 1 + accepted
tokens over drafts, the bonus token included; the conditional acceptance at position i is the share of drafts accepted
at i among those that were accepted up to i - 1 and had a token there. In a tree a position is a depth: there was a
token at the next one if one was refused after the last that was kept.
"""

from collections.abc import Iterable, Iterator, Mapping

from specpress.analysis.metrics.duels import joint_row, speedup_of
from specpress.analysis.rows import mean_row, place, single

POSITIONS = 8  # of a draft, at most
PREFIX = "category_"  # of the metrics: those without it are of all prompts together


def categories_of(method: Mapping) -> list[str]:
    """The categories of a method's prompts, sorted; empty where they have none."""
    return sorted({run["category"] for run in method["runs"] if run.get("category") is not None})


def category_rows(method: Mapping) -> Iterator[dict]:
    """Speed-up, acceptance length, acceptance rate, tokens a round and acceptance by position of each category."""
    for category in categories_of(method):
        runs = [run for run in method["runs"] if run.get("category") == category]
        part = {**method, "runs": runs}
        for row in _rows(part, runs):
            field = row["field"].replace("runs[*]", f"runs[category={category}]")
            yield row | {"metric": PREFIX + row["metric"], "category": category, "field": field}


def _rows(part: Mapping, runs: list[Mapping]) -> Iterator[dict]:
    field = "runs[*].method.trace"
    yield joint_row("speedup", *speedup_of(part), "runs[*].tokens over runs[*].rounds at the costs of brackets")
    by_question = _by_question(runs)
    for metric, unit, of in (
        ("acceptance_length", "tokens", lambda drafts, _: 1 + _mean(accepted for _, accepted, _ in drafts)),
        ("tokens_per_iteration", "tokens", lambda _, tokens: _mean(tokens)),
        ("acceptance_rate", "", lambda drafts, _: sum(a for _, a, _ in drafts) / sum(p for p, _, _ in drafts)),
    ):
        found = [of(drafts, tokens) for drafts, tokens in by_question if drafts or metric == "tokens_per_iteration"]
        missing = [None] * (len(by_question) - len(found))
        yield mean_row(metric, unit, [*found, *missing], "nothing was drafted", field, "prompts")
    drafts = [draft for found, _ in by_question for draft in found]
    for position in range(1, POSITIONS + 1):
        reached = [a for _, a, refused in drafts if a + refused >= position]
        if reached:
            share = sum(a >= position for a in reached) / len(reached)
            found = single(f"acceptance_at_{position}", "", share, field, "")
            yield found | {"n": len(reached), "note": "drafts that reached the position, pooled over prompts"}


def _by_question(runs: Iterable[Mapping]) -> list[tuple[list[tuple[int, int, int]], list[int]]]:
    """Of each question its drafts and the tokens of every round, from its turns' traces.

    A draft is (proposed, accepted, whether one was refused after these).
    The last round of a text, which the limit may cut, counts in neither.
    """
    found: dict[tuple, tuple[list, list]] = {}
    for run in runs:
        trace = run["method"].get("trace") or {}
        columns = (trace.get(name) or [] for name in ("proposed", "accepted", "rejections"))
        rounds = list(zip(*columns, strict=True))[:-1]
        drafts, tokens = found.setdefault(place(run), ([], []))
        drafts += [draft for draft in rounds if draft[0]]
        tokens += [accepted + 1 for _, accepted, _ in rounds]
    return [question for question in found.values() if question[1]]


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
