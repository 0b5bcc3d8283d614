"""A finished study as files, small and made up: what explain, compare and archive read."""

import json
from pathlib import Path

import pandas as pd
import yaml

from specpress.study.load import load_study

STUDY = """\
study: small
baseline: target
models: {target: {source: {kind: random, architecture: llama, hidden_size: 8, layers: 1, heads: 2, seed: 0}}}
data: {prose: {source: {kind: path, path: prose.txt}, reader: text, test_fraction: 0.5}}
drafts: {draft: {target: target, data: [prose]}}
sampling: {greedy: {temperature: 0}}
defaults: {speed: {data: prose, precision: 0.5, budget_seconds: 1, least_prompts: 2, most_prompts: 2,
                   prompt_tokens: 8, max_new_tokens: 8, seed: 0,
                   verification: token, sampling: greedy}}
experiments: [{id: plain, kind: speed}, {id: aimd, kind: speed}]
"""
RATIO = "pairs[*]: baseline.tpot_ms / method.tpot_ms"
# experiment, metric, estimate, low, high, n, note, reference, field
ROWS = [
    ("plain", "speedup", 1.25, 1.125, 1.5, 12, None, None, RATIO),
    ("plain", "predicted_speedup", None, None, None, None, "no drafter", None, "theory.predicted_speedup"),
    ("plain", "wall_seconds", 12.5, None, None, None, None, None, "wall_seconds"),
    ("plain", "lossless_explained", 1, None, None, None, None, None, "lossless.explained"),
    ("aimd", "speedup", 1.5, 1.375, 1.625, 12, None, None, RATIO),
    ("aimd", "speedup_over_reference", 1.2, 1.1, 1.3, 12, None, "plain", "runs[*] and brackets of both, against plain"),
]
DIFFERENCE = {"prompt": 3, "row": 0, "place": 17, "tokens": [260, 253], "texts": [" the", " a"],
              "gaps": {"bfloat16": 0.375, "float32": 0.226}, "verdict": "explained"}  # fmt: skip
LOSSLESS = {"compared": 2, "equal": 1, "explained": 1, "unexplained": 0, "allowed": 0.34, "differences": [DIFFERENCE]}
COLUMNS = ["experiment", "metric", "estimate", "low", "high", "n", "note", "reference", "field"]
ENVIRONMENT = {
    "python": "3.11.2", "platform": "Linux", "cpu": "Example CPU", "cores": 2, "threads": 2, "memory_bytes": 2**33,
    "device": "cpu", "dtype": "bfloat16", "packages": {"torch": "2.13.0"}, "commit": "0123abc",
}  # fmt: skip


def write_study(root: Path, rows=ROWS, name: str = "small") -> Path:
    """A finished study below `root`, with its paper; returns its results folder."""
    results = root / "results" / name
    table = pd.DataFrame(rows, columns=COLUMNS)
    table = table.assign(kind="speed", unit="x", file=[f"results/{name}/metrics/{e}.json" for e in table.experiment])
    metrics = {"environment": ENVIRONMENT, "lossless": LOSSLESS, "schema": 2, "kind": "speed"}
    specs = load_study(yaml.safe_load(STUDY)).experiments
    metrics |= {"started": "2026-11-24T10:00:00+00:00", "wall_seconds": 90.0}
    files = {
        "analysis/summary.csv": table.to_csv(index=False),
        "machine.json": "{}",
        "analysis/environment.json": json.dumps({"common": ENVIRONMENT}),
        "numbers.tex": numbers_tex(table),
        "paper/main.pdf": "%PDF",
        "paper/main.aux": "left behind by LaTeX",
        "figures/speedup.svg": "<svg/>",
        "rounding/target.json": json.dumps({**metrics, "id": "rounding-target", "kind": "rounding", "spec": {}}),
        "drafts/draft/manifest.json": "{}",
        "drafts/draft/metrics.json": json.dumps({**metrics, "id": "draft", "spec": {}}),
        "drafts/draft/model.safetensors": "large",
        "lessons/0123456789abcdef/lesson.safetensors": "large",
        **{
            f"metrics/{id}.json": json.dumps({**metrics, "id": id, "spec": specs.get(id, {"id": id})})
            for id in ("plain", "aimd", "removed")
        },
    }
    for path, text in files.items():
        write(results / path, text)
    for kind in ("models/target", "data/prose"):
        write(root / f"resources/{name}/{kind}/manifest.json", "{}")
        write(root / f"resources/{name}/{kind}/model.safetensors", "large")
    write(root / "paper/sections/introduction.tex", "Text.")
    write(root / "paper/main.pdf", "%PDF")
    for path in ("Snakefile", "workflow/rules/common.smk", "README.md", "LICENSE"):
        write(root / path, path)
    write(root / "CITATION.cff", "authors: [{name: The authors}, {family-names: Noether, given-names: Emmy}]")
    write(root / "study.yaml", STUDY.replace("small", name, 1))
    return results


def numbers_tex(table: pd.DataFrame) -> str:
    """numbers.tex as its template renders it."""
    lines = ["% Generated."]
    for row in table.to_dict("records"):
        name, origin = f"{{{row['experiment']}}}{{{row['metric']}", f"% {row['file']} : {row['field']}"
        if pd.isna(row["estimate"]):
            lines.append(f"% {row['experiment']} {row['metric']} is not defined: {row['note']} (in {row['file']})")
            continue
        parts = {"": row["estimate"], "/low": row["low"], "/high": row["high"]}
        lines += [rf"\defineresult{name}{part}}}{{{v:.3f}}} {origin}" for part, v in parts.items() if not pd.isna(v)]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
