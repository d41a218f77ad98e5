"""Shard names of an index: each is that of its ordinal, however many there are (spec/format.md, section 8)."""

from __future__ import annotations

import pytest

from recordio.errors import MalformedError
from recordio.format.index import ShardEntry, decode_index, encode_index, shard_name

MANY = 100_002  # ordinals of five digits and of six


def index_of(names: list[str]) -> bytes:
    """An index of shards without a chunk."""
    shards = [ShardEntry(name, bytes(16), bytes(32), 0, 0, 0, 0, 0) for name in names]
    return encode_index(schema=b"", metadata=b"", shards=shards, chunk_tables=[])


def test_names_of_many_shards_are_read() -> None:
    """Also where ordinals have more digits than five."""
    names = [shard_name(ordinal, bytes(32)) for ordinal in range(MANY)]
    assert [shard.name for shard in decode_index(index_of(names)).shards] == names


@pytest.mark.parametrize("num_shards", [3, MANY])
@pytest.mark.parametrize(
    "wrong",
    [
        "shard-00002-00000000.rio", "shard-1-00000000.rio", "../ard-00001-00000000.rio", "shard-00001-0000000G.rio", "",
        "shard-00001-00000000.rio\n", "shard-00001-00000000.rio\nshard-00002-00000000.rio", "shard-0000é-00000000.rio",
    ],
)  # fmt: skip
def test_another_name_is_refused(num_shards: int, wrong: str) -> None:
    """It is told which one."""
    names = [shard_name(ordinal, bytes(32)) for ordinal in range(num_shards)]
    names[1] = wrong
    with pytest.raises(MalformedError, match="is no name for shard 1") as caught:
        decode_index(index_of(names))
    assert caught.value.shard == 1
