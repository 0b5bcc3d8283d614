"""The rows of the tables, formatted; the templates only lay them out."""

from math import exp, log

from specpress.analysis.formatting import DASH, fixed, is_missing, percent, unit_of_sizes
from specpress.analysis.kinds import KINDS
from specpress.paper.cells import Cell, Notes
from specpress.paper.decisions import ABOVE, BELOW
from specpress.paper.points import PressPoint, block_titles
from specpress.paper.rendering import Tex, escape
from specpress.paper.speeds import Speed, fastest
from specpress.paper.wording import drafter_name, press_name

LOSSLESS_PARTS = ("compared", "equal", "near_ties", "different")
CONTRASTS = ("speedup_over_reference", "speedup_over_plain", "speedup_over_token")


def speed_table(results, *kinds: str, every: bool = False, predicted: bool = True) -> dict:
    """Blocks of (title, rows) of the experiments of these kinds (all, if none is named), and the notes under the table.

    Of the constant lengths of a draft model only the fastest and the original study's, unless `every` one is asked for.
    `predicted`: whether the table shows the predicted speed-up. `empty` where there is none.
    """
    notes, blocks = Notes(), []
    kinds = kinds or KINDS
    sizes = [s["kv_bytes"].value for b in results.blocks for s in b.speeds if s.kind in kinds]
    unit, scale = unit_of_sizes(sizes)
    for block in results.blocks:
        speeds = [speed for speed in block.speeds if speed.kind in kinds]
        speeds = speeds if every else _without_other_lengths(speeds, results.original["draft_length"])
        if speeds:
            rows = [_speed_row(results, speed, notes, scale, predicted) for speed in speeds]
            blocks.append({"title": block.title, "rows": rows})
    return {"blocks": blocks, "notes": notes.lines(), "unit": unit, "empty": not blocks}


def _without_other_lengths(speeds: list[Speed], length: int) -> list[Speed]:
    """The experiments without the constant lengths of a draft model that are neither `length` nor the fastest."""
    constant = [speed for speed in speeds if speed.kind == "constant"]
    by_model: dict[str, list[Speed]] = {}
    for speed in constant:
        by_model.setdefault(drafter_name(speed.row), []).append(speed)
    kept = [fastest([s for s in of_model if s["speedup"].defined]) for of_model in by_model.values()]
    kept += [speed for speed in constant if speed.row["gamma"] == length]
    return [speed for speed in speeds if speed not in constant or speed in kept]


def _speed_row(results, speed: Speed, notes: Notes, scale: int, predicted: bool) -> dict[str, str]:
    """One line of a speed table; the acceptance of a method without a drafter is blank rather than missing."""
    no_drafter = is_missing(speed.row["drafter"])
    row: dict[str, str] = {"label": speed.label}
    for metric in ("tokens_per_s", "ttft_s", "tpot_ms"):
        row[metric] = notes.show(speed[metric])
    row["speedup"] = notes.show(speed["speedup"], with_interval=True)
    row["interval"] = speed["speedup"].interval
    for metric in ("acceptance_rate", "tokens_per_iteration") + predicted * ("predicted_speedup",):
        row[metric] = "" if no_drafter else notes.show(speed[metric])
    kv = speed["kv_bytes"]
    row["kv"] = fixed(kv.value / scale) if kv.defined else DASH
    contrast = next((speed[metric] for metric in CONTRASTS if speed[metric].defined), None)
    row["relative"] = notes.show(contrast) if contrast else ""
    row["relative_interval"] = contrast.interval if contrast else ""
    quality = results.quality_of(speed.row)
    row["quality"] = quality.text if quality else "" if is_missing(speed.row["press"]) else DASH
    row["quality_interval"] = quality.interval if quality else ""
    return row


def press_table(results) -> dict:
    """One row a press, one column group a text: throughput gain and relative perplexity, once and while decoding.

    `groups`: texts that fit beside each other, each with `columns` (title, whether anything was timed or measured while
    decoding) and `blocks`, one a main ratio (the two lowest where none was measured), with the bytes of the caches and
    the rows. Rows are in one order everywhere: by the mean perplexity ratio at the highest main ratio.
    """
    measured = sorted({point.ratio for point in results.points if point.ratio})
    ratios = [ratio for ratio in results.original["table_ratios"] if ratio in measured] or measured[:2]
    order = _press_order(results.points, ratios[-1]) if ratios else []
    columns = []
    for block, title in block_titles(results.points).items():
        points = {(p.press, p.ratio): p for p in results.points if p.block == block}
        timed = any(p.cell("step_speedup").defined for p in points.values())
        decoding = any(p.decoding for p in points.values())
        columns.append({"title": title, "timed": timed, "decoding": decoding, "points": points})
    groups = [{"columns": part, "blocks": _press_blocks(part, ratios, order)} for part in _side_by_side(columns)]
    return {"groups": [group for group in groups if group["blocks"]]}


def _side_by_side(columns: list[dict]) -> list[list[dict]]:
    """Columns of the table of presses in parts that are no wider than a page."""
    parts, room = [], 0
    for column in columns:
        wide = 3 + column["timed"] + 3 * column["decoding"]  # in widths of a number; an interval has two
        if room < wide:
            parts.append([])
            room = 18
        parts[-1].append(column)
        room -= wide
    return parts


def _press_blocks(columns: list[dict], ratios: list[float], order: list[str]) -> list[dict]:
    blocks = []
    for ratio in ratios:
        presses = [press for press in order if any((press, ratio) in column["points"] for column in columns)]
        rows = [
            {
                "press": press_name(press),
                "cells": [_press_cells(column["points"].get((press, ratio))) for column in columns],
            }
            for press in presses
        ]
        sizes = [tuple(_size([p for p in c["points"].values() if p.ratio == r]) for r in (0, ratio)) for c in columns]
        if rows:
            blocks.append({"removed": percent(ratio), "rows": rows, "sizes": sizes})
    return blocks


def _press_order(points: list[PressPoint], ratio: float) -> list[str]:
    """Presses from the lowest geometric mean perplexity ratio to the highest; those without one last."""
    logs: dict[str, list[float]] = {}
    for point in points:
        cell = point.cell("ppl_ratio")
        found = logs.setdefault(point.press, [])
        if point.ratio == ratio and cell.defined:
            found.append(log(cell.value))
    return sorted(logs, key=lambda press: exp(sum(logs[press]) / len(logs[press])) if logs[press] else float("inf"))


def _press_cells(point: PressPoint | None) -> dict[str, str]:
    """The cells of a press at one ratio: gain, starred if its interval excludes one, and relative perplexities."""
    if point is None:
        return dict.fromkeys(("gain", "once", "once_interval", "decoding", "decoding_interval"), "")
    gain, shown = point.cell("step_speedup"), {}
    star = r"\rlap{*}" if gain.side() in (ABOVE, BELOW) else ""
    shown["gain"] = Tex(escape(fixed(gain.value)) + star)
    for mode in ("once", "decoding"):
        cell = point.cell("ppl_ratio", mode)
        shown |= {mode: fixed(cell.value), f"{mode}_interval": short_interval(cell)}
    return shown


def short_interval(cell: Cell) -> str:
    """An interval with two decimals, for narrow columns; nothing without one."""
    return "" if cell.low is None or cell.high is None else f"[{fixed(cell.low)}, {fixed(cell.high)}]"


def _size(points: list[PressPoint]) -> str:
    """Bytes of the cache at one ratio: one value where the presses agree, else the range."""
    texts = dict.fromkeys(p.cell("kv_bytes").text for p in sorted(points, key=_bytes) if p.cell("kv_bytes").defined)
    if not texts:
        return DASH
    found = list(texts)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _bytes(point: PressPoint) -> float:
    return point.cell("kv_bytes").value or 0


def full_press_table(results) -> dict:
    """Every point, for the report: blocks of (title, rows), the full cache once a block, and the notes."""
    notes, blocks = Notes(), []
    unit, scale = unit_of_sizes(point.cell("kv_bytes").value for point in results.points)
    for block, title in block_titles(results.points).items():
        rows, full = [], set()
        for point in (p for p in results.points if p.block == block):
            ppl = point.cell("ppl")
            if point.ratio == 0 and ppl.value in full:
                continue  # the same full cache, measured again beside another press
            full |= {ppl.value} if point.ratio == 0 else set()
            rows.append(_full_row(point, notes, scale))
        blocks.append({"title": title, "rows": sorted(rows, key=lambda row: not row["is_full"])})
    decoding = any(point.decoding for point in results.points)
    return {"blocks": blocks, "notes": notes.lines(), "unit": unit, "decoding": decoding}


def _full_row(point: PressPoint, notes: Notes, scale: int) -> dict[str, str | bool]:
    full = point.ratio == 0
    kv, gain, accepted = (point.cell(metric) for metric in ("kv_bytes", "step_speedup", "acceptance"))
    once, decoding = point.cell("ppl_ratio"), point.cell("ppl_ratio", "decoding")
    return {
        "is_full": full,
        "press": "Full cache" if full else point.name,
        "removed": point.removed,
        "kv": fixed(kv.value / scale) if kv.defined else DASH,
        "gain": "" if full else fixed(gain.value),
        "gain_interval": "" if full else short_interval(gain),
        "acceptance": "" if full else fixed(accepted.value),
        "ppl": notes.show(point.cell("ppl"), with_interval=True),
        "once": "" if full else notes.show(once, fixed(once.value)),
        "once_interval": "" if full else short_interval(once),
        "decoding": "" if full else fixed(decoding.value),
        "decoding_interval": "" if full else short_interval(decoding),
    }


def chain_table(results) -> dict:
    """The steps of every chain with the factor of each and the factor so far, and the notes under the table."""
    notes, chains = Notes(), []
    for steps in results.chains.values():
        rows = []
        for step in steps:
            row = {"title": step.title, "anchor": step.is_anchor}
            for metric in ("tokens_per_s", "tpot_ms"):
                row[metric] = notes.show(step[metric])
            for metric in ("factor", "factor_total", "factor_anchor"):
                known = metric in step.cells
                row[metric] = notes.show(step[metric], with_interval=True) if known else ""
                row[f"{metric}_interval"] = short_interval(step[metric]) if known else ""
            rows.append(row)
        chains.append(rows)
    return {"chains": chains, "notes": notes.lines()}


def lossless_table(results) -> list[dict]:
    """What became of the greedy texts, one row a drafter: its label, the block's title, and the counts."""
    groups: dict[tuple, list[Speed]] = {}
    for block in results.blocks:
        for speed in block.speeds:
            if speed in results.compared:
                groups.setdefault((block.title, drafter_name(speed.row)), []).append(speed)
    rows = []
    for (title, drafter), speeds in groups.items():
        label = speeds[0].label if len(speeds) == 1 else f"{drafter}, {len(speeds)} settings"
        counts = {part: sum(int(s[f"lossless_{part}"].value or 0) for s in speeds) for part in LOSSLESS_PARTS}
        rows.append({"label": label, "title": title} | counts)
    return rows
