"""What can stand for SRC in `recordio convert SRC OUT`: the one place where kinds of source are added.

    data.npy, data.npz           rows along the first axis
    data/train, shard.rio        a recordio data set, to write it anew
    script.py:name               a generator function, PyDataset (class or instance), or any source, in a script
    package.module:name          the same, in a module

A kind says which texts are its own and makes a `Source` of them. Kinds are asked in order.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from recordio.cli.suggestions import near_name, near_path
from recordio.convert.pieces import SOURCE_NOTE, Source
from recordio.convert.pydataset import is_pydataset
from recordio.convert.sources import as_source
from recordio.errors import SourceError
from recordio.format.index import INDEX_NAME


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of SRC."""

    form: str  # how it is written, for help and errors
    what: str
    is_mine: Callable[[str], bool]
    open: Callable[[str, Any], Source]  # text, signature or None -> source


@dataclass(frozen=True, slots=True)
class OpenedSource:
    source: Source
    description: str  # "generator function records in train.py"


def open_source(text: str, signature: Any = None) -> OpenedSource:
    """Find out what SRC is, and open it.

    Raises:
        click.UsageError: it is nothing that can be converted; says what was probably meant.
        FileNotFoundError: it names a file that is not there.
        Exception: what the user's script or module raised.
    """
    for kind in KINDS:
        if kind.is_mine(text):
            source = kind.open(text, signature)
            return OpenedSource(source, _describe(source, kind, text))
    forms = "\n".join(f"{kind.form:<22} {kind.what}" for kind in KINDS)
    if not os.path.exists(text):
        near = near_path(text)
        meant = f"Did you mean {near}?\n" if near else ""
        raise click.UsageError(f"there is no file {text!r}, nor is it a name\n{meant}SRC is one of:\n{forms}")
    raise click.UsageError(f"{text!r} is no kind of source that is known\nSRC is one of:\n{forms}")


def _open_arrays(path: str, signature: Any) -> Source:
    from recordio.cli.array_files import ArrayFile

    return as_source(ArrayFile(path), signature)


def _open_dataset(path: str, signature: Any) -> Source:
    from recordio.doors import open_dataset

    return as_source(open_dataset(path), signature)


def _open_script(text: str, signature: Any) -> Source:
    from recordio.cli.scripts import import_script, send_along

    path, colon, name = text.rpartition(":")
    if not colon:
        path, name = text, ""
    if not os.path.isfile(path):
        raise FileNotFoundError(2, os.strerror(2), path)
    module = _imported(lambda: import_script(path), path)
    source = _as_source(_attribute(module, name, path), text, signature)
    send_along(source, module)
    return source


def _open_module(text: str, signature: Any) -> Source:
    module_name, _, name = text.partition(":")
    # As `python -m` does; the script `recordio` has its own directory there instead.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = _imported(lambda: importlib.import_module(module_name), module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        near = near_name(error.name, _modules_beside(error.name))
        rest = module_name.removeprefix(error.name)
        importable = "It must be importable from here, or write script.py:name"
        hint = f"Did you mean {near}{rest}:{name}?" if near else importable
        raise click.UsageError(f"there is no module {error.name!r}\n{hint}") from None
    return _as_source(_attribute(module, name, module_name), text, signature)


def _modules_beside(name: str) -> list[str]:
    """Names of the modules that are where this one should be."""
    package = name.rpartition(".")[0]
    places = getattr(sys.modules.get(package), "__path__", []) if package else sys.path
    prefix = f"{package}." if package else ""
    return [module.name for module in pkgutil.iter_modules([*places], prefix)]


def _imported(load: Callable[[], Any], what: str) -> Any:
    try:
        return load()
    except Exception as error:
        error.add_note(f"{SOURCE_NOTE} while {what} was imported")
        raise
    except SystemExit as error:
        raise click.UsageError(f"{what} ended itself (exit status {error.code}) while it was imported") from None


def _attribute(module: Any, name: str, where: str) -> Any:
    """The object that a dotted name means, with a suggestion where there is none."""
    own = _candidates(module)
    if not name:
        hint = f"It has {', '.join(f'{where}:{one}' for one in own)}" if own else "It defines no generator function"
        raise click.UsageError(f"{where!r} does not say which of its names to convert\n{hint}")
    found = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = near_name(part, [*own, *(one for one in vars(found) if not one.startswith("_"))])
            hint = f"Did you mean {where}:{near}?" if near else f"It has {', '.join(own) or 'nothing to convert'}"
            raise click.UsageError(f"there is no {name!r} in {where}\n{hint}") from None
    return found


def _candidates(module: Any) -> list[str]:
    """Names in a module that look like sources."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, Source)
            or (inspect.isgeneratorfunction(value) and value.__module__ == module.__name__)
            or (is_pydataset(value) and getattr(value, "__module__", None) == module.__name__)
        )
    ]


def _as_source(found: Any, text: str, signature: Any) -> Source:
    if inspect.isclass(found) and is_pydataset(found):
        missing = _required_parameters(found)
        if missing:
            raise click.UsageError(
                f"the class {text} needs arguments: {', '.join(missing)}\n"
                f"Make an instance in the script, and name that: train = {found.__name__}(...)"
            )
        try:
            found = found()
        except Exception as error:
            error.add_note(f"{SOURCE_NOTE} while {text} was made")
            raise
    if inspect.ismodule(found):
        raise click.UsageError(f"{text} is a module, not a source\nName what is in it: {text}.name")
    try:
        return as_source(found, signature)
    except SourceError as error:
        lines = (f"{text}: {error.message}", error.advice)
        raise click.UsageError("\n".join(filter(None, lines))) from None


def _required_parameters(kind: type) -> list[str]:
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in optional]


def _describe(source: Source, kind: SourceKind, text: str) -> str:
    names = {
        "GeneratorSource": "generator function", "IterableSource": "iterable", "SequenceSource": "sequence",
        "PyDatasetSource": "PyDataset", "DatasetSource": kind.what,
    }  # fmt: skip
    return f"{names.get(type(source).__name__, type(source).__name__)} {text}"


def _is_dataset(text: str) -> bool:
    return text.endswith((".rio", ".rix")) or os.path.exists(os.path.join(text, INDEX_NAME))


def _is_script(text: str) -> bool:
    return text.endswith(".py") or ".py:" in text


def _is_module(text: str) -> bool:
    return ":" in text and all(part.isidentifier() for part in text.partition(":")[0].split("."))


KINDS: tuple[SourceKind, ...] = (
    SourceKind("data.npy", "array file", lambda text: text.endswith(".npy"), _open_arrays),
    SourceKind("data.npz", "file of several arrays", lambda text: text.endswith(".npz"), _open_arrays),
    SourceKind("data/train", "recordio data set", _is_dataset, _open_dataset),
    SourceKind("script.py:name", "generator function or PyDataset in a script", _is_script, _open_script),
    SourceKind("package.module:name", "the same in a module", _is_module, _open_module),
)
