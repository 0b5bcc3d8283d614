"""The tables of speed experiments, which differ in their kinds of experiment and in their columns."""

from collections.abc import Iterable, Mapping

from specpress.analysis.formatting import DASH, fixed, integer, is_missing, percent, unit_of_sizes
from specpress.analysis.kinds import KINDS
from specpress.paper.cells import Notes
from specpress.paper.findings.blocks import Speed, picked
from specpress.paper.table import UNMEASURED, Block, Column, Entry, Grid, Row, Table, row
from specpress.paper.wording import drafter_name

CONTRASTS = ("speedup_over_reference", "speedup_over_plain", "speedup_over_token", "speedup_over_path")
WITH_INTERVAL = ("speedup", "relative", "quality")  # of two columns each


def speed(results) -> Table:
    """The baseline, models alone, and drafters of constant length; of a draft model's lengths only the main ones."""
    headings = {
        "tokens_per_s": "tok/s", "ttft_s": "TTFT\nms", "tpot_ms": "TPOT\nms", "speedup": "speed-up (95% interval)",
        "acceptance_rate": "accept\u00ad\nance", "tokens_per_iteration": "tokens per\niteration",
        "predicted_speedup": "predicted\nspeed-up",
    }  # fmt: skip
    found = _blocks(results, _main_lengths(results), "baseline", "alone", "constant", "other")
    reported = [
        {"label": given["method"], "tokens_per_s": fixed(given["tokens_per_s"]),
         "ttft_s": integer(1000 * given["ttft_s"]), "tpot_ms": fixed(given["tpot_ms"])}
        for given in results.original["speed"]
    ]  # fmt: skip
    title = f"Reported by the original study, not measured here: {results.original['setup']}"
    return _table(results, headings, found, (title, reported), width=5.2)


def trees(results) -> Table:
    """Trees, by size, shape and drafter."""
    headings = _compared_with("a path")
    return _table(results, headings, _blocks(results, _all, "tree"), None, width=5.2)


def dynamic(results) -> Table:
    """Dynamic lengths, block verification and cascades."""
    headings = _compared_with("its reference")
    found = _blocks(results, _all, "dynamic", "block", "cascade")
    title = "Reported by the original study, not measured here (1048 tokens)"
    return _table(results, headings, found, (title, _reported(results.original["dynamic"])), width=5.2)


def _compared_with(other: str) -> dict[str, str]:
    """The headings of a table whose methods are also set against another, duelled with the same baseline."""
    return {
        "tokens_per_s": "tok/s", "tpot_ms": "TPOT\nms", "speedup": "speed-up (95% interval)",
        "acceptance_rate": "accept\u00ad\nance", "tokens_per_iteration": "tokens per\niteration",
        "relative": f"relative to {other}\n(95% interval)",
    }  # fmt: skip


def fusion(results) -> Table:
    """Presses without a drafter, drafting for a compressed target, and drafting on a compressed cache."""
    found = _blocks(results, _all, "press", "lossy", "self")
    headings = {
        "tokens_per_s": "tok/s", "tpot_ms": "TPOT\nms", "speedup": "speed-up\n(95% interval)",
        "acceptance_rate": "accept\u00ad\nance", "tokens_per_iteration": "tokens per\niteration",
        "kv": f"KV,\n{_unit(found)[0]}", "quality": "relative PPL\n(95% interval)",
    }  # fmt: skip
    title = (
        "Reported by the original study, not measured here (1000 tokens; factor over its own uncached speculative loop)"
    )
    return _table(results, headings, found, (title, _reported(results.original["fusion"])), width=5.9)


def all_speeds(results) -> Table:
    """Every speed experiment, for the report."""
    found = _blocks(results, _all, *KINDS)
    headings = {
        "tokens_per_s": "tok/s", "ttft_s": "TTFT, ms", "tpot_ms": "TPOT, ms", "speedup": "speed-up",
        "machine_share": "of the machine",
        "acceptance_rate": "acceptance", "tokens_per_iteration": "tokens per iter.", "predicted_speedup": "predicted",
        "kv": f"KV, {_unit(found)[0]}", "relative": "relative",
    }  # fmt: skip
    return _table(results, headings, found, None)


Blocks = list[tuple[str, list[Speed]]]  # titles and their experiments


def _blocks(results, selected, *kinds: str) -> Blocks:
    """The blocks that have experiments of these kinds, with those that `selected` leaves."""
    found = [(block.title, [s for s in block.speeds if s.kind in kinds]) for block in results.blocks]
    return [(title, selected(speeds)) for title, speeds in found if speeds]


def _all(speeds: list[Speed]) -> list[Speed]:
    return speeds


def _main_lengths(results):
    """Leaves, of the constant lengths of each draft model, the fastest and the original study's."""

    def selected(speeds: list[Speed]) -> list[Speed]:
        constant = [speed for speed in speeds if speed.kind == "constant"]
        by_model: dict[str, list[Speed]] = {}
        for each in constant:
            by_model.setdefault(drafter_name(each.row), []).append(each)
        best = [picked([s for s in of_model if s["speedup"].defined]) for of_model in by_model.values()]
        kept = {each.experiment for each in best if each is not None}
        kept |= {each.experiment for each in constant if each.row["gamma"] == results.original["draft_length"]}
        return [each for each in speeds if each.kind != "constant" or each.experiment in kept]

    return selected


def _unit(found: Blocks) -> tuple[str, int]:
    return unit_of_sizes(speed["kv_bytes"].value for _, speeds in found for speed in speeds)


def _reported(given: Iterable[Mapping]) -> list[dict[str, str]]:
    """The original study's rows, with its factor where the table has a speed-up."""
    return [
        {"label": row["method"], "tokens_per_s": fixed(row["tokens_per_s"]), "tpot_ms": fixed(row["tpot_ms"])}
        | ({"speedup": fixed(row["factor"])} if "factor" in row else {})
        for row in given
    ]


def _table(results, headings: Mapping[str, str], found: Blocks, reported, width: float | None = None) -> Table:
    """Measured blocks, and below them what the original study reported: (title, rows)."""
    notes, scale = Notes(), _unit(found)[1]
    measured = "Measured, " if reported else ""
    blocks = [
        Block([_row(_texts(results, each, notes, scale, headings), headings) for each in speeds], measured + title)
        for title, speeds in found
    ]
    if reported:
        title, rows = reported
        blocks += [] if found or "ttft_s" in headings else [UNMEASURED]
        blocks.append(Block([_row(each, headings) for each in rows], title))
    columns = [Column("left", width)]
    for metric in headings:
        columns += [Column(), Column("center")] if metric in WITH_INTERVAL else [Column()]
    head = row("" if reported else "Method", *(_heading(metric, text) for metric, text in headings.items()))
    return Table([Grid(columns, [head], blocks)], notes.lines())


def _heading(metric: str, text: str) -> Entry:
    return Entry(text, span=2, align="center") if metric in WITH_INTERVAL else Entry(text)


def _row(texts: Mapping[str, str], headings: Iterable[str]) -> Row:
    """The entries of a row under their headings; blank where there is no text."""
    entries = [texts["label"]]
    for metric in headings:
        entries.append(texts.get(metric, ""))
        if metric in WITH_INTERVAL:
            entries.append(texts.get(f"{metric}_interval", ""))
    return row(*entries)


def _texts(results, speed: Speed, notes: Notes, scale: int, headings: Iterable[str]) -> dict[str, str]:
    """The texts of an experiment by metric; the acceptance of a method without a drafter is blank, not missing."""
    shown = {"label": speed.label}
    for metric in headings:
        if metric == "kv":
            kv = speed["kv_bytes"]
            shown[metric] = fixed(kv.value / scale) if kv.defined else DASH
        elif metric == "relative":
            contrast = next((speed[name] for name in CONTRASTS if speed[name].defined), None)
            if contrast:
                shown |= {metric: notes.show(contrast), "relative_interval": contrast.interval}
        elif metric == "quality":
            quality = results.quality_of(speed.row)
            if quality:
                shown |= {metric: quality.text, "quality_interval": quality.interval}
            elif not is_missing(speed.row["press"]):
                shown[metric] = DASH
        elif metric == "machine_share":
            shown[metric] = percent(speed["speedup"].machine_share) if speed["speedup"].low is not None else ""
        elif metric == "speedup":
            shown |= {metric: notes.show(speed[metric], with_interval=True), "speedup_interval": speed[metric].interval}
        elif metric in ("tokens_per_s", "ttft_s", "tpot_ms") or not is_missing(speed.row["drafter"]):
            shown[metric] = notes.show(speed[metric])
    return shown
