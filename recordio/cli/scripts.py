"""Scripts as modules: `script.py:name`, findable under a stable name in this process and in every worker process.

A worker is spawned fresh and unpickles functions and classes by the name of their module. A script has none that could
be imported there, so a finder that knows where it lies is set up before anything is unpickled.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

from recordio.convert.pieces import Source


class _ScriptFinder(MetaPathFinder):
    """Finds scripts by the module names that were given to them."""

    def __init__(self) -> None:
        self.paths: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self.paths.get(fullname)
        if place is None:
            return None
        return spec_from_file_location(fullname, place, loader=SourceFileLoader(fullname, place))


_finder = _ScriptFinder()


def make_findable(name: str, path: str) -> None:
    """Let `import name` load the script at `path`, and let the script import what lies beside it."""
    _finder.paths[name] = path
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    directory = os.path.dirname(path)
    if directory not in sys.path:
        sys.path.insert(0, directory)


def import_script(path: str) -> ModuleType:
    """Run a script as a module, whose name follows from its path.

    Raises:
        Exception: what the script raised.
    """
    path = os.path.abspath(path)
    stem = re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0])
    name = f"recordio_script_{stem}_{zlib.crc32(path.encode('utf-8', 'surrogateescape')):08x}"
    make_findable(name, path)
    sys.modules.pop(name, None)
    return importlib.import_module(name)


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
