"""What this program is worth on this machine: the baseline against itself, again and again, with and without a load.

The true speed-up is one. A table says how often the 95% interval covers it, how wide it is, how far off the estimate is
on average and how far it scatters: alone, with a fifth of a core taken by a process of our own, and with a whole one.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from specpress.experiments.assets import Assets
from specpress.experiments.duels.arms import build
from specpress.experiments.duels.contest import Contest
from specpress.hardware.disturbance import watch
from specpress.hardware.environment import describe

# Share of a core that is taken, and the half-width to reach under it.
GOALS = {"none": 0.015, "0.2": 0.03, "1": 0.10}
COVERAGE = 0.93
PERIOD = 0.1  # seconds in which a load works its share and sleeps the rest


@contextmanager
def load(share: float):
    """A process beside the block that takes `share` of a core."""
    if not share:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(share, os.getpid()), daemon=True)
    process.start()
    try:
        time.sleep(2)  # its interpreter starts
        yield
    finally:
        process.terminate()
        process.join()


def _work(share: float, parent: int) -> None:
    while os.getppid() == parent:  # which may have been killed, and would leave this behind
        started = time.perf_counter()
        while time.perf_counter() - started < share * PERIOD:
            pass
        time.sleep((1 - share) * PERIOD)


def control(assets: Assets, precision: float, budget: float, number: int) -> dict:
    """One control: the estimate of a speed-up that is one, and its interval."""
    spec = {
        **{"id": f"control {number}", "model": "baseline", "data": "text", "seed": 1000 * number},
        **{"prompt_tokens": 64, "max_new_tokens": 32, "sampling": {"temperature": 0}},
        **{"precision": precision, "budget_seconds": budget, "least_prompts": 3, "most_prompts": 60},
    }
    baseline = build({"model": "baseline"}, assets)
    contest = Contest(spec, baseline, [baseline], assets)
    ended = contest.run()
    joint = contest.contenders[0].speedup()
    width = joint.half_width()
    found = {"log_speedup": joint.value, "half_width": width, "by": ended["by"], "seconds": ended["seconds"]}
    return found | {"covers": width is not None and abs(joint.value) <= width}


def summed_up(name: str, controls: list[dict]) -> dict:
    """A row of the table."""
    logs = [control["log_speedup"] for control in controls]
    widths = [control["half_width"] if control["half_width"] is not None else math.inf for control in controls]
    return {
        "load": name,
        "controls": len(controls),
        "coverage": sum(control["covers"] for control in controls) / len(controls),
        "half_width": statistics.median(widths),
        "bias": statistics.fmean(logs),
        "spread": statistics.stdev(logs) if len(logs) > 1 else None,
        "seconds": statistics.median(control["seconds"] for control in controls),
        "precise": sum(control["by"] == "precision" for control in controls) / len(controls),
        "goal": GOALS.get(name),
    }


HEADING = ("core taken", "controls", "covers one", "half-width", "goal", "bias", "spread", "s each", "precise")


def line(row: dict) -> str:
    """A row as text."""
    percent = {key: "-" if row[key] is None else f"{100 * row[key]:.1f}%" for key in ("half_width", "bias", "spread")}
    goal = f"{100 * row['goal']:.1f}%" if row["goal"] else "-"
    cells = [row["load"], row["controls"], f"{row['coverage']:.0%}", percent["half_width"], goal, percent["bias"]]
    cells += [percent["spread"], f"{row['seconds']:.1f}", f"{row['precise']:.0%}"]
    return "".join(f"{cell!s:>12}" for cell in cells)


def main() -> None:
    """Parse the command line, run the controls, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100, help="controls under each load (default: %(default)s)")
    parser.add_argument("--loads", default="none,0.2,1", help="shares of a core to take (default: %(default)s)")
    parser.add_argument("--precision", type=float, help="half-width asked for; the goal of each load if left out")
    parser.add_argument("--budget", type=float, default=30, help="seconds a control at most (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=Path("resources/embedded/models/target"))
    parser.add_argument("--data", type=Path, default=Path("resources/embedded/data/wikipedia"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/control.json"))
    args = parser.parse_args()
    for path in (args.model, args.data):
        if not path.is_dir():
            parser.error(f"{path} is missing: `make paper` makes it, or name another")
    if args.repeats < 1 or args.budget <= 0 or not 0 < (args.precision or 0.5) < 1:
        parser.error("at least one repeat, a budget above 0 seconds and a precision between 0 and 1 are needed")
    torch.set_num_threads(args.threads)
    assets = Assets({"baseline": args.model}, {"text": args.data})
    model = assets.model("baseline")
    dtype = str(model.dtype).removeprefix("torch.")
    environment = describe(threads=args.threads, device=str(model.device), dtype=dtype)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    print("".join(f"{name:>12}" for name in HEADING), flush=True)
    rows = []
    for name in args.loads.split(","):
        share = 0.0 if name == "none" else float(name)
        precision = args.precision or GOALS.get(name, 0.05)
        controls = []
        with load(share), watch() as watched:
            for number in tqdm(range(args.repeats), desc=f"core taken: {name}", unit="control"):
                controls.append(control(assets, precision, args.budget, number))
                watched.stop()
                row = summed_up(name, controls) | {"all": controls, "disturbance": watched.record()}
                # After each, so that nothing is lost by who ends it early.
                args.output.write_text(json.dumps({"environment": environment, "rows": [*rows, row]}, indent=1))
        rows.append(row)
        print(line(row), flush=True)
    short = [row["load"] for row in rows if row["coverage"] < COVERAGE or row["half_width"] > (row["goal"] or 1)]
    if short:
        print(f"Not reached with {', '.join(short)} of a core taken: coverage of {COVERAGE:.0%}, or the half-width.")


if __name__ == "__main__":
    main()
