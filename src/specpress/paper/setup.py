"""Where and how a study was measured, as far as its tables say."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from specpress.analysis.formatting import large, number
from specpress.analysis.metrics.duels import ENDED
from specpress.paper.cells import Cell
from specpress.paper.disturbance import disturbance
from specpress.paper.prose import counted, described, held_in_bits, listed
from specpress.paper.wording import data_prose, is_only_sampling, is_sampling, sampling_name

TIMED = ("tpot_ms", "step_speedup", "press_speedup", "factor_total")  # metrics of what was timed
PROTOCOLS = {
    "speed": ["data", "prompts", "prompt_tokens", "max_new_tokens"],
    "perplexity": ["data", "passages", "context", "score"],
    "chain": ["data", "prompts", "prompt_tokens", "max_new_tokens"],
    "tasks": ["data", "samples", "context", "answer_tokens"],
}


@dataclass(frozen=True)
class Setup:
    """Machine, software, protocols and sizes of a study."""

    summary: pd.DataFrame
    environment: Mapping

    @property
    def data(self) -> list[str]:
        """The data sets that an experiment measures on."""
        rows = self.summary[self.summary.kind != "draft"]
        return sorted(rows.data.dropna().unique())

    def machine(self) -> str:
        """Processor, cores, threads, memory, number format and system, as far as they are the same everywhere."""
        common = self.environment["common"]
        described = {
            "cpu": str, "cores": lambda n: counted(n, "core"), "threads": lambda n: counted(n, "thread"),
            "waiting": lambda asked: "" if asked == "default" else f"which wait by {asked}",
            "memory_bytes": lambda n: f"{number('peak_memory_bytes', n)} of memory",
            "dtype": lambda name: f"weights in {name}",
            "platform": lambda name: f"under {name}",
        }  # fmt: skip
        known = [describe(common[key]) for key, describe in described.items() if common.get(key)]
        return ", ".join(filter(None, known)) or "no description that all experiments share"

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
        keys = PROTOCOLS[kind]
        rows = self.summary.loc[self.summary.kind == kind, keys].dropna().drop_duplicates().sort_values(keys)
        rows = rows.astype(dict.fromkeys(keys[1:], int))
        grouped = rows.groupby(keys[1:], dropna=False).data.apply(lambda names: [data_prose(name) for name in names])
        return [row | {"data": listed(row["data"])} for row in grouped.reset_index().to_dict("records")]

    def speed_protocols(self) -> list[dict]:
        """The protocols of speed experiments, one for each data list; `sizes` as a phrase: how many prompts of each."""
        counts: dict[tuple, list[int]] = {}
        for found in self.protocols("speed"):
            size = f"{found['prompt_tokens']} tokens and up to {found['max_new_tokens']} new ones"
            counts.setdefault((found["data"], size), []).append(found["prompts"])
        grouped: dict[str, list[str]] = {}
        for (data, size), prompts in counts.items():
            several = f"{min(prompts)} to " if min(prompts) < max(prompts) else ""
            grouped.setdefault(data, []).append(f"{several}{counted(max(prompts), 'prompt')} of {size}")
        return [{"data": data, "sizes": "; ".join(sizes)} for data, sizes in grouped.items()]

    def endings(self) -> dict:
        """What ended measuring, over the experiments that duel.

        `experiments`, and how many of them ended by `precision`, by `budget` and by `prompts`; the precisions `asked`
        for, in words; `narrowest` and `widest`, the cells of the smallest and the largest half-width reached.
        """
        rows = self.summary[self.summary.metric == "half_width"].drop_duplicates("experiment")
        found = {name: int((rows.note == note).sum()) for name, note in ENDED.items()}
        widths = rows[rows.estimate.notna()].sort_values("estimate").to_dict("records")
        asked = sorted(self.summary.loc[self.summary.metric == "precision", "estimate"].dropna().unique())
        ends = {"narrowest": Cell.of(widths[0]), "widest": Cell.of(widths[-1])} if widths else {}
        return {"experiments": len(rows), "asked": _alternatives(asked), **found, **ends}

    def disturbance(self) -> dict[str, tuple[Cell, Cell]]:
        """What else the machine did while experiments were timed: the middle and the largest value of each kind."""
        return disturbance(self.summary)

    def timed_alike(self) -> bool:
        """Whether all experiments that time anything ran in one environment, whatever the others did."""
        timed = set(self.summary[self.summary.metric.isin(TIMED) & self.summary.estimate.notna()].experiment)
        different = self.environment["different"].values()
        return all(sum(bool(timed & set(each["experiments"])) for each in found) <= 1 for found in different)

    def samplings(self) -> list[dict]:
        """The ways of sampling: `name`, and whether prose calls it `short`, just sampling, there being no other."""
        rows = self.summary[self.summary.kind == "speed"].drop_duplicates("sampling").to_dict("records")
        return [{"name": sampling_name(row), "short": is_sampling(row) and is_only_sampling(rows)} for row in rows]

    def source_kinds(self) -> set[str]:
        """Kinds of the sources of models: wheel, hub, path, random."""
        return {manifest.get("source", {}).get("kind") for manifest in self.environment["models"].values()}

    def largest_model(self) -> int | None:
        """Parameters of the largest model, if any manifest says."""
        counts = [manifest.get("parameters") for manifest in self.environment["models"].values()]
        return max((count for count in counts if count), default=None)

    def described_models(self, sources: Mapping) -> list[Markup]:
        """A sentence or two about each model; one that another is, held in fewer bits, is described by the other."""
        models = self.environment["models"]
        whole = {m["sha256"]: name for name, m in models.items() if m.get("sha256") and not m.get("weights")}
        return [
            held_in_bits(name, whole[manifest["sha256"]], manifest)
            if manifest.get("weights") and manifest.get("sha256") in whole
            else described(name, manifest, sources)
            for name, manifest in models.items()
        ]

    def fewest(self, *kinds: str) -> int | None:
        """The smallest number of units (prompts, passages, repeats) that an interval of these kinds rests on."""
        counts = self.summary.loc[self.summary.kind.isin(kinds) & self.summary.low.notna(), "n"].dropna()
        return int(counts.min()) if len(counts) else None

    def scope(self) -> str:
        """What the results speak about, in a few words: the device and the size of the target."""
        common = self.environment["common"]
        device = common.get("accelerator") or {"cpu": "a CPU"}.get(common.get("device"))
        size = f", with a target of {large(self.largest_model())} parameters" if self.largest_model() else ""
        return f"{device}{size}" if device else ""

    def longest(self) -> int | None:
        """The longest prompt or context of any experiment, in tokens."""
        found = pd.concat([self.summary.prompt_tokens, self.summary.context]).dropna()
        return int(found.max()) if len(found) else None

    def largest_batch(self) -> int:
        """The largest batch of any experiment; 1 where none is batched."""
        found = self.summary[self.summary.kind != "draft"].batch.dropna()
        return int(found.max()) if len(found) else 1

    @property
    def samples(self) -> bool:
        """Whether any experiment samples, rather than decoding greedily."""
        return bool((self.summary[self.summary.kind == "speed"].temperature.fillna(1) > 0).any())

    def rates(self) -> dict[str, float]:
        """The machine's rates by name; empty where they were not measured."""
        rows = self.summary[(self.summary.kind == "machine") & self.summary.estimate.notna()]
        return dict(zip(rows.metric, rows.estimate, strict=True))

    def shape(self) -> Mapping:
        """The manifest of the model the weight bytes and KV bytes of which are known; the largest of several."""
        known = [
            m for m in self.environment["models"].values() if m.get("weight_bytes") and m.get("kv_bytes_per_token")
        ]
        return max(known, key=lambda manifest: manifest["weight_bytes"], default={})

    def break_even_tokens(self) -> int | None:
        """Cached tokens, over all rows of a batch, whose KV bytes equal the weight bytes."""
        shape = self.shape()
        return round(shape["weight_bytes"] / shape["kv_bytes_per_token"]) if shape else None


def _alternatives(shares: list[float]) -> str:
    """Shares as a choice between percentages, as precise as they are given.

    >>> _alternatives([0.015, 0.02, 0.1])
    '1.5%, 2% or 10%'
    """
    texts = [f"{100 * share:g}%" for share in shares]
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]])) if texts else ""
