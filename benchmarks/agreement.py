"""Whether a load changes what is said: the speed experiments of a study twice each, alone and beside a load.

A process of ours takes a fifth of a core beside one of the two runs, whose prompts are the same, and so are the texts:
what differs is the machine. A pair whose intervals share no point contradicts itself. Beside the intervals that a paper
prints, which know that prompts differ, stand those that know of the machine alone, over the prompts both runs had.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch
from control import load
from scipy import stats
from tqdm import tqdm

from specpress.experiments.assets import Assets
from specpress.experiments.duels.arms import arm_of, build
from specpress.experiments.duels.contest import Contest
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe
from specpress.study.expansion import data_of, models_of
from specpress.study.load import Study, read_study
from specpress.theory.costs import Brackets
from specpress.theory.duels import Joint, Text, speedup
from specpress.theory.intervals import CONFIDENCE

MOST_APART = 0.05  # of the pairs: the goal
LEAST_PROMPTS = 3  # that an interval needs
PRECISION = 0.01  # half-width before which no run ends but by its budget


def chosen(study: Study, patterns: Sequence[str], longest: int) -> list[dict]:
    """The speed experiments that a pattern names, with prompts of up to `longest` tokens."""
    return [
        spec
        for name, spec in study.experiments.items()
        if spec["kind"] == "speed" and spec["prompt_tokens"] <= longest and any(fnmatch(name, p) for p in patterns)
    ]


def places(study: Study, names: Sequence[str], root: Path) -> dict[str, Path]:
    """Where `make paper` leaves the models and drafts of these names."""
    drafts, models = root / "results" / study.name / "drafts", root / "resources" / study.name / "models"
    return {name: (drafts if name in study.drafts else models) / name for name in names}


def once(spec: dict, assets: Assets, share: float, budget: float) -> dict:
    """One run of an experiment beside a load: its estimate, its texts and brackets, what disturbed it."""
    short = {"budget_seconds": budget, "least_prompts": LEAST_PROMPTS, "precision": PRECISION}
    baseline = build({"model": spec["baseline"]}, assets)
    contest = Contest(spec | short, baseline, [build(arm_of(spec), assets)], assets)
    with load(share), watch() as watched:
        contest.run()
    contender = contest.contenders[0]
    texts = [Text(run.tokens, run.rounds) for run in contender.runs if run.tokens]
    steps = contender.record.brackets["before"]
    return {
        **{"joint": contender.speedup(), "texts": texts, "brackets": contender.brackets()},
        **{"step_ms": 1e3 * statistics.median(steps), "disturbance": watched.record()},
    }


def machine_alone(texts: Sequence[Text], brackets: Brackets) -> tuple[float, float] | None:
    """The interval of the speed-up on these very texts, of which the machine alone is uncertain."""
    joint = speedup(texts, brackets)
    if not math.isfinite(joint.machine) or joint.machine_freedom < 1:
        return None
    width = joint.machine * float(stats.t.ppf((1 + CONFIDENCE) / 2, joint.machine_freedom))
    return math.exp(joint.value - width), math.exp(joint.value + width)


def interval(joint: Joint | None) -> tuple[float, float] | None:
    """The ends of an estimate's interval; None without one."""
    found = joint.estimate() if joint else None
    return None if found is None or found.high is None else (found.low, found.high)


def apart(first: tuple[float, float] | None, second: tuple[float, float] | None) -> bool | None:
    """Whether two intervals share no point; None where one is missing."""
    return None if first is None or second is None else first[1] < second[0] or second[1] < first[0]


def compare(spec: dict, assets: Assets, share: float, budget: float, turn: int) -> dict:
    """A row: both runs of an experiment, the loaded one first every other time."""
    runs = {beside: once(spec, assets, beside, budget) for beside in ((0.0, share) if turn % 2 else (share, 0.0))}
    both = [runs[0.0], runs[share]]
    common = min(len(run["texts"]) for run in both)
    whole = [interval(run["joint"]) for run in both]
    machine = [machine_alone(run["texts"][:common], run["brackets"]) if common else None for run in both]
    return {
        **{"experiment": spec["id"], "speedups": [math.exp(run["joint"].value) for run in both]},
        **{"intervals": whole, "apart": apart(*whole), "machine": machine, "machine_apart": apart(*machine)},
        **{"prompts": [len(run["texts"]) for run in both], "step_ms": [run["step_ms"] for run in both]},
        "disturbance": [run["disturbance"] for run in both],
    }


def line(row: dict) -> str:
    """A row as text."""
    if "error" in row:
        return f"{row['experiment']:44} {row['error']}"
    cells = [
        f"{value:6.2f} [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else f"{value:6.2f} -"
        for value, ends in zip(row["speedups"], row["intervals"], strict=True)
    ]
    told = {True: "apart", False: "agree", None: "-"}
    steps = " and ".join(f"{ms:.0f}" for ms in row["step_ms"])
    ends = f"{told[row['apart']]:>8}{told[row['machine_apart']]:>10}   {steps}"
    return f"{row['experiment']:44}{cells[0]:24}{cells[1]:24}{ends}"


def rows(specs: Sequence[dict], assets: Assets, share: float, budget: float) -> Iterator[dict]:
    """A row for each experiment; one whose parts and whole disagree in a run says so in the place of its figures."""
    for turn, spec in enumerate(tqdm(specs, desc="experiments", unit="pair")):
        try:
            yield compare(spec, assets, share, budget, turn)
        except ValueError as error:
            yield {"experiment": spec["id"], "error": str(error)}


def summed_up(found: Sequence[dict]) -> dict:
    """How many pairs there are, and how many of them are apart, by each kind of interval."""
    counts = {"pairs": len(found), "errors": sum("error" in row for row in found)}
    for key in ("apart", "machine_apart"):
        told = [row[key] for row in found if row.get(key) is not None]
        counts[key] = {"pairs": len(told), "apart": sum(told), "share": sum(told) / len(told) if told else None}
    return counts


def main() -> None:
    """Parse the command line, run the pairs, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--root", type=Path, default=Path(), help="where its resources and results are")
    parser.add_argument("--experiments", default="*", help="names or patterns, separated by commas (default: all)")
    parser.add_argument("--longest", type=int, default=512, help="tokens of a prompt at most (default: %(default)s)")
    parser.add_argument("--load", type=float, default=0.2, help="share of a core to take (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=6, help="seconds a run (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/agreement.json"))
    args = parser.parse_args()
    if args.budget <= 0 or not 0 < args.load <= 1:
        parser.error("a budget above 0 seconds and a load of more than 0 and at most 1 core are needed")
    study = read_study(args.study)
    specs = chosen(study, args.experiments.split(","), args.longest)
    if not specs:
        parser.error(f"{args.study} has no speed experiment {args.experiments} with prompts of {args.longest} tokens")
    models = places(study, sorted({name for spec in specs for name in models_of(spec)}), args.root)
    texts = sorted({name for spec in specs for name in data_of(spec)})
    data = {name: args.root / "resources" / study.name / "data" / name for name in texts}
    for path in (*models.values(), *data.values()):
        if not path.is_dir():
            parser.error(f"{path} is missing: `make paper` makes it, or name the folder it was made in with --root")
    torch.set_num_threads(args.threads)
    assets = Assets(models, data)
    model = assets.model(study.config["baseline"])
    dtype = str(model.dtype).removeprefix("torch.")
    environment = describe(threads=args.threads, device=str(model.device), dtype=dtype)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'experiment':44}{'alone':>14}{'':10}{'beside a load':>17}{'':7}{'whole':>8}{'machine':>10}   step, ms")
    found = []
    for row in rows(specs, assets, args.load, args.budget):
        found.append(row)
        print(line(row), flush=True)
        record = {"environment": environment, "load": args.load, "budget_seconds": args.budget}
        # After each, so that nothing is lost by who ends it early.
        args.output.write_text(json.dumps(record | {"rows": found, "summary": summed_up(found)}, indent=1))
    for key, name in (("apart", "intervals"), ("machine_apart", "intervals of the machine alone")):
        told = summed_up(found)[key]
        print(f"{told['apart']} of {told['pairs']} pairs of {name} share no point (goal: at most {MOST_APART:.0%})")


if __name__ == "__main__":
    main()
