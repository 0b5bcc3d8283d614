"""The original study's five claims, judged: which results bear on each, what they say, and how it is told.

The verdict itself is `specpress.paper.verdicts`; this module finds the intervals and writes down what they were. Where
a claim may rest on any of several, they are adjusted for how many there are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from specpress.paper.cells import Cell
from specpress.paper.decisions import ABOVE, BELOW
from specpress.paper.findings.blocks import Block, Speed
from specpress.paper.findings.points import links_of
from specpress.paper.prose import counted, listed, lower_first
from specpress.paper.verdicts import (
    FAILS,
    HOLDS,
    OPEN,
    Verdict,
    adds_about,
    best_of_all,
    both,
    everywhere,
    is_on,
    reaches,
    unmeasured,
)
from specpress.paper.wording import data_name, is_cascade_of_models


def judged_claims(results) -> list[dict]:
    """Each claim with `verdict`, `reason` (a clause) and `evidence` (markup: the numbers and their settings)."""
    judges: dict[str, Callable] = {
        "speculative": _speculative, "dynamic": _dynamic, "cascade": _cascade, "streaming": _streaming,
        "fusion": _fusion,
    }  # fmt: skip
    judged = []
    for claim in results.original["claims"]:
        verdict, evidence = judges[claim["id"]](results, claim)
        judged.append(claim | {"verdict": verdict.verdict, "reason": verdict.reason, "evidence": evidence})
    return judged


def _intervals(cells: Iterable[Cell]) -> list[tuple]:
    return [(cell.low, cell.high) for cell in cells]


def _as_one_of_many(found: Sequence[tuple[Block, Speed]]) -> list[tuple[Block, Speed]]:
    """The experiments with the intervals that they have when a claim may rest on any of them."""
    return [(block, speed.among(len(found))) for block, speed in found]


def _over(cell: Cell, units: str = "prompt") -> Markup:
    """A value with its interval and the number of units that it rests on."""
    return Markup("{} over {}").format(cell.cited, counted(cell.n, units)) if cell.n is not None else cell.cited


def _cited(block: Block, speed: Speed) -> str:
    return f"{escape(speed.label)} ({escape(block.title)}), {_over(speed['speedup'])}"


def _strongest(found: Sequence[tuple[Block, Speed]], factor: float) -> tuple[Block, Speed]:
    """The experiment to show for a claim of up to a factor: one whose interval reaches it, if any, then the fastest."""
    return max(found, key=lambda item: (item[1]["speedup"].side(factor) == ABOVE, item[1]["speedup"].value))


def _speculative(results, claim: Mapping) -> tuple[Verdict, Markup]:
    """Up to a factor: any plain draft model, at any gamma, schedule and verification."""
    found = _as_one_of_many(results.speeds_of("constant", "dynamic", "block"))
    if not found:
        return unmeasured("a draft model against the cached baseline"), Markup()
    verdict = reaches(_intervals(speed["speedup"] for _, speed in found), claim["factor"])
    told = _cited(*_strongest(found, claim["factor"]))
    of = f" (of {len(found)} settings of a draft model)" if len(found) > 1 else ""
    return verdict, Markup(f"Highest speed-up over the cached baseline{of}: {told}.")


def _dynamic(results, claim: Mapping) -> tuple[Verdict, Markup]:
    """The original's schedule against the constant gamma it starts from, prompt by prompt."""
    found = [c for c in results.contrasts("speedup_over_reference") if _is_original_schedule(c[1])]
    found = [(block, speed, cell.among(len(found))) for block, speed, cell in found]
    if not found:
        return unmeasured("the dynamic schedule against the constant length it starts from"), Markup()
    verdict = everywhere([adds_about((cell.low, cell.high), claim["factor"]) for _, _, cell in found])
    told = "; ".join(f"{_over(cell)} ({escape(block.title)})" for block, _, cell in found)
    return verdict, Markup(f"Speed of AIMD relative to the constant γ it starts from: {told}.")


def _is_original_schedule(speed: Speed) -> bool:
    return speed.kind == "dynamic" and speed.row["schedule"] == "aimd"


def _cascade(results, claim: Mapping) -> tuple[Verdict, Markup]:
    """The cascade against the plain draft model on the same prompts that was picked from all of them."""
    found = [cascade for cascade in results.cascades if is_cascade_of_models(cascade[1].row)]
    if not found:
        return unmeasured("a cascade of models beside a plain draft model"), Markup()
    verdict = everywhere([is_on(BELOW, (cell.low, cell.high), "cascade's relative speed") for _, _, cell in found])
    parts = []
    for block, _, cell in found:
        reference = results.speed_of(cell.reference)
        parts.append(f"{_over(cell)} ({escape(block.title)}; against {escape(lower_first(reference.label))})")
    return verdict, Markup(
        f"Speed of the cascade relative to the best established plain draft model: {'; '.join(parts)}."
    )


def _streaming(results, claim: Mapping) -> tuple[Verdict, Markup]:
    """Every other press's perplexity over StreamingLLM's at the claim's ratio, on long contexts only."""
    removed = f"{100 * claim['ratio']:g}%"
    found = [
        (point, mode, point.cell("ppl_over_reference", mode))
        for point in results.points
        for mode in ("once", "decoding")
        if point.ratio == claim["ratio"] and point.cell("ppl_over_reference", mode).defined
    ]
    long = [item for item in found if item[0].context >= results.original["long_context"]]
    if not long:
        verdict = unmeasured(f"presses on contexts of at least {results.original['long_context']} tokens")
        if not found:
            return verdict, Markup()
        longest = max(point.context for point, _, _ in found)
        return verdict, Markup(f"The longest context measured with {removed} removed has {longest} tokens.")
    settings: dict[tuple, list] = {}
    for point, mode, cell in long:
        settings.setdefault((*point.block, mode), []).append((point, cell.among(len(long))))
    verdicts, told = [], []
    for (data, _, context, mode), others in settings.items():
        names = [point.name for point, _ in others]
        verdicts.append(best_of_all(_intervals(cell for _, cell in others), names))
        best = min((cell for _, cell in others), key=lambda cell: cell.value)
        closest = next(name for name, (_, cell) in zip(names, others, strict=True) if cell is best)
        how = "once" if mode == "once" else "while decoding"
        where = f"{escape(data_name(data))}, {context} tokens, compressed {how}"
        told.append(f"{escape(closest)}, {_over(best, 'passage')} ({where})")
    evidence = f"Lowest perplexity of another press relative to StreamingLLM's, {removed} removed: {'; '.join(told)}."
    return everywhere(verdicts), Markup(evidence)


def _fusion(results, claim: Mapping) -> tuple[Verdict, Markup]:
    """A factor over the cached baseline by drafting on a compressed target, and a price in perplexity."""
    found = results.speeds_of("lossy")
    dynamic = [(block, speed) for block, speed in found if str(speed.row["schedule"]) == "aimd"]
    found = _as_one_of_many(dynamic or found)
    if not found:
        return unmeasured("speculation on a compressed target"), Markup()
    best_block, best = _strongest(found, claim["factor"])
    verdict = reaches(_intervals(speed["speedup"] for _, speed in found), claim["factor"])
    of = f" (of {len(found)} settings)" if len(found) > 1 else ""
    told = [f"Highest speed-up over the cached baseline{of}: {_cited(best_block, best)}."]
    price = results.quality_of(best.row)
    if price is not None:
        told.append(f"Its perplexity relative to the full cache: {_over(price, 'passage')}.")
    if verdict.verdict == HOLDS:
        interval = (price.low, price.high) if price else (None, None)
        verdict = both(verdict, is_on(ABOVE, interval, "relative perplexity"))
    for steps in results.chains.values():
        links = links_of(steps)
        total = links[-1]["factor_total"]
        if total.defined:
            told.append(f"Against “{escape(links[0].title)}” instead, the chain ends at {_over(total)}.")
    return verdict, Markup(" ".join(told))


def claims_by_verdict(claims: Sequence[Mapping]) -> list[dict]:
    """The claims that share a verdict, with the verdict as a predicate: `holds here`, `is not decidable here`."""
    groups = {verdict: [claim for claim in claims if claim["verdict"] == verdict] for verdict in (HOLDS, FAILS, OPEN)}
    return [
        {"verb": Markup(f"{'is ' if verdict == OPEN else ''}<strong>{verdict}</strong>"), "claims": same}
        for verdict, same in groups.items()
        if same
    ]


def verdict_counts(claims: Iterable[Mapping]) -> Markup:
    """How many claims got which verdict: `two hold here, two do not hold here and one is not decidable here`."""
    words = {HOLDS: ("holds here", "hold here"), FAILS: ("does not hold here", "do not hold here"),
             OPEN: ("is not decidable here", "are not decidable here")}  # fmt: skip
    numbers = ("no", "one", "two", "three", "four", "five")
    found = [claim["verdict"] for claim in claims]
    counts = {verdict: found.count(verdict) for verdict in words}
    return listed(f"{numbers[count]} {words[verdict][count > 1]}" for verdict, count in counts.items() if count)
