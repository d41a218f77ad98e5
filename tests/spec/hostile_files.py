"""Files by somebody who made every checksum right: only the rules of the format can tell, and every reader must.

Structures here: fields, directories, compressed frames, the contents of frames. msgpack objects, schemas and indexes
are in `hostile_objects`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import zstandard

from recordio import TensorSpec
from tests.damage import vocabulary as v
from tests.spec.damaged_files import NUMBER, slim_shard, small_shard
from tests.spec.vector import Vector, bad_file, lean, shard_of


def hostile_files() -> Iterator[Vector]:
    yield from _hostile_fields()
    yield from _hostile_directories()
    yield from _hostile_zstd()
    yield from _hostile_contents()
    yield from _hostile_narrow()
    yield from _hostile_dictionaries()


def _hostile_fields() -> Iterator[Vector]:
    good = slim_shard()
    n, long = len(good), slim_shard(2)

    def bad(
        name: str,
        edits: list[tuple[str, str, Any]],
        kind: str,
        section: str,
        reason: str,
        seals: tuple[str, ...] | None = None,
    ) -> Vector:
        data = good
        for where, field, value in edits:
            if where == "table":
                data = v.change_table(data, v.part(good, "chunk table"), 0, field, value)
            else:
                data = v.change(data, v.part(good, where), field, value)
        return bad_file("hostile", name, v.reseal(data, good, seals), kind, section, reason)

    header, chunk, footer, trailer = "file header", "chunk header", "footer head", "trailer"
    table = v.part(good, "chunk table")
    stored, raw, rows, directory = (
        struct.unpack_from(code, good, table.start + at)[0]
        for code, at in (("<Q", 0), ("<Q", 8), ("<I", 16), ("<I", 20))
    )
    without_schema = tuple(seal for seal in v.SHARD_SEALS if seal != "schema")
    yield bad(
        "schema_beyond_file",
        [(header, "schema_size", n)],
        "truncated",
        "2",
        "schema_size is that of the file",
        without_schema,
    )
    yield bad(
        "schema_too_large", [(header, "schema_size", 2**24 + 1)], "malformed", "10", "limit: 16 MiB", without_schema
    )
    yield bad("footer_of_other_ordinal", [(header, "shard_id", 1)], "mismatch", "7", "header: shard 1, footer: shard 0")
    yield bad("trailer_of_other_file", [(trailer, "file_id", b"x" * 16)], "mismatch", "7", "file id of the trailer")
    place = v.part(good, footer).start
    yield bad("footer_offset_beyond", [(trailer, "footer_offset", 2**63)], "malformed", "7", "footer_offset")
    yield bad("footer_offset_odd", [(trailer, "footer_offset", place + 1)], "malformed", "7", "not a multiple of 64")
    yield bad("footer_size_beyond", [(trailer, "footer_size", 2**64 - 64)], "malformed", "7", "footer_size")
    yield bad(
        "trailer_counts_other", [(trailer, "num_records", 9)], "malformed", "7", "num_records: trailer 9, footer 2"
    )
    yield bad("unknown_flag", [(footer, "flags", 2)], "malformed", "7", "bit 1 of the flags")
    yield bad("num_chunks_lie", [(footer, "num_chunks", 2)], "malformed", "7", "two chunks in a table of one")
    yield bad("num_chunks_huge", [(footer, "num_chunks", 2**32 - 1)], "malformed", "7", "a table of 120 GB")
    yield bad("metadata_size_lie", [(footer, "metadata_size", 0)], "malformed", "7", "the footer has more bytes")
    yield bad(
        "records_do_not_sum", [(footer, "num_records", 9), (trailer, "num_records", 9)], "malformed", "7", "9 for 2"
    )
    yield bad("raw_sizes_do_not_sum", [(footer, "raw_size", 1)], "malformed", "7", "raw_size of the footer")
    yield bad("table_beyond_file", [("table", "stored_size", 2**62)], "malformed", "7", "a chunk of 4 EiB")
    wrapped = v.reseal(v.change_table(long, v.part(long, "chunk table"), 0, "stored_size", 2**64 - 64), long)
    yield bad_file(
        "hostile", "table_wraps_around", wrapped, "malformed", "7", "the first of two chunks has -64 bytes, if signed"
    )
    yield bad("table_odd", [("table", "stored_size", stored + 1)], "malformed", "4", "no multiple of 64")
    yield bad("table_stops_early", [("table", "stored_size", stored - 64)], "malformed", "7", "a gap before the footer")
    yield bad(
        "table_empty_chunk",
        [("table", "num_records", 0), (footer, "num_records", 2 - rows), (trailer, "num_records", 2 - rows)],
        "malformed",
        "4",
        "a chunk without records",
    )
    yield bad(
        "table_raw_size",
        [("table", "raw_size", raw + 1), (footer, "raw_size", raw + 1)],
        "mismatch",
        "7",
        "the directory has another raw_size",
    )
    yield bad(
        "table_directory_size", [("table", "directory_size", directory - 16)], "mismatch", "7", "the header has another"
    )
    not_table = tuple(seal for seal in v.SHARD_SEALS if seal != "table")
    yield bad(
        "table_header_crc",
        [(chunk, "reserved", 1)],
        "mismatch",
        "7",
        "a valid header, but not the one of the table",
        not_table,
    )
    yield bad(
        "wrong_digest",
        [(footer, "digest", bytes(32))],
        "checksum",
        "7",
        "the digest of the footer",
        ("footer", "trailer"),
    )
    yield bad("chunk_of_other_file", [(chunk, "file_id", b"x" * 16)], "mismatch", "4", "file id of the chunk")
    yield bad("chunk_of_other_ordinal", [(chunk, "chunk_id", 1)], "mismatch", "4", "chunk 1 at the place of chunk 0")
    yield bad("chunk_of_other_record", [(chunk, "first_record", 1)], "mismatch", "4", "first_record of the first chunk")
    yield bad("chunk_without_records", [(chunk, "num_records", 0)], "malformed", "4", "num_records is at least 1")
    yield bad("chunk_too_many_records", [(chunk, "num_records", 2**24 + 1)], "malformed", "10", "limit: 2**24")
    yield bad("chunk_odd_size", [(chunk, "stored_size", stored + 1)], "malformed", "4", "no multiple of 64")
    yield bad("chunk_other_size", [(chunk, "stored_size", stored + 64)], "mismatch", "7", "the table has another")
    yield bad("directory_too_large", [(chunk, "directory_size", 2**28 + 1)], "malformed", "10", "limit: 256 MiB")
    chunk_of_other = v.reseal(
        v.change(good, v.part(good, header), "file_id", b"y" * 16), good, ("digest", "footer", "file header")
    )
    chunk_of_other = v.reseal(v.change(chunk_of_other, v.part(good, trailer), "file_id", b"y" * 16), good, ("trailer",))
    yield bad_file(
        "hostile",
        "chunks_of_another_file",
        chunk_of_other,
        "mismatch",
        "4",
        "all is valid, but the chunks carry another id",
    )
    other = v.put_together(replace(v.take_apart(good), shard_id=1, file_id=b"z" * 16))
    transplant = good[:place] + other[place:]
    yield bad_file(
        "hostile",
        "footer_of_another_shard",
        transplant,
        "mismatch",
        "7",
        "footer and trailer of shard 1 behind shard 0",
    )


def _hostile_directories() -> Iterator[Vector]:
    good = small_shard()
    stored = {column: v.get(good, v.part(good, "column entry", column=column), "stored_size") for column in (0, 1)}

    def bad(
        name: str, where: dict[str, int], edits: dict[str, Any], kind: str, reason: str, section: str = "5"
    ) -> Vector:
        data = good
        structure = ("directory head", "column entry", "frame entry")[len(where)]
        for field, value in edits.items():
            data = v.change(data, v.part(good, structure, chunk=0, **where), field, value)
        return bad_file("hostile", name, v.reseal(data, good), kind, section, reason)

    raw_size = v.get(good, v.part(good, "directory head"), "raw_size")
    offset = v.get(good, v.part(good, "column entry", column=1), "offset")
    first, text, frame = {"column": 0}, {"column": 1}, {"column": 0, "frame": 0}
    yield bad("too_few_columns", {}, {"num_columns": 1}, "malformed", "1 column where the schema has 2")
    yield bad(
        "too_many_frames", {}, {"num_frames": 2**32 - 1}, "malformed", "more frames than the directory has place for"
    )
    yield bad("directory_raw_size", {}, {"raw_size": raw_size + 1}, "malformed", "not the sum over the columns")
    yield bad("unknown_length_width", text, {"length_width": 3}, "malformed", "1, 2, 4 or 8", "6")
    yield bad("no_length_width", text, {"length_width": 0}, "malformed", "0 in a variable column", "6")
    yield bad("length_width_of_fixed", first, {"length_width": 4}, "malformed", "4 in a fixed column", "6")
    yield bad(
        "column_offset_odd", first, {"offset": 65}, "malformed", "not at the place that follows from what is before"
    )
    yield bad("columns_overlap", text, {"offset": offset - 64}, "malformed", "column 1 on top of column 0")
    yield bad("column_beyond_file", text, {"offset": 2**63}, "malformed", "an offset beyond the file")
    yield bad("column_stored_size", first, {"stored_size": stored[0] + 1}, "malformed", "not the sum over the frames")
    yield bad("column_raw_size", text, {"raw_size": 2**64 - 1}, "malformed", "not the sum over the frames")
    yield bad("column_frames_lie", first, {"num_frames": 1}, "malformed", "a frame that belongs to no column")
    yield bad("frame_without_records", frame, {"num_records": 0}, "malformed", "a frame has at least one record")
    yield bad(
        "frame_records_lie", frame, {"num_records": 4}, "malformed", "the records of the frames do not sum to the chunk"
    )
    yield bad("frame_too_large", frame, {"raw_size": 2**30 + 1}, "malformed", "limit: 1 GiB", "10")
    yield bad("frame_stored_size", frame, {"stored_size": 2**32 - 1}, "malformed", "raw: stored_size is raw_size")
    shard = v.take_apart(good)
    shard.chunks[0][0].frames[0].num_records -= 1
    shard.chunks[0][0].frames[1].num_records += 1
    yield bad_file(
        "hostile",
        "row_size_lie",
        v.put_together(shard),
        "malformed",
        "5",
        "rows of a fixed column: raw_size is not n * 4",
    )


def _zstd_frame(
    content: bytes, *, size: int | None = None, flags: int = 0, extra: bytes = b"", window: bytes = b""
) -> bytes:
    """One raw block; content size of 8 bytes; a single segment if there is no window."""
    descriptor = 0xC0 | flags | (0 if window else 0x20)
    header = bytes([descriptor]) + window + extra + (len(content) if size is None else size).to_bytes(8, "little")
    return b"\x28\xb5\x2f\xfd" + header + (1 | len(content) << 3).to_bytes(3, "little") + content


def _hostile_zstd() -> Iterator[Vector]:
    raw = b"\1\0\0\0" * 16
    good = shard_of(NUMBER, [{"n": np.int32(1)}] * 16, codec="none")

    def bad(name: str, stored: bytes, reason: str, section: str = "5") -> Vector:
        shard = lean(good)
        shard.chunks = [[v.ColumnParts(1, 0, [v.FrameParts(16, len(raw), stored)])]]
        return bad_file("hostile", f"zstd_{name}", v.put_together(shard), "malformed", section, reason)

    whole = zstandard.ZstdCompressor().compress(raw)
    block = (1 | 1 << 1 | 2**17 << 3).to_bytes(3, "little") + b"\0"  # 128 KiB of zeros in four bytes
    bomb = b"\x28\xb5\x2f\xfd\xe0" + (64).to_bytes(8, "little") + (block[0] & 0xFE).to_bytes() + block[1:] + block
    yield bad("trailing_byte", whole + b"\0", "a byte after the frame")
    yield bad("two_frames", whole + whole, "a second frame")
    yield bad("skippable_after", whole + b"\x50\x2a\x4d\x18\0\0\0\0", "a skippable frame after it")
    yield bad("skippable_before", b"\x50\x2a\x4d\x18\0\0\0\0" + whole, "a skippable frame before it")
    yield bad("cut", whole[:-1], "the last byte is missing")
    yield bad("no_magic", b"\x27" + whole[1:], "a legacy magic")
    yield bad("raw", raw, "not compressed at all")
    yield bad("empty", b"", "no byte at all")
    yield bad(
        "no_content_size", zstandard.ZstdCompressor(write_content_size=False).compress(raw), "no content size is stated"
    )
    yield bad("content_size_smaller", _zstd_frame(raw, size=60), "states 60 bytes, holds 64")
    yield bad("content_size_huge", _zstd_frame(raw, size=2**62), "states 4 EiB")
    yield bad("holds_less", _zstd_frame(raw[:60], size=64), "states 64 bytes, holds 60")
    yield bad("holds_more", _zstd_frame(raw + raw, size=64), "states 64 bytes, holds 128")
    yield bad("bomb", bomb, "states 64 bytes, holds 256 KiB in 8 bytes of blocks")
    yield bad("dictionary", _zstd_frame(raw, flags=1, extra=b"\x05"), "names dictionary 5")
    yield bad("dictionary_zero", _zstd_frame(raw, flags=1, extra=b"\0"), "has the field of a dictionary id, which is 0")
    yield bad("reserved_bit", _zstd_frame(raw, flags=8), "a reserved bit of the descriptor")
    yield bad("window", _zstd_frame(raw, window=b"\x51"), "asks for a window of 1.125 MiB")
    yield bad("window_huge", _zstd_frame(raw, window=b"\xa8"), "asks for a window of 2 GiB")
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    yield bad("checksum", v.flip(checked, 8 * len(checked) - 1), "its own content checksum is wrong")
    yield bad("block_type", v.put(_zstd_frame(raw), 13, bytes([1 | 3 << 1])), "a block of the reserved type")
    yield bad(
        "block_beyond",
        v.put(_zstd_frame(raw), 13, (1 | 65 << 3).to_bytes(3, "little")),
        "a block longer than the frame",
    )
    noise = bytes(range(200))
    yield bad("stored_too_large", _zstd_frame(noise), "stored_size above the bound for 64 raw bytes", "10")
    empty = v.take_apart(shard_of(TensorSpec((0,), "int8"), [np.zeros(0, np.int8)], codec="none"))
    empty.chunks = [[v.ColumnParts(1, 0, [v.FrameParts(1, 0, zstandard.ZstdCompressor().compress(b""))])]]
    data = v.put_together(empty)
    yield bad_file("hostile", "zstd_of_nothing", data, "malformed", "5", "raw_size of a zstd frame is at least 1")


def _hostile_contents() -> Iterator[Vector]:
    def bad(name: str, spec: TensorSpec, rows: int, raw: bytes, reason: str, width: int = 1) -> Vector:
        shard = lean(shard_of(spec, []))
        shard.chunks = [[v.ColumnParts(0, width, [v.FrameParts(rows, len(raw), raw)])]]
        return bad_file("hostile", name, v.put_together(shard), "malformed", "6", reason)

    text, ragged, any_rank = TensorSpec((), "str"), TensorSpec((None,), "int16"), TensorSpec(None, "int16")
    maybe = TensorSpec((None,), "int16", optional=True)
    yield bad("bool_of_2", TensorSpec((), "bool"), 3, b"\0\1\2", "a bool is 0 or 1", 0)
    yield bad("bool_of_2_ragged", TensorSpec((None,), "bool"), 1, b"\2\1\2", "a bool is 0 or 1")
    yield bad("bool_of_2_optional", TensorSpec((), "bool", optional=True), 2, b"\1\1\1\2", "a bool is 0 or 1", 0)
    yield bad("validity_of_2", TensorSpec((), "int8", optional=True), 2, b"\1\2\0\0", "validity is 0 or 1", 0)
    yield bad("validity_of_2_ragged", maybe, 2, b"\1\2\0\0", "validity is 0 or 1")
    yield bad("none_with_dimension", maybe, 1, b"\0\1\0\0", "a row that is None has dimensions 0")
    yield bad(
        "none_with_empty_dims", TensorSpec((None, None), "int8", optional=True), 1, b"\0\0\5", "a dimension beside a 0"
    )
    yield bad("none_with_rank", TensorSpec(None, "int8", optional=True), 1, b"\0\1\0", "a row that is None has rank 0")
    yield bad("rank_33", any_rank, 1, b"\x21" + bytes(33), "rank is at most 32")
    yield bad("dims_beyond_frame", ragged, 1, b"\x64\0\0", "100 elements in two bytes")
    yield bad("dims_huge", ragged, 1, (2**40 + 1).to_bytes(8, "little"), "limit of a dimension: 2**40", 8)
    yield bad("dims_all_ones", ragged, 1, b"\xff" * 8, "limit of a dimension: 2**40", 8)
    big = (2**40).to_bytes(8, "little")
    yield bad(
        "dims_product_wraps",
        TensorSpec((None, None), "int8"),
        1,
        (2**32).to_bytes(8, "little") * 2,
        "the product is 2**64",
        8,
    )
    yield bad(
        "dims_product_of_rank", any_rank, 1, b"\4" + big[:8] * 2 + (2**8).to_bytes(8, "little") * 2, "2**96 elements", 8
    )
    yield bad(
        "dims_product_with_zero",
        TensorSpec((None, None, None), "int8"),
        1,
        bytes(8) + big * 2,
        "2**80 beside a zero",
        8,
    )
    known = TensorSpec((None, None, 2**22), "int16")
    yield bad("dims_product_with_known", known, 1, bytes(8) + big, "2**62 values of 2 bytes beside a zero", 8)
    texts = bytes(8) + big + (2**20).to_bytes(8, "little")
    yield bad(
        "dims_product_of_texts",
        TensorSpec((None, None, None), "str"),
        1,
        texts,
        "2**60 texts, of 8 bytes at least, beside a zero",
        8,
    )
    yield bad("dims_cut", ragged, 3, b"\1", "the frame ends inside the dimensions")
    yield bad("values_cut", ragged, 1, b"\2\0\0\0", "the frame ends inside the values")
    yield bad("values_left", ragged, 1, b"\1\0\0\0", "a byte that belongs to no row")
    yield bad("lengths_beyond_frame", text, 2, b"\2\2abc", "4 bytes of text in 3")
    yield bad("lengths_left", text, 2, b"\1\1abc", "a byte that belongs to no text")
    yield bad("lengths_wrap", text, 2, (2**63).to_bytes(8, "little") * 2, "the sum of the lengths is 2**64", 8)
    yield bad("lengths_negative", text, 2, b"\xff" * 8 + (3).to_bytes(8, "little") + b"ab", "-1 as a signed number", 8)
    yield bad("utf8_invalid", text, 1, b"\1\xff", "no UTF-8")
    yield bad("utf8_cut", text, 1, b"\1\xc3", "half a character")
    yield bad("utf8_across_elements", text, 2, b"\1\1\xc3\xa9", "a character in two elements: together they are UTF-8")
    yield bad("utf8_across_empty", text, 3, b"\1\0\1\xc3\xa9", "a character in two elements, an empty one between")
    yield bad("utf8_surrogate", text, 1, b"\3\xed\xa0\x80", "a surrogate")
    yield bad("utf8_overlong", text, 1, b"\2\xc0\x80", "NUL in two bytes")
    yield bad("utf8_of_array", TensorSpec((2,), "str"), 1, b"\1\1\xc3\xa9", "a character in two elements of an array")


def _hostile_narrow() -> Iterator[Vector]:
    def bad(
        name: str, spec: TensorSpec, encoding: int, raw: bytes, raw_size: int, reason: str, section: str = "5",
        frame: v.FrameParts | None = None,
    ) -> Vector:  # fmt: skip
        shard = lean(shard_of(spec, []))
        width = 0 if spec.shape == () and spec.dtype != "str" else 1
        frames = [frame or v.FrameParts(1, len(raw), raw)]
        shard.chunks = [[v.ColumnParts(1 if frame else 0, width, frames, encoding, raw_size)]]
        return bad_file("hostile", f"narrow_{name}", v.put_together(shard), "malformed", section, reason)

    def scalar(dtype: str) -> TensorSpec:
        return TensorSpec((), dtype)

    number, ragged = scalar("int64"), TensorSpec((None,), "int64")
    yield bad("int8", scalar("int8"), 1, b"\5", 1, "encoding is less than the size of a value")
    yield bad("int16", scalar("int16"), 2, b"\5\0", 2, "encoding is less than the size of a value")
    yield bad("without_sign", scalar("uint32"), 10, b"\5\0", 4, "the dtype has no sign either")
    yield bad("bool", scalar("bool"), 1, b"\1", 1, "no integers")
    yield bad("float", scalar("float64"), 1, b"\1", 8, "no integers")
    yield bad("text", scalar("str"), 1, b"\1a", 2, "no integers")
    yield bad("raw_size", number, 1, b"\5", 7, "a value of 8 bytes")
    yield bad("raw_size_of_frames", number, 1, b"\5", 1, "the sum over the frames, in a fixed column")
    yield bad("raw_size_odd", ragged, 1, b"\2\5\6", 18, "15 bytes more than the frames, no multiple of 7")
    yield bad("raw_size_small", ragged, 4, b"\1\5\0\0\0", 1, "4 bytes less than the frames")
    yield bad("raw_size_large", ragged, 2, b"\1\5\0", 15, "two values of 2 bytes in frames of 3")
    large = v.FrameParts(1, 2**27 + 1, zstandard.ZstdCompressor().compress(b"\0"))
    yield bad("frame_too_large", ragged, 1, b"", 2**30 + 1, "1 GiB and 8 bytes when it is widened", "10", large)
    short = v.FrameParts(1, 4, b"\5\0\0\0")
    shard = lean(shard_of(number, []))
    shard.chunks = [[v.ColumnParts(0, 0, [short], 2, 8)]]
    data = v.put_together(shard)
    yield bad_file("hostile", "narrow_row_size", data, "malformed", "5", "a row of 4 bytes, stored in 2")


def _hostile_dictionaries() -> Iterator[Vector]:
    def bad(
        name: str, encoding: int, raw: bytes, reason: str, section: str = "5", raw_size: int = 16, *,
        spec: TensorSpec | None = None, rows: int = 2, frame: v.FrameParts | None = None,
    ) -> Vector:  # fmt: skip
        shard = lean(shard_of(spec or TensorSpec((), "int64"), []))
        width = 0 if spec is None or spec.shape == () else 1
        frames = [frame or v.FrameParts(rows, len(raw), raw)]
        shard.chunks = [[v.ColumnParts(1 if frame else 0, width, frames, encoding, raw_size)]]
        return bad_file("hostile", f"dictionary_{name}", v.put_together(shard), "malformed", section, reason)

    value = b"\5" + bytes(7)
    yield bad("place", 16, b"\0\1" + value, "place 1 in a list of 1", "6")
    yield bad("wide_place", 33, b"\0\0\0\0\5", "a place larger than a value as it is stored")
    yield bad("empty", 16, b"\0\0", "a list without a value")
    yield bad("longer", 16, b"\0\1" + 3 * value, "three values in a list of two rows")
    many, short = np.arange(258, dtype="u1").tobytes() + 257 * b"\5\0", TensorSpec((), "uint16")
    yield bad("too_long", 16, many, "257 values, of which a byte counts 256", raw_size=516, rows=258, spec=short)
    yield bad("part_of_value", 16, b"\0\0" + value[:7], "seven bytes of a value of eight")
    yield bad("raw_size", 16, b"\0\0" + value, "the sum over the frames", raw_size=10)
    yield bad("ragged", 16, b"\2\0\0" + value, "a variable column", spec=TensorSpec((None,), "int64"), rows=1)
    optional = TensorSpec((), "int64", optional=True)
    yield bad("optional", 16, b"\1\1\0\0" + value, "an optional column", spec=optional, raw_size=18)
    yield bad("bool", 16, b"\0\0\1", "a place as large as a value", spec=TensorSpec((), "bool"), raw_size=2)
    large = TensorSpec((2**26,), "int64")
    bomb = v.FrameParts(3, 3 * 2**26 + 8, zstandard.ZstdCompressor().compress(b"\0"))
    yield bad("frame_too_large", 16, b"", "1.5 GiB of values", "10", 3 * 2**29, spec=large, frame=bomb)
