"""Files as accidents leave them, and files of a version to come: refused by every reader, with the same kind of error.

damaged    checksums are not made right again
newer      checksums are right, and the file says that it needs more than this version knows
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recordio import TensorSpec
from recordio.format import layout
from recordio.format.checksum import crc
from tests.damage import vocabulary as v
from tests.spec.vector import Files, Vector, bad_file, data_set_of, lean, shard_of

NUMBER = {"n": TensorSpec((), "int32")}


def damaged_files() -> Iterator[Vector]:
    yield from _damaged_shards()
    yield from _damaged_data_sets()
    yield from _newer()


def small_shard(num_chunks: int = 1) -> bytes:
    """Two frames in each of two columns; chunks and frames are equally large."""
    spec = {"n": TensorSpec((), "int32"), "s": TensorSpec((), "str")}
    records = [{"n": np.int32(i + 1), "s": "ab"} for i in range(2 * num_chunks)]
    return v.put_together(lean(shard_of(spec, records, codec="none", chunk_size=20, frame_size=4)))


def slim_shard(num_chunks: int = 1) -> bytes:
    """Two frames of one column; chunks and frames are equally large. For structures other than directories."""
    records = [np.int32(i + 1) for i in range(2 * num_chunks)]
    return v.put_together(lean(shard_of(TensorSpec((), "int32"), records, codec="none", chunk_size=8, frame_size=4)))


def _damaged_shards() -> Iterator[Vector]:
    good, long = slim_shard(), slim_shard(2)
    assert [[p.chunk for p in v.parts(data) if p.kind == "chunk header"] for data in (good, long)] == [[0], [0, 1]]

    def bad(name: str, data: bytes, kind: str, section: str, reason: str) -> Vector:
        return bad_file("damaged", name, data, kind, section, reason)

    text_mode = "transferred as text"
    yield bad("crlf_to_lf", good.replace(b"\r\n", b"\n"), "not recordio", "2", text_mode)
    yield bad("lf_to_crlf", good.replace(b"\n", b"\r\n"), "not recordio", "2", text_mode)
    yield bad("seven_bits", bytes(byte & 0x7F for byte in good), "not recordio", "2", text_mode)
    yield bad("magic_flip", v.flip(good, 8), "not recordio", "2", "one bit of the magic")
    yield bad("foreign", b"PK\x03\x04" + good[4:], "not recordio", "2", "another format's magic")
    one = {part.kind: part for part in reversed(v.parts(good))}
    for name, size, kind in (
        ("nothing", 0, "truncated"),
        ("in_magic", 5, "truncated"),
        ("after_magic", 8, "truncated"),
        ("in_header", 63, "truncated"),
        ("in_schema", one["schema"].stop - 1, "truncated"),
        ("after_schema", one["schema"].stop, "incomplete"),
        ("before_chunks", one["chunk header"].start, "incomplete"),
        ("in_chunk", one["frame"].stop, "incomplete"),
        ("before_footer", one["footer head"].start, "incomplete"),
        ("before_trailer", one["trailer"].start, "incomplete"),
        ("in_trailer", len(good) - 1, "incomplete"),
    ):
        yield bad(f"cut_{name}", v.cut(good, size), kind, "2" if kind == "truncated" else "7", f"{size} bytes are left")
    yield bad("byte_appended", good + b"\0", "incomplete", "7", "the file does not end with a trailer")
    yield bad("twice", good + good, "checksum", "7", "the trailer at the end is valid at another offset only")
    for kind, verdict, section in (
        ("file header", "checksum", "2"),
        ("schema", "checksum", "2"),
        ("chunk header", "checksum", "4"),
        ("directory head", "checksum", "4"),
        ("column entry", "checksum", "4"),
        ("frame entry", "checksum", "4"),
        ("frame", "checksum", "5"),
        ("footer head", "checksum", "7"),
        ("chunk table", "checksum", "7"),
        ("metadata", "checksum", "7"),
        ("trailer", "checksum", "7"),
    ):
        place = one[kind]
        bit = 8 * (place.start + min(20, place.size - 1)) + 3
        name = kind.replace(" ", "_")
        yield bad(f"{name}_flip", v.flip(good, bit), verdict, section, f"bit {bit} of the file")
    yield bad("sync_flip", v.flip(good, 8 * one["chunk header"].start), "malformed", "4", "a bit of the sync word")
    yield bad("end_magic_flip", v.flip(good, 8 * len(good) - 1), "incomplete", "7", "a bit of the trailer's magic")
    for kind, verdict in (("chunk header", "malformed"), ("frame", "checksum"), ("trailer", "incomplete")):
        place = one[kind]
        zeroed = v.zero(good, place.start, place.stop)
        yield bad(
            f"{kind.replace(' ', '_')}_zeroed", zeroed, verdict, "7" if kind == "trailer" else "4", "a lost block"
        )
    frames = [v.part(good, "frame", column=0, frame=frame) for frame in (0, 1)]
    yield bad("frames_swapped", v.swap(good, *frames), "checksum", "5", "two frames of equal size")
    chunks = [v.part(long, "chunk header", chunk=chunk).start for chunk in (0, 1)]
    between = v.cut(long, chunks[1])
    yield bad("cut_between_chunks", between, "incomplete", "7", "the second of two chunks is lost, and the footer")
    size = chunks[1] - chunks[0]
    whole = [v.Part("chunk", start, start + size) for start in chunks]
    yield bad(
        "chunks_swapped", v.swap(long, *whole), "checksum", "4", "two chunks of equal size; the offset is in the CRC"
    )


def small_data_set(first: int = 0, num_shards: int = 2) -> Files:
    """Two records in each shard."""
    records = [{"n": np.int32(first + i)} for i in range(2 * num_shards)]
    made = data_set_of(NUMBER, records, num_shards=num_shards, codec="none")
    shards = [v.put_together(lean(made[name])) for name in shard_names(made)]
    return {**{v.shard_entry(shard).name: shard for shard in shards}, "index.rix": v.index_of(shards)}


def shard_names(files: Files) -> list[str]:
    """The shards among the files of a data set, in order."""
    return sorted(name for name in files if name.endswith(".rio"))


def _damaged_data_sets() -> Iterator[Vector]:
    files = small_data_set()
    first, second = shard_names(files)
    good = files["index.rix"]
    one = {part.kind: part for part in v.parts(good)}

    def bad(name: str, changes: dict[str, bytes | None], kind: str, reason: str, section: str = "8") -> Vector:
        changed = {name: data for name, data in {**files, **changes}.items() if data is not None}
        return Vector(
            path=f"damaged/{name}",
            files=changed,
            section=section,
            verdict=kind,
            reason=reason,
        )

    yield bad("no_index", {"index.rix": None}, "incomplete", "writing did not end, or the index is lost", "9")
    yield bad("index_magic", {"index.rix": files[first][:8] + good[8:]}, "not recordio", "the magic of a shard")
    for name, size in (
        ("nothing", 0),
        ("in_magic", 7),
        ("in_header", 40),
        ("in_head", one["names"].stop - 1),
        ("in_table", len(good) - 1),
    ):
        yield bad(f"index_cut_{name}", {"index.rix": v.cut(good, size)}, "truncated", f"{size} bytes are left")
    yield bad("index_grown", {"index.rix": good + b"\0"}, "malformed", "the file ends with the last table")
    for kind in ("index header", "index head", "shard entry", "schema", "metadata", "names", "chunk table"):
        bit = 8 * (one[kind].start + min(9, one[kind].size - 1)) + 1
        name = kind.replace(" ", "_")
        yield bad(f"in_{name}_flip", {"index.rix": v.flip(good, bit)}, "checksum", f"bit {bit} of the index")
    yield bad("shard_missing", {second: None}, "mismatch", "the index names a shard that is not there")
    yield bad("shard_cut", {second: files[second][:-64]}, "truncated", "the second shard has lost its trailer")
    yield bad("shard_empty", {first: b""}, "truncated", "the first shard has no byte left")
    yield bad("shard_grown", {first: files[first] + bytes(64)}, "mismatch", "the first shard has 64 bytes more")
    swapped = {first: files[second], second: files[first]}
    yield bad("shards_swapped", swapped, "mismatch", "each shard under the other's name")
    other = small_data_set(first=100)
    foreign = {first: other[shard_names(other)[0]]}
    assert len(foreign[first]) == len(files[first])
    yield bad("shard_of_another_data_set", foreign, "mismatch", "same schema and size, other records")
    newer = v.take_apart(files[first])
    frame = newer.chunks[-1][0].frames[-1]
    frame.stored = bytes(len(frame.stored))
    yield bad(
        "shard_of_another_version",
        {first: v.put_together(newer)},
        "mismatch",
        "same file id, a later chunk differs",
        "7",
    )


def _newer() -> Iterator[Vector]:
    good = slim_shard()
    for name, kind, field, value in (
        ("major", "file header", "major", 1),
        ("first_feature", "file header", "required_features", 1),
        ("last_feature", "file header", "required_features", 2**31),
        ("codec", "column entry", "codec", 2),
        ("encoding", "column entry", "encoding", 3),
    ):
        data = v.reseal(v.change(good, v.part(good, kind), field, value), good)
        yield bad_file("newer", name, data, "too new", "11", f"{field} is {value}")
    other = bytearray(good)
    other[8:10] = b"\1\0"
    other[20:60] = bytes(range(40))
    other[60:64] = crc(bytes(other[:60])).to_bytes(4, "little")
    data = bytes(other[:64]) + b"of a layout that nobody knows yet"
    assert data[:8] == layout.FILE_MAGIC
    yield bad_file(
        "newer", "other_layout", data, "too new", "11", "known by magic, bytes 8 to 20 and the CRC at 60 alone"
    )
