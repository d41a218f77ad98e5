"""(c) The sources of Python's standard library as text records.

    recordio convert tools/demo_parts/stdlib.py:sources OUT

Run as a script with the data set's directory, it compares every record with its file.
"""

from __future__ import annotations

import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Not the library's own code: installed packages, and test data that is no valid source on purpose.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}


def source_files() -> Iterator[tuple[str, Path]]:
    """Names relative to the library and their files, sorted, so that two conversions give the same bytes."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        relative = file.relative_to(library)
        if LEFT_OUT.isdisjoint(relative.parts):
            yield relative.as_posix(), file


def read_text(file: Path) -> str:
    """A source file as text, in the encoding that it declares."""
    with tokenize.open(file) as opened:
        return opened.read()


def sources() -> Iterator[dict[str, str]]:
    """One record per source file."""
    for name, file in source_files():
        yield {"path": name, "text": read_text(file)}


def main(path: str) -> None:
    """Compare a converted data set with the files."""
    from claims import check

    import recordio

    dataset = recordio.open(path)
    files = list(source_files())
    check(len(dataset) == len(files), f"{len(files)} source files became {len(dataset)} records")
    same = (
        record["path"] == name and record["text"] == read_text(file)
        for record, (name, file) in zip(dataset, files, strict=True)
    )
    check(all(same), "every text reads back as it stands in its file")


if __name__ == "__main__":
    main(sys.argv[1])
