"""The layers of design.md section 7: imports point down only, and each layer has only the effects it may have.

Modules are parsed, not imported, so that an import inside a function, or under TYPE_CHECKING, counts too.
"""

from __future__ import annotations

import ast
import graphlib
import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recordio"

# From low to high. A module may import modules of lower lines and of its own line, never of a higher one. A name with a
# dot at its end is a package and stands for everything in it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("format.",),
    ("spec", "structure", "schema"),
    ("columns",),
    ("buffers",),
    ("metering",),
    ("values.",),
    ("chunks.",),
    ("plan.",),
    ("storage", "lock", "process_local", "progress"),
    ("open_files",),
    # Higher in design.md's drawing, but it needs nothing of what is below: readers and writers may run on a pool.
    ("execute.",),
    ("rows", "indices", "arguments"),
    ("shards.",),
    ("job", "job_paths", "job_requests"),
    ("stream", "indexing"),
    ("opening", "reader_cache"),
    ("random_access",),
    ("writer", "reader"),
    ("memory", "zipped"),
    ("loading.", "refusals", "adapted"),
    ("dataset", "batches", "doors"),
    ("checks.",),
    ("distributed.", "convert."),
    ("adapters.",),
    ("",),      # the package itself: what users import, and the command line is one of them
    ("cli.",),
    ("__main__",),
)

# Layers that know less than their height would allow: all that they may import of recordio, themselves apart.
KNOWS_ONLY: dict[str, tuple[str, ...]] = {
    "errors": (),
    "format.": ("errors",),
    "plan.": ("errors",),       # order is arithmetic on values
    "storage": ("errors",),     # bytes of files, whatever they mean
    "process_local": (),
    "execute.": ("errors",),    # pools do not know what they run
}

# Bytes <-> values and order need no clock, no thread, no file and no chance; numpy starts at schema.py.
PURE = ("format.", "plan.")
EFFECTS = {
    "asyncio", "concurrent", "datetime", "glob", "io", "logging", "multiprocessing", "os", "pathlib", "pickle", "queue",
    "random", "secrets", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "uuid",
}
# A zstd context per thread (design.md, section 5) is memory, and starts nothing.
HARMLESS = {"threading": {"local"}}

FRAMEWORKS = {
    "keras", "tensorflow", "torch", "torchdata", "lightning", "jax", "grain", "datasets", "dask", "distributed", "ray",
    "sklearn",
}
COMMAND_LINE = {"click", "rich"}
# Packages that only some users have: never imported when a module is, whatever the layer.
OPTIONAL = FRAMEWORKS | {"pyarrow", "PIL", "obstore", "fsspec", "ml_dtypes", "pandas"}
# Above the core, a source or an adapter may import what it serves, where it is used.
ABOVE_CORE = ("distributed.", "convert.", "adapters.", "", "cli.", "__main__")


@dataclass(frozen=True, slots=True)
class Import:
    """One name imported by one module."""

    module: str     # the importing module, relative to recordio: "format.chunk", "" for the package itself
    line: int
    name: str       # absolute dotted name: "recordio.errors", "numpy"
    at_import: bool     # runs when the module is imported, not when a function is called

    def __str__(self) -> str:
        return f"recordio/{self.module.replace('.', '/')}:{self.line} imports {self.name}"


def module_name(path: Path) -> str:
    """Dotted name below recordio: "format.chunk"; a package's __init__ has the name of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_package(module: str) -> bool:
    """Whether the name below recordio is that of a package."""
    return (PACKAGE / Path(*module.split(".")) / "__init__.py").is_file()


MODULES: dict[str, Path] = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES: dict[str, ast.Module] = {name: ast.parse(path.read_text("utf-8"), str(path)) for name, path in MODULES.items()}


def _nodes(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below `tree`, with whether it runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        yield node, at_import
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            inside = False
        yield from _nodes(node, inside)


def imports_of(module: str) -> Iterator[Import]:
    """All imports of a module; `from recordio.format import chunk` names recordio.format.chunk."""
    for node, at_import in _nodes(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if is_package(module) else module.rpartition(".")[0]
                parents = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
                base = ".".join(["recordio", *parents, *([node.module] if node.module else [])])
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix("recordio.")
                name = f"recordio.{below}" if base.split(".")[0] == "recordio" and below in MODULES else base
                yield Import(module, node.lineno, name, at_import)


IMPORTS: tuple[Import, ...] = tuple(found for module in MODULES for found in imports_of(module))


def covers(entry: str, module: str) -> bool:
    """Whether a line of LAYERS names this module."""
    return module == entry or (entry.endswith(".") and f"{module}.".startswith(entry))


def layer_of(module: str) -> int:
    """The height of a module."""
    lines = (height for height, line in enumerate(LAYERS) if any(covers(entry, module) for entry in line))
    return next(lines, len(LAYERS))     # a module without a place is reported by a test of its own


def inner_imports() -> Iterator[tuple[Import, str]]:
    """Imports within recordio, with the name of the imported module below recordio."""
    for found in IMPORTS:
        if found.name.split(".")[0] == "recordio":
            yield found, found.name.removeprefix("recordio").removeprefix(".")


def outer_imports(names: set[str]) -> Iterator[Import]:
    """Imports of any of these top-level packages."""
    return (found for found in IMPORTS if found.name.split(".")[0] in names)


def uses_only_harmless(found: Import) -> bool:
    """Whether all that the importing module takes from the imported one is in HARMLESS."""
    taken = set()
    for node in ast.walk(TREES[found.module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == found.name:
            taken.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == found.name:
            taken.update(alias.name for alias in node.names)
    return taken <= HARMLESS.get(found.name, set())


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_every_module_has_a_place_among_the_layers(module):
    """A new module is put into LAYERS, and into design.md where it is a new idea."""
    assert any(covers(entry, module) for line in LAYERS for entry in line), f"recordio.{module} stands in no layer"


def test_imports_point_down():
    """No module imports one of a higher layer."""
    assert [str(found) for found, target in inner_imports() if layer_of(target) > layer_of(found.module)] == []


def test_modules_do_not_import_each_other_in_a_circle():
    """Within a layer too, there is an order in which the modules can be read."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES if name}
    for found, target in inner_imports():
        # A package's own __init__ may gather what its modules define.
        if found.module in graph and target in graph and found.module != target and not is_package(found.module):
            graph[found.module].add(target)
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("entry", KNOWS_ONLY)
def test_layer_knows_no_more_than_it_needs(entry):
    """Bytes, order, files and pools know nothing of data sets, whatever stands below them."""
    allowed = (*KNOWS_ONLY[entry], entry)
    strangers = [
        str(found)
        for found, target in inner_imports()
        if covers(entry, found.module) and not any(covers(name, target) for name in allowed)
    ]
    assert strangers == []


@pytest.mark.parametrize("entry", PURE)
def test_bytes_and_order_have_no_effects(entry):
    """format/ and plan/ open no file, start no thread, read no clock and roll no dice."""
    found = [one for one in outer_imports(EFFECTS) if covers(entry, one.module) and not uses_only_harmless(one)]
    assert [str(one) for one in found] == []
    for module, tree in TREES.items():
        if covers(entry, module):
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
            assert [call.lineno for call in calls if call.func.id in {"open", "print", "input"}] == [], module


def test_storage_is_the_only_door_to_files():
    """Below convert/, files are opened, listed, renamed and removed in storage.py alone: tests count and fail it there.

    A lock is no stored file: the operating system owns it, on this machine only.
    """
    names = "open pread rename replace remove unlink fsync mkdir makedirs rmdir listdir scandir"
    doors = {"open", *(f"os.{name}" for name in names.split())}
    found = []
    for module, tree in TREES.items():
        if module in {"storage", "lock"} or layer_of(module) >= layer_of("convert."):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in doors:
                found.append(f"recordio/{module.replace('.', '/')}:{node.lineno}")
    assert found == []


def test_format_needs_no_numpy():
    """The bytes can be read by whoever has msgpack, zstd and CRC-32C: numpy starts at the schema."""
    assert [str(found) for found in outer_imports({"numpy"}) if covers("format.", found.module)] == []


def test_core_knows_no_framework_and_no_terminal():
    """Below convert/ there is no framework, no click, no rich and no pyarrow, not even inside a function."""
    names = FRAMEWORKS | COMMAND_LINE | {"pyarrow", "PIL"}
    found = [found for found in outer_imports(names) if not any(covers(entry, found.module) for entry in ABOVE_CORE)]
    assert [str(one) for one in found] == []


def test_optional_packages_are_imported_where_they_are_used():
    """Importing a module of recordio never needs a package that only some users have; adapters need their framework."""
    found = [one for one in outer_imports(OPTIONAL) if one.at_import and not covers("adapters.", one.module)]
    assert [str(one) for one in found] == []


def test_only_the_command_line_uses_click_and_rich():
    """Progress and tables belong to cli/; everything else calls back or returns values."""
    assert [str(one) for one in outer_imports(COMMAND_LINE) if not covers("cli.", one.module)] == []


def test_nothing_is_unpickled_from_files():
    """Only pools, between our own processes, may unpickle: hostile bytes must not run (spec/format.md, section 10)."""
    found = outer_imports({"pickle", "marshal", "shelve", "dill", "cloudpickle"})
    assert [str(one) for one in found if not any(covers(entry, one.module) for entry in ("execute.", "convert."))] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_owns(module):
    """A module opens with a docstring (style.md, section 2)."""
    docstring = ast.get_docstring(TREES[module])
    assert docstring, f"recordio.{module} has no docstring"


def test_reference_reader_stands_alone():
    """spec/reference_reader.py is a second reader: it imports nothing from recordio and stays under 250 lines."""
    path = ROOT / "spec" / "reference_reader.py"
    text = path.read_text("utf-8")
    names = [
        alias.name if isinstance(node, ast.Import) else node.module or "."
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert [name for name in names if name.split(".")[0] in {"recordio", ""}] == []
    assert len(text.splitlines()) < 250


def test_top_level_of_the_repository_holds_only_what_it_should():
    """Besides dot-files: pyproject.toml, README.md, recordio/, tools/, tests/ and spec/, nothing."""
    allowed = {"pyproject.toml", "README.md", "recordio", "tools", "tests", "spec"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= allowed


def test_the_package_says_that_it_is_typed():
    """py.typed goes with it: without that, type checkers ignore every annotation (PEP 561)."""
    assert importlib.resources.files("recordio").joinpath("py.typed").is_file()
