"""`specpress new`: a study of your own model, written to a file. It runs nothing.

The model is a folder or a hub repository; of a repository the commit that is the newest now is written down. Prompts
and passages come from the texts of the embedded study, or from a text of yours.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

from specpress.study.reading import read_yaml
from specpress.study.source_code import ROOT
from specpress.study.template import write_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `specpress new`."""
    parser.add_argument("model", metavar="MODEL", help="a model's folder, or a hub repository: owner/name")
    parser.add_argument("--draft", metavar="MODEL", help="a smaller model with the same tokenizer, to draft for it")
    parser.add_argument("--text", metavar="FILE", help="a UTF-8 text to measure on (default: the embedded study's)")
    parser.add_argument("--name", help="of the study (default: after the model)")
    parser.add_argument("--device", default="auto", help="what to choose the sizes for (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: config/<name>.yaml")
    parser.add_argument("--keep", action="store_true", help="leave a file that is already there as it is")


def run(args: argparse.Namespace) -> int:
    """Write the study; the last line printed is its path."""
    name = args.name or study_name(args.model)
    output = args.output or Path(os.path.relpath(ROOT / "config" / f"{name}.yaml"))
    if output.exists():
        if not args.keep or not output.is_file():
            raise ValueError(f"{output} is there already: name another file with --output, or remove it")
        _check_kept(output, args)
    else:
        text = _written(args, name)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    print(output)
    return 0


def study_name(model: str) -> str:
    """A name for the study of a model: the end of its path, as studies are named.

    Raises
    ------
    ValueError
        If nothing is left of it.
    """
    last = Path(os.path.abspath(model)).name if os.path.isdir(model) else model.rpartition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    if not name:
        raise ValueError(f"no name for a study can be made of {model!r}: give one with --name")
    return name


def _check_kept(study: Path, args: argparse.Namespace) -> None:
    """Refuse to leave a study as it is that is one of other models, or another text: they would be measured unasked.

    Raises
    ------
    ValueError
        With what the study does not speak of.
    """
    content = read_yaml(study)
    spoken = [place for part in ("models", "data") for place in _places(content, part)]
    for given in filter(None, (args.model, args.draft, args.text)):
        if (_from_root(Path(given)) if Path(given).exists() else given) not in spoken:
            raise ValueError(
                f"{study} is there already and says nothing of {given}: to run it as it is, make paper STUDY={study}; "
                "for a new one remove it, or name another file with --output"
            )


def _places(study, part: str) -> Iterator[str]:
    """Where the sources of a study's models or data are: paths and repositories."""
    entries = study.get(part) if isinstance(study, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        source = entry.get("source") if isinstance(entry, dict) else None
        if isinstance(source, dict):
            yield from (source[key] for key in ("path", "repo") if isinstance(source.get(key), str))


def _written(args: argparse.Namespace, name: str) -> str:
    from specpress.hardware.devices import default_dtype, resolve_device
    from specpress.models.config import read_config

    if args.text is not None and not Path(args.text).is_file():
        raise ValueError(f"{args.text} is not a file: give a UTF-8 text, or leave --text out")
    folder, source = _located(args.model)
    config = read_config(folder)
    draft = draft_config = None
    if args.draft is not None:
        draft_folder, draft = _located(args.draft)
        draft_config = read_config(draft_folder).to_dict()
        _check_draft(folder, draft_folder)
    device = resolve_device(args.device)
    return write_study(
        name,
        source,
        config.to_dict(),
        draft=draft,
        draft_config=draft_config,
        **({} if args.text is None else _of_text(Path(args.text))),
        device=device.type,
        dtype=str(default_dtype(device)).removeprefix("torch."),
    )


def _check_draft(target: Path, draft: Path) -> None:
    """Refuse a draft with other tokens than the target's, where the files of both tokenizers are here."""
    from specpress.experiments.preflight import check_vocabulary

    if all((folder / "tokenizer.json").is_file() for folder in (target, draft)):
        check_vocabulary(target, draft, target_name=str(target), draft_name=str(draft))


def _of_text(text: Path) -> dict:
    """A text as `write_study` takes it: its path, and how many characters of it are to be a document.

    Raises
    ------
    ValueError
        If it cannot be read, or has too few paragraphs to be split into two halves.
    """
    from specpress.data.documents import split_documents
    from specpress.data.readers import document_size, read

    characters = document_size(text)
    documents = read("text", text, document_characters=characters)
    try:
        split_documents(documents, 0.5)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from error
    return {"text": _from_root(text), "document_characters": characters}


def _located(model: str) -> tuple[Path, dict]:
    """The folder that holds a model's config.json and its tokenizer, and the model as a study's source.

    Raises
    ------
    ValueError
        If there is no such model, or a folder lacks what a study needs.
    """
    folder = Path(model)
    if folder.is_dir():
        _check_folder(folder)
        return folder, {"kind": "path", "path": _from_root(folder)}
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model):
        raise ValueError(f"{model} is neither a folder here nor a repository of a hub (owner/name): check the path")
    from specpress.sources.hub import download_config

    try:
        folder, commit = download_config(model)
    except ValueError as error:
        raise ValueError(f"{model} is not a folder here, nor to be had from the hub: {error}") from error
    return folder, {"kind": "hub", "repo": model, "revision": commit}


def _check_folder(folder: Path) -> None:
    from specpress.models.tokenizers import check_tokenizer, has_tokens  # imports transformers

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json: give the folder of a model in Hugging Face's format")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no weights as *.safetensors; convert pickled ones where you trust them: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    check_tokenizer(folder)
    if not has_tokens(folder):
        raise ValueError(f"{folder} holds no tokenizer (tokenizer.json), which the texts are read with")


def _from_root(path: Path) -> str:
    """The path as a study names it: relative to the repository if it lies there, else from the root of the disk."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
