"""`specpress train`: train a draft for a model of yours.

It goes on where a killed one stood, and ends with the acceptance on text that it was not trained on.
"""

import argparse
import sys
from pathlib import Path

from specpress.cli.whole import at_least_one
from specpress.study.draft_config import DraftConfig, DraftError
from specpress.study.reading import parse_yaml

EXAMPLE = (
    "Example: specpress train --target my-model --data prose.txt --set kind=head --set objective=forward_kl "
    "--set tokens=2000000 --output my-head. The keys are those of a study's drafts: config/README.md, 'Drafts'."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--target", required=True, metavar="DIR", help="directory of the model to draft for")
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="PATH",
        help="text to train on, once for each: a UTF-8 file whose blank lines part paragraphs, or a prepared data set "
        "of a study (a folder with dataset_dict.json)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of a draft, its value as in YAML"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where the draft, its figures and manifest go")
    parser.add_argument(
        "--threads", type=at_least_one, metavar="N", help="threads torch may use (default: torch's own choice)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... or mps (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train, and say what became of it."""
    data = _named(args.data)
    spec = {"name": Path(args.output).name or "draft", "target": args.target, "data": list(data)}
    config = DraftConfig.from_spec(spec | _settings(args.set))
    if not Path(args.target).is_dir():
        raise DraftError(f"{args.target} is not a directory; give the directory of a model, with its config.json")

    import torch

    from specpress.training.train import checked, train_draft

    threads = torch.get_num_threads() if args.threads is None else args.threads
    checked(config, args.target, data, threads=threads, device=args.device)  # before a text is read
    folders = {name: _prepared(path, Path(args.output) / "text" / name) for name, path in data.items()}
    metrics = train_draft(config, args.target, folders, args.output, threads=threads, device=args.device)
    for name, found in metrics["held_out"].items():
        along = ", ".join(f"{value:.3f}" for value in found["acceptance_by_position"])
        print(f"{name}: acceptance {along} on {found['n_tokens']} tokens held out, at temperature 1")
    with_it = "FeatureHead" if config.kind == "head" else "DraftModel"
    print(f"{args.output}: draft with specpress generate --draft, or {with_it}(load_model({args.output!r})[0])")
    return 0


def _named(paths: list[str]) -> dict[str, Path]:
    """Each path by a name of its own, that of its file or folder."""
    named = {Path(path).stem: Path(path) for path in paths}
    if len(named) < len(paths):
        raise DraftError("--data: two have the same name; rename one, as results are told by name")
    for path in named.values():
        if not path.exists():
            raise DraftError(f"--data: {path} is not there")
    return named


def _settings(given: list[str]) -> dict:
    """The keys that were set; a later one of the same name counts."""
    settings = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator:
            raise DraftError(f"--set: expected KEY=VALUE, got {text!r}")
        settings[key.strip()] = parse_yaml(value, f"--set {text!r}")
    return settings


def _prepared(path: Path, folder: Path) -> Path:
    """The folder of a data set: the path itself, or what is made of a text file."""
    if path.is_dir():
        if not (path / "dataset_dict.json").is_file():
            raise DraftError(f"--data: {path} holds no dataset_dict.json; give a prepared data set or a file")
        return path
    from specpress.data.readers import document_size, read
    from specpress.data.store import save_split

    print(f"reading {path}", file=sys.stderr)
    save_split(
        folder,
        read("text", path, document_characters=document_size(path)),
        0.1,
        {"source": {"kind": "path", "path": str(path)}},
    )
    return folder
