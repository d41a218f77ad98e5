"""Scripts as modules: `script.py:name`, findable under a stable name in this process and in every worker process.

A worker is spawned fresh and unpickles functions and classes by the name of their module. A script has none that could
be imported there, so a finder that knows where it lies is set up before anything is unpickled. A worker on another
machine gets its text: the file may be another one there, or none.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

from recordio.convert.pieces import Source


@dataclass(frozen=True, slots=True)
class Script:
    """One script, and the name under which it is a module."""

    name: str
    path: str
    text: bytes


class _TextLoader(SourceLoader):
    """Loads a script from its text, wherever that came from."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def get_filename(self, fullname: str) -> str:
        return self._script.path

    def get_data(self, path: str) -> bytes:
        if path != self._script.path:
            raise FileNotFoundError(path)
        return self._script.text


class _ScriptFinder(MetaPathFinder):
    """Finds scripts by the module names that were given to them."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}
        self.sent: dict[str, Script] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        script = self.sent.get(fullname)
        if script is not None:
            return spec_from_file_location(fullname, script.path, loader=_TextLoader(script))
        place = self.paths.get(fullname)
        if place is None:
            return None
        return spec_from_file_location(fullname, place, loader=SourceFileLoader(fullname, place))


_finder = _ScriptFinder()
# What this process has imported as scripts.
_imported: dict[str, Script] = {}


def make_findable(name: str, path: str) -> None:
    """Let `import name` load the script at `path`, and let the script import what lies beside it."""
    _finder.paths[name] = path
    _begin_to_find()
    directory = os.path.dirname(path)
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _begin_to_find() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)


def import_script(path: str) -> ModuleType:
    """Run a script as a module, whose name follows from its path and its text.

    Raises:
        Exception: what the script raised.
    """
    path = os.path.abspath(path)
    with open(path, "rb") as file:
        text = file.read()
    stem = re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0])
    # A worker of a cluster lives longer than a script stays as it is: another text is another module.
    tag = zlib.crc32(text, zlib.crc32(path.encode("utf-8", "surrogateescape")))
    name = f"recordio_script_{stem}_{tag:08x}"
    make_findable(name, path)
    sys.modules.pop(name, None)
    module = importlib.import_module(name)
    _imported[name] = Script(name, path, text)
    return module


def known_scripts() -> tuple[Script, ...]:
    """The scripts that this process has imported."""
    return tuple(_imported.values())


def set_up_elsewhere(scripts: tuple[Script, ...], directory: str) -> None:
    """In a worker that may be on another machine: let it find scripts, by their text.

    Args:
        directory: where whoever sent them was. What lies there, or beside a script, can be imported if the worker sees
            the same file system; after everything that is its own.
    """
    for script in scripts:
        _finder.sent[script.name] = script
    _begin_to_find()
    for place in (*(os.path.dirname(script.path) for script in scripts), directory):
        if place not in sys.path and os.path.isdir(place):
            sys.path.append(place)


def send_along(source: Source, module: ModuleType) -> None:
    """Have worker processes find the script before they unpickle the source."""
    inner = source.worker_setup
    name, path = module.__name__, str(module.__file__)

    def worker_setup() -> tuple[Callable[..., object], tuple[Any, ...]]:
        return _set_up_worker, (name, path, inner())

    source.worker_setup = worker_setup  # type: ignore[method-assign]  # this one source has more to set up


def _set_up_worker(name: str, path: str, inner: tuple[Callable[..., object], tuple[Any, ...]] | None) -> None:
    make_findable(name, path)
    if inner is not None:
        initializer, arguments = inner
        initializer(*arguments)
