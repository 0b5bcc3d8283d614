"""What can be known of the code without importing it: which files a script runs on, which options a class takes.

The workflow needs both while it is parsed, when importing torch would cost seconds.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# The fields of a syntax tree's node that hold statements.
BLOCKS = frozenset({"body", "orelse", "handlers", "finalbody", "cases"})

# Tables of names, not behaviour: were they followed, registering one press would rerun every experiment. What an
# experiment uses from the registry is passed to `sources` by name.
UNTRACKED = {"specpress", "specpress.study.registry"}


def sources(entry_file: str, *extra_modules: str, root: Path = ROOT) -> list[str]:
    """The source files whose behaviour `entry_file` depends on.

    Parameters
    ----------
    entry_file : str
        A script, relative to `root`.
    *extra_modules : str
        Modules the script loads by name, such as the press of an experiment. Those outside specpress are ignored.
    root : Path
        The working tree; its package is in `src/specpress`.

    Returns
    -------
    list of str
        The script and the specpress modules it imports, at any depth, also inside functions; sorted, relative to
        `root`. Of a package only what is used counts: what its __init__ re-exports besides is not followed. A missing
        script is returned alone, for the workflow to report.
    """
    entry = root / entry_file
    waiting = [m for m in extra_modules if m.split(".")[0] == "specpress"]
    waiting += _imports(entry, "", root) if entry.exists() else []
    found = {}
    while waiting:
        name = waiting.pop()
        path = None if name in found or name in UNTRACKED else _module_file(name, root)
        if path:
            found[name] = path
            waiting += _imports(path, name, root)
    return sorted({entry_file, *(path.relative_to(root).as_posix() for path in found.values())})


def digest_of(*entry_files: str, root: Path = ROOT) -> str:
    """One SHA-256 of the files that `sources` finds of these; that of none where the library is no checkout's."""
    found = sorted({file for entry in entry_files for file in sources(entry, root=root)})
    contents = [(root / file).read_bytes() for file in found if (root / file).is_file()]
    return hashlib.sha256(b"".join(contents)).hexdigest()


@cache  # many experiments share most files
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _statements(block: ast.AST) -> Iterator[ast.AST]:
    """Every statement inside a block, nested ones too; much less than `ast.walk`, which visits every expression."""
    for field in BLOCKS.intersection(block._fields):
        for node in getattr(block, field):
            yield node
            yield from _statements(node)


@cache
def _module_file(name: str, root: Path) -> Path | None:
    """The file of a module; None when there is none. Modules outside specpress are found as Python finds them."""
    top, *rest = name.split(".")
    if top == "specpress":
        folder = root / "src" / top
    else:
        spec = find_spec(top) if top else None  # finds a top-level package without importing it
        if spec is None or not spec.submodule_search_locations:
            return None
        folder = Path(spec.submodule_search_locations[0])
    stem = folder.joinpath(*rest)
    candidates = [stem / "__init__.py", stem.with_suffix(".py") if rest else stem / "__init__.py"]
    return next((path for path in candidates if path.exists()), None)


def _base(node: ast.ImportFrom, path: Path, module: str) -> str:
    """The absolute module a `from` statement names, relative ones resolved against `module` (whose file is `path`)."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join(kept + ([node.module] if node.module else []))


@cache
def _imports(path: Path, module: str, root: Path) -> list[str]:
    """Names of the specpress modules a file imports, those behind a re-exported name included."""
    names = []
    for node in _statements(_parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, path, module)
            if base.split(".")[0] == "specpress":
                names += [_provider(base, alias.name, root) for alias in node.names]
    return [name for name in names if name.split(".")[0] == "specpress"]


def _provider(module: str, name: str, root: Path) -> str:
    """The module that `from module import name` gets its name from: a submodule, one it re-exports from, or itself."""
    path = _module_file(module, root)
    if _module_file(f"{module}.{name}", root):
        return f"{module}.{name}"
    if path is None or path.name != "__init__.py":
        return module
    lazy = _lazy_names(path)
    if name in lazy:
        return lazy[name]
    origin = _origin(path, module, name)
    return _provider(*origin, root) if origin else module


def _origin(path: Path, module: str, name: str) -> tuple[str, str] | None:
    """(module, name there) of a name that a file imports with `from`; None if it does not."""
    for node in _parse(path).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _base(node, path, module), alias.name
    return None


def _lazy_names(init: Path) -> dict[str, str]:
    """The names a package loads on first use, with their modules: its table `_PUBLIC`, if it has one."""
    for node in _parse(init).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "_PUBLIC":
            return ast.literal_eval(node.value)
    return {}


def class_parameters(target: str, root: Path = ROOT) -> dict[str, bool] | None:
    """The parameters of a class and whether each has to be given, read from its source.

    Parameters
    ----------
    target : str
        "module:Class", as in `specpress.study.registry`. Re-exports are followed.

    Returns
    -------
    dict of bool by name, or None
        The arguments of `__init__`, or the fields of a dataclass and its bases. None when they cannot be told: the
        source is not found, or `__init__` takes `**options`.
    """
    found = _parameters_of(target, root)
    return None if found is None else {name: required for name, (required, _) in found.items()}


def class_annotations(target: str, root: Path = ROOT) -> dict[str, str]:
    """The annotation of each parameter of a class as its source has it, "" where there is none; empty if unknown."""
    return {name: annotation for name, (_, annotation) in (_parameters_of(target, root) or {}).items()}


@cache
def _parameters_of(target: str, root: Path) -> dict[str, tuple[bool, str]] | None:
    module, _, name = target.partition(":")
    found = _find_class(module, name, root)
    return None if found is None else _parameters(*found, root)


def _find_class(module: str, name: str, root: Path) -> tuple[ast.ClassDef, str] | None:
    path = _module_file(module, root)
    if path is None:
        return None
    for node in _parse(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, module
    origin = _origin(path, module, name)
    return _find_class(*origin, root) if origin else None


def _parameters(node: ast.ClassDef, module: str, root: Path) -> dict[str, tuple[bool, str]] | None:
    """Whether each parameter has to be given, and its annotation."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            if arguments.kwarg:
                return None
            positional = arguments.posonlyargs + arguments.args
            defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults + arguments.kw_defaults
            every = zip(positional + arguments.kwonlyargs, defaults, strict=True)
            return {a.arg: (default is None, _annotation(a)) for a, default in every if a.arg != "self"}
    names = {}
    for base in node.bases:
        found = _find_class(module, base.id, root) if isinstance(base, ast.Name) else None
        names |= (found and _parameters(*found, root)) or {}
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and _is_field(item)]
        names |= {item.target.id: (item.value is None, _annotation(item)) for item in fields}
    return names


def _annotation(item: ast.arg | ast.AnnAssign) -> str:
    return ast.unparse(item.annotation) if item.annotation else ""


def _is_field(item: ast.AnnAssign) -> bool:
    value = ast.unparse(item.value) if item.value else ""
    return "ClassVar" not in ast.unparse(item.annotation) and "init=False" not in value
