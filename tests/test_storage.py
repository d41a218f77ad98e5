"""The door to files: exact reads, whole small files, and errors of the operating system untouched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import recordio
from recordio.errors import TruncatedError
from recordio.storage import LocalStorage


@pytest.fixture
def storage() -> LocalStorage:
    return LocalStorage()


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (5, 7), (10, 1), (11, 1), (0, 1 << 62), (1 << 70, 1)])
def test_reads_are_exact_or_refused(storage: LocalStorage, tmp_path: Path, offset: int, size: int) -> None:
    """A damaged size is compared with the file before anything is allocated."""
    (tmp_path / "file").write_bytes(b"0123456789")
    handle = storage.open(str(tmp_path / "file"))
    with pytest.raises(TruncatedError) as caught:
        handle.read(offset, size)
    assert caught.value.path == str(tmp_path / "file") and caught.value.offset == offset
    assert bytes(handle.read(3, 4)) == b"3456" and bytes(handle.read(10, 0)) == b""


def test_what_was_read_is_the_callers_own(storage: LocalStorage, tmp_path: Path) -> None:
    """Writable, and new each time."""
    (tmp_path / "file").write_bytes(b"0123456789")
    handle = storage.open(str(tmp_path / "file"))
    first = handle.read(0, 10)
    first[:] = bytes(10)
    assert bytes(handle.read(0, 10)) == b"0123456789"


def test_a_file_that_shrinks_while_it_is_read_is_truncated(storage: LocalStorage, tmp_path: Path) -> None:
    """Never the bytes that are there, filled up with others."""
    (tmp_path / "file").write_bytes(b"0123456789")
    handle = storage.open(str(tmp_path / "file"))
    os.truncate(tmp_path / "file", 5)
    with pytest.raises(TruncatedError, match="while it was read"):
        handle.read(2, 8)


def test_one_handle_serves_many_threads(storage: LocalStorage, tmp_path: Path) -> None:
    """Each read has its own place."""
    data = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(data)
    handle = storage.open(str(tmp_path / "file"))
    with ThreadPoolExecutor(4) as executor:
        places = [(place * 37 % 20_000, place % 500) for place in range(400)]
        found = list(executor.map(lambda place: bytes(handle.read(*place)), places))
    assert found == [data[offset : offset + size] for offset, size in places]


def test_many_buffers_are_written_in_order(storage: LocalStorage, tmp_path: Path) -> None:
    """More than one system call takes, empty ones among them, after what is kept."""
    path = str(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"kept, and this not")
    handle = storage.create(path, keep=4)
    parts = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    handle.write(parts)
    handle.write([])
    handle.sync()
    handle.close()
    handle.close()
    assert (tmp_path / "file").read_bytes() == b"kept" + b"".join(parts)


def test_a_small_file_is_replaced_as_a_whole(storage: LocalStorage, tmp_path: Path) -> None:
    """And leaves no temporary name."""
    for data in (b"first", b"second, longer", b""):
        storage.write_file(str(tmp_path / "file"), data)
        assert storage.list(str(tmp_path)) == ["file"]
        assert bytes(storage.read_file(str(tmp_path / "file"))) == data


def test_two_may_replace_a_small_file_at_once(storage: LocalStorage, tmp_path: Path) -> None:
    """It is the one or the other, whole; neither stands in the other's way."""
    data = [bytes([number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as executor:
        for _ in range(10):
            list(executor.map(lambda one: storage.write_file(str(tmp_path / "file"), one), data))
            assert (tmp_path / "file").read_bytes() in data
    assert storage.list(str(tmp_path)) == ["file"]


def test_files_are_compared_by_their_bytes(storage: LocalStorage, tmp_path: Path) -> None:
    """Sizes first, then everything, in blocks."""
    whole = bytes(3 << 20)
    for name, data in {"a": whole, "b": whole, "c": whole[:-1] + b"x", "d": whole[1:], "e": b"", "f": b""}.items():
        (tmp_path / name).write_bytes(data)
    equal = {(a, b) for a in "abcdef" for b in "abcdef" if storage.equal(str(tmp_path / a), str(tmp_path / b))}
    assert equal == {(a, a) for a in "abcdef"} | {("a", "b"), ("b", "a"), ("e", "f"), ("f", "e")}


def test_errors_of_the_operating_system_pass(storage: LocalStorage, tmp_path: Path) -> None:
    """Their own types; removing what is not there is none."""
    missing = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        storage.open(missing)
    with pytest.raises(FileNotFoundError):
        storage.rename(missing, missing + "2")
    storage.remove(missing)
    assert not storage.exists(missing) and not storage.is_directory(missing)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    """A hostile directory must not hang its reader."""
    os.mkfifo(tmp_path / "pipe.rio")
    with pytest.raises(recordio.NotRecordIOError, match="regular file"):
        recordio.open(tmp_path / "pipe.rio")


def test_a_frame_of_too_many_strings_is_refused_before_their_lengths_are_kept(tmp_path, monkeypatch):
    """An empty string takes one byte in a file, compressed to nothing, and sixteen in memory (section 10)."""
    spec = recordio.TensorSpec((None,), "bytes")
    with recordio.Writer(tmp_path / "set", spec) as writer:
        writer.write([b""] * 100)
    monkeypatch.setattr("recordio.format.layout.MAX_FRAME_ELEMENTS", 99)
    with pytest.raises(recordio.MalformedError, match="100 strings"):
        recordio.open(tmp_path / "set")[0]
    with pytest.raises(recordio.MalformedError, match="100 strings"):
        next(iter(recordio.open(tmp_path / "set")))
    with pytest.raises(recordio.RecordIOError, match="strings"):
        with recordio.Writer(tmp_path / "other", spec) as writer:
            writer.write([b""] * 100)
