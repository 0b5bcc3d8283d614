"""Is this library right on a GPU, and what does it cost there? A check of some six minutes, expected beside measured.

It needs the library and torch alone: no workflow, no hub. Models are random weights of Pythia's shapes, made on the
device, their output heads scaled until the logits have a standard deviation of 4, so that laws look like those of text.
The expectations are for an H100, from a desk check. Correctness decides the exit code; costs are for reading.

    python benchmarks/gpu_check.py --output gpu_check.json
    python benchmarks/gpu_check.py --only logits,steps --seconds 120
    python benchmarks/gpu_check.py --device cpu --tiny      (the script itself, on any machine, in seconds)
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from gpu_sections.attention import attention
from gpu_sections.bench import Check, OutOfTime, Row
from gpu_sections.correctness import laws, logits, tiny
from gpu_sections.costs import kernels, law_costs, memory, rates, rounds, steps
from gpu_sections.real_model import real

from specpress.hardware.devices import exact_kernels
from specpress.hardware.environment import describe


def versions(check: Check) -> Iterator[Row]:
    found = environment(check)
    for name in ("accelerator", "cpu", "platform"):
        yield Row(name, "", str(found.get(name)))
    for name, value in {**found.get("packages", {}), **found.get("settings", {})}.items():
        yield Row(name, "", str(value))


SECTIONS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "versions": versions, "tiny": tiny, "laws": laws, "logits": logits, "steps": steps, "rounds": rounds,
    "law": law_costs, "kernels": kernels, "rates": rates, "memory": memory, "attention": attention, "real": real,
}  # fmt: skip


def environment(check: Check) -> dict:
    dtype = str(check.dtype).removeprefix("torch.")
    return describe(threads=torch.get_num_threads(), device=str(check.device), dtype=dtype)


def run(check: Check, names: list[str], publish: Callable[[dict], None]) -> bool:
    """All sections; one that fails does not keep the others from running. Returns whether everything was right."""
    record = {"schema": 1, "environment": environment(check), "rows": [], "seconds": {}, "failed": {}}
    for name in names:
        started = time.monotonic()
        try:
            check.time_left()
            with exact_kernels():
                for row in SECTIONS[name](check):
                    record["rows"].append({"section": name, **asdict(row)})
                    print_row(name, row)
        except OutOfTime:
            record["failed"][name] = "out of time"
        except Exception:
            record["failed"][name] = traceback.format_exc()
            print(record["failed"][name], flush=True)
        record["seconds"][name] = round(time.monotonic() - started, 2)
        print(f"{'':2}({name}: {record['seconds'][name]:.1f} s)", flush=True)
        publish(record)
    wrong = [row["name"] for row in record["rows"] if row["right"] is False]
    for name, why in record["failed"].items():
        print(f"section {name} did not finish: {why.strip().splitlines()[-1]}; again: --only {name}")
    for name in wrong:
        print(f"WRONG: {name}")
    right = sum(row["right"] is True for row in record["rows"])
    print(f"{right} right, {len(wrong)} wrong, {len(record['failed'])} unfinished")
    return not wrong and not record["failed"]


def print_row(section: str, row: Row) -> None:
    verdict = {True: "right", False: "WRONG", None: ""}[row.right]
    print(f"{section:9} {row.name:66} {row.expected:24} {row.measured:44} {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few repeats: checks the script itself")
    parser.add_argument("--only", default="", help=f"sections, by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--seconds", type=float, default=540, help="stop after so many (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="folder of a small real model, or a GGUF file")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/gpu_check.json"))
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(SECTIONS)
    if unknown := sorted(set(names) - set(SECTIONS)):
        parser.error(f"unknown sections: {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    device = torch.device(args.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("there is no CUDA device here; --device cpu --tiny checks the script itself")
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    check = Check(device, args.tiny, args.seconds, args.model)
    right = run(check, names, lambda record: args.output.write_text(json.dumps(record, indent=1)))
    print(
        f"Wrote {args.output}. If this card is not in docs/performance.md yet, or something is wrong, open an issue\n"
        "and attach that file and this table: they name the card, the driver and the versions, no machine or person."
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
