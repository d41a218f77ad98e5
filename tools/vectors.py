#!/usr/bin/env python3
"""Write spec/vectors and the annotated file of spec/format.md anew.

    tools/vectors.py            write
    tools/vectors.py --check    say what would change, and exit with 1 if anything would

From format version 1.0 on, vectors are added and never changed. Compressed ones depend on the zstd library: the bytes
of a vector are what is committed, not what this script gives.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.spec.annotated_hex import replace_block  # noqa: E402
from tests.spec.damaged_files import damaged_files  # noqa: E402
from tests.spec.good_files import good_files  # noqa: E402
from tests.spec.hostile_files import hostile_files  # noqa: E402
from tests.spec.hostile_objects import hostile_objects  # noqa: E402
from tests.spec.vector import Vector, to_json  # noqa: E402

VECTORS = ROOT / "spec" / "vectors"
FORMAT = ROOT / "spec" / "format.md"


def wanted_files() -> dict[Path, bytes]:
    """Everything that belongs into spec/vectors, by path."""
    vectors = list(chain(good_files(), damaged_files(), hostile_files(), hostile_objects()))
    files: dict[Path, bytes] = {}
    for vector in vectors:
        for name, data in vector.files.items():
            add(files, VECTORS / vector.path / name if name else VECTORS / vector.path, data)
        if vector.records is not None:
            add(files, VECTORS / vector.records_path, to_json(vector.records).encode())
    add(files, VECTORS / "manifest.json", manifest(vectors).encode())
    return files


def add(files: dict[Path, bytes], path: Path, data: bytes) -> None:
    """Put one file in, and refuse two of one name."""
    if path in files:
        raise ValueError(f"two vectors at {path}")
    files[path] = data


def manifest(vectors: list[Vector]) -> str:
    """A JSON array, one vector a line, so that a change shows as one line."""
    return "[\n" + ",\n".join(json.dumps(vector.entry(), ensure_ascii=False) for vector in vectors) + "\n]\n"


def main() -> int:
    """Write, or compare with what is there."""
    check = sys.argv[1:] == ["--check"]
    files = wanted_files()
    text = FORMAT.read_text("utf-8")
    files[FORMAT] = replace_block(text).encode()
    there = {path for path in VECTORS.rglob("*") if path.is_file()}
    changes = sorted(path for path, data in files.items() if not path.is_file() or path.read_bytes() != data)
    extra = sorted(there - set(files))
    for word, paths in (("write", changes), ("remove", extra)):
        for path in paths:
            print(f"{word:<7}{path.relative_to(ROOT)}")
    if check:
        return 1 if changes or extra else 0
    for path in changes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[path])
    for path in extra:
        path.unlink()
    size = sum(len(data) for path, data in files.items() if path != FORMAT)
    print(f"{len(files) - 1} files, {size} bytes in {VECTORS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
