"""Hostile msgpack objects, schemas and indexes; every checksum is right.

What is wrong stands in the reason. The rest of the hostile files is in `hostile_files`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgpack

from recordio import MsgpackSpec
from tests.damage import vocabulary as v
from tests.spec.damaged_files import NUMBER, shard_names, small_data_set
from tests.spec.vector import Vector, bad_file, lean, shard_of


def hostile_objects() -> Iterator[Vector]:
    yield from _hostile_objects()
    yield from _hostile_schemas()
    yield from _hostile_indexes()


def _hostile_objects() -> Iterator[Vector]:
    for name, packed, reason in (
        ("nothing", b"", "no object"),
        ("trailing", b"\1\1", "a byte after the object"),
        ("cut", b"\x92\1", "an element is missing"),
        ("equal_keys", b"\x82\1\1\1\2", "equal keys"),
        ("equal_keys_deep", b"\x91\x82\xa1a\1\xa1a\2", "equal keys, in a list"),
        ("extension", b"\xc7\1\5a", "extension type 5"),
        ("fixed_extension", b"\xd4\5a", "extension type 5"),
        ("timestamp_32", b"\xd6\xff\0\0\0\1", "a timestamp"),
        ("timestamp_64", b"\xd7\xff" + bytes(8), "a timestamp"),
        ("timestamp_96", b"\xc7\x0c\xff" + bytes(12), "a timestamp"),
        ("timestamp_key", b"\x81\xd6\xff\0\0\0\1\1", "a timestamp"),
        ("utf8", b"\xa1\xff", "a str that is not UTF-8"),
        ("never_used", b"\xc1", "the code that msgpack never uses"),
        ("list_as_key", b"\x81\x90\1", "a key that is a list"),
        ("huge_array", b"\xdd\xff\xff\xff\xff", "2**32 - 1 elements"),
        ("huge_map", b"\xdf\xff\xff\xff\xff", "2**32 - 1 pairs"),
        ("huge_text", b"\xdb\xff\xff\xff\xff", "4 GiB of text"),
        ("deep", b"\x91" * 1024 + b"\x90", "1,025 lists in each other; limit: 1,024"),
    ):
        raw = len(packed).to_bytes(2, "little") + packed
        shard = lean(shard_of(MsgpackSpec(), []))
        shard.chunks = [[v.ColumnParts(0, 2, [v.FrameParts(1, len(raw), raw)])]]
        yield bad_file("hostile", f"msgpack_{name}", v.put_together(shard), "malformed", "1", reason)
    empty = lean(shard_of(NUMBER, []))
    for name, metadata, reason in (
        ("no_map", b"\x90", "the metadata is a list"),
        ("no_options", msgpack.packb({"metadata": {}}), "no options"),
        ("equal_keys", b"\x83" + empty.metadata[1:] + msgpack.packb("options") + b"\x80", "equal keys"),
        ("trailing", empty.metadata + b"\0", "a byte after the object"),
        ("of_a_list", msgpack.packb({"metadata": [], "options": {}}), "the user's metadata is no map"),
    ):
        data = v.put_together(replace(empty, metadata=metadata))
        yield bad_file("hostile", f"metadata_{name}", data, "malformed", "7", reason)


def _hostile_schemas() -> Iterator[Vector]:
    empty = lean(shard_of(NUMBER, []))

    def bad(name: str, schema: bytes | Any, reason: str, kind: str = "malformed", section: str = "3") -> Vector:
        raw = schema if isinstance(schema, bytes) else msgpack.packb(schema)
        folder = "newer" if kind == "too new" else "hostile"
        return bad_file(folder, f"schema_{name}", v.put_together(replace(empty, schema=raw)), kind, section, reason)

    def column(**changes: Any) -> dict[str, Any]:
        known = {"id": 0, "name": "value", "named": False, "dtype": "int8", "shape": [], "optional": False}
        return {key: value for key, value in {**known, **changes}.items() if value != "absent"}

    def of(*columns: Any, structure: Any = None) -> dict[str, Any]:
        named = [column(**{"id": i, "name": f"c{i}", "named": True, **changes}) for i, changes in enumerate(columns)]
        return {"structure": ["tuple", [*range(len(columns))]] if structure is None else structure, "columns": named}

    for key, value, reason in (
        ("id", -1, "negative"),
        ("id", 2**31, "2**31"),
        ("id", True, "a bool"),
        ("id", "absent", "missing"),
        ("name", 1, "no string"),
        ("named", 1, "no bool"),
        ("dtype", 1, "no string"),
        ("optional", None, "nil"),
        ("shape", "absent", "missing"),
        ("shape", 3, "no list"),
        ("shape", [True], "a bool as dimension"),
        ("shape", [-1], "a negative dimension"),
        ("shape", [1.0], "a float as dimension"),
        ("shape", [0, 2**40 + 1], "a dimension above 2**40"),
        ("shape", [1] * 33, "rank 33"),
        ("shape", [2**16, 2**15], "a row of 2 GiB"),
        ("shape", [None, 0, 2**31], "known dimensions of 2 GiB, zero aside"),
    ):
        name = f"{key}_{reason.replace(' ', '_').replace('*', '').replace(',', '')}"
        yield bad(name, of({key: value}), f"{key}: {reason}")
    yield bad("msgpack_shape", of({"dtype": "msgpack", "shape": [2]}), "msgpack with a shape")
    yield bad("msgpack_optional", of({"dtype": "msgpack", "optional": True}), "msgpack that is optional")
    yield bad("equal_ids", of({}, {"id": 0}), "two columns of one id")
    yield bad("equal_names", of({}, {"name": "c0"}), "two columns of one name")
    yield bad("name_not_path", of({"named": False}), "a column without a name of its own is named by its path")
    yield bad("no_columns", of(), "there is at least one column")
    yield bad("columns_no_list", {"structure": 0, "columns": {}}, "columns are a list")
    yield bad("no_map", [], "the schema is a map")
    yield bad("leaves_swapped", of({}, {}, structure=["tuple", [1, 0]]), "columns stand in the order of the leaves")
    yield bad("leaf_missing", of({}, {}, structure=["tuple", [0]]), "a column that is no leaf")
    yield bad("leaf_twice", of({}, {}, structure=["tuple", [0, 1, 1]]), "a column that is two leaves")
    yield bad("leaf_beyond", of({}, structure=["tuple", [1]]), "no such column")
    yield bad("leaf_bool", of({}, structure=["tuple", [False]]), "a bool is no leaf")
    yield bad("unknown_container", of({}, structure=["set", [0]]), "an unknown kind of container")
    yield bad("container_of_three", of({}, structure=["tuple", [0], 1]), "a node of three parts")
    yield bad("equal_keys", of({}, {}, structure=["dict", [["a", 0], ["a", 1]]]), "a dict with equal keys")
    yield bad("key_no_string", of({}, structure=["dict", [[1, 0]]]), "a dict with an integer as key")
    deep: Any = 0
    for _ in range(33):
        deep = ["list", [deep]]
    yield bad("too_deep", of({}, structure=deep), "33 containers above a leaf; limit: 32", section="10")
    packed = msgpack.packb(of({}))
    yield bad("trailing", packed + b"\0", "a byte after the object", section="1")
    yield bad("twice", b"\x83" + packed[1:] + msgpack.packb("columns") + b"\x90", "equal keys", section="1")
    yield bad("cut", packed[:-1], "the last byte is missing", section="1")
    yield bad("empty", b"", "no object", section="1")
    timestamp = msgpack.packb({**of({}), "made": 0})[:-1] + b"\xd6\xff\0\0\0\1"
    yield bad("timestamp", timestamp, "a timestamp under an unknown key", section="1")
    yield bad("unknown_dtype", of({"dtype": "float4_e2m1"}), "a dtype that is not in the table", "too new")


def _hostile_indexes() -> Iterator[Vector]:
    files = small_data_set(num_shards=1)
    shards = [files[name] for name in shard_names(files)]
    good = files["index.rix"]

    def bad(name: str, data: bytes, kind: str, reason: str, section: str = "8", folder: str = "hostile") -> Vector:
        return Vector(
            path=f"{folder}/{name}",
            files={**files, "index.rix": data},
            section=section,
            verdict=kind,
            reason=reason,
        )

    def edited(edits: list[tuple[str, str, Any]], seals: tuple[str, ...] | None = None) -> bytes:
        data = good
        for where, field, value in edits:
            data = v.change(data, v.part(good, where), field, value)
        return v.reseal(data, good, seals)

    named = shard_names(files)[0]
    for name, file_name, reason in (
        ("path_escape", "../shard-00000-00000000.rio", "a name outside the directory"),
        ("absolute_path", "/etc/passwd", "an absolute path"),
        ("other_ordinal", named.replace("00000-", "00001-", 1), "a name with another ordinal"),
        ("upper_case", "shard-00000-ABCDEF00.rio", "upper-case digits"),
        ("more_zeros", "shard-000000-00000000.rio", "six digits for 0"),
        ("nul", named + "\0", "a NUL at the end"),
        ("newline", named + "\n", "a line feed at the end"),
        ("no_name", "", "an empty name"),
    ):
        yield bad(f"index_{name}", v.index_of(shards, name=file_name), "malformed", reason)
    header, head, entry = "index header", "index head", "shard entry"
    just_header = ("index header",)
    yield bad("index_num_shards_0", edited([(header, "num_shards", 0)], just_header), "malformed", "at least one shard")
    yield bad("index_num_shards_lie", edited([(header, "num_shards", 2)], just_header), "malformed", "the head has one")
    yield bad(
        "index_num_shards_huge",
        edited([(header, "num_shards", 2**20 + 1)], just_header),
        "malformed",
        "limit: 2**20",
        "10",
    )
    yield bad("index_records_lie", edited([(header, "num_records", 7)]), "malformed", "the shards sum to 2")
    yield bad(
        "index_head_huge", edited([(header, "head_size", 2**29 + 1)], just_header), "malformed", "limit: 512 MiB", "10"
    )
    yield bad(
        "index_head_beyond", edited([(header, "head_size", len(good))], just_header), "truncated", "beyond the file"
    )
    yield bad(
        "index_fingerprint",
        edited([(header, "fingerprint", bytes(16))], just_header),
        "mismatch",
        "not that of the shards",
    )
    sealed = ("head", "index header")
    for name, field in (("schema", "schema_size"), ("metadata", "metadata_size"), ("names", "names_size")):
        yield bad(
            f"index_{name}_size", edited([(head, field, 2**32 - 1)], sealed), "malformed", "the parts fill the head"
        )
    yield bad(
        "index_name_size", edited([(entry, "name_size", 23)], sealed), "malformed", "the names do not fill their place"
    )
    with_print = ("fingerprint", *sealed)
    yield bad("index_num_chunks", edited([(entry, "num_chunks", 2**24)], sealed), "truncated", "tables beyond the file")
    yield bad("index_table_crc", edited([(entry, "table_crc", 0)], sealed), "checksum", "table_crc of the shard")
    yield bad("index_digest", edited([(entry, "digest", bytes(32))], with_print), "checksum", "digest of the shard")
    yield bad("index_file_id", edited([(entry, "file_id", bytes(16))]), "mismatch", "the chunks carry another file id")
    yield bad(
        "index_file_id_unsealed",
        edited([(entry, "file_id", bytes(16))], with_print),
        "checksum",
        "the digest covers it",
    )
    size = len(shards[0])
    yield bad(
        "index_file_size_more", edited([(entry, "file_size", size + 64)]), "truncated", "the shard has 64 bytes less"
    )
    yield bad(
        "index_file_size_less", edited([(entry, "file_size", size - 64)]), "mismatch", "the shard has 64 bytes more"
    )
    yield bad("index_raw_size", edited([(entry, "raw_size", 1)]), "malformed", "not the sum of the chunk table")
    yield bad(
        "index_shard_records",
        edited([(entry, "num_records", 4), (header, "num_records", 4)]),
        "malformed",
        "not the sum of the table",
    )
    table = v.part(good, "chunk table", shard=0)
    stored = struct.unpack_from("<Q", good, table.start)[0]
    for name, field, value, kind, reason in (
        ("stored_size", "stored_size", 2**62, "malformed", "a chunk of 4 EiB"),
        ("odd_size", "stored_size", stored + 1, "malformed", "no multiple of 64"),
        ("header_crc", "header_crc", 0, "mismatch", "the chunk has another header"),
        ("directory_size", "directory_size", 2**32 - 1, "malformed", "a directory larger than its chunk"),
    ):
        data = v.reseal(v.change_table(good, table, 0, field, value), good)
        yield bad(f"index_table_{name}", data, kind, reason)
    lone = v.take_apart(shards[0])
    lone.last = False
    shard = v.put_together(lone)
    made = v.index_of([shard])
    yield Vector(
        path="hostile/index_without_last",
        files={v.shard_entry(shard).name: shard, "index.rix": made},
        section="8",
        verdict="checksum",
        reason="the digest of the only shard says that it is not the last",
    )
    for name, field, value in (("major", "major", 1), ("feature", "required_features", 1)):
        yield bad(f"index_{name}", edited([(header, field, value)]), "too new", f"{field} is {value}", "11", "newer")
