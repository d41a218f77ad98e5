"""The shards of a directory, seen together: what an index is made of.

    names -> by ordinal -> header and footer of each -> are they of one data set? -> entries and chunk tables

Headers and footers are read, no record is. Which shards ought to be there is known to whoever asks: `merge_shards` has
the request of a job (`recordio.convert.merging`).

Spec: spec/format.md, section 9.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from recordio.errors import MismatchError
from recordio.format.footer import Footer, decode_metadata
from recordio.format.index import SHARD_NAME, ShardEntry
from recordio.job_paths import shard_entry
from recordio.job_requests import differences
from recordio.shards.shard_reader import read_shard_front
from recordio.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundShard:
    """A complete shard, as its own header and footer describe it."""

    entry: ShardEntry
    footer: Footer
    schema: bytes


def names_by_ordinal(storage: Storage, path: str) -> dict[int, list[str]]:
    """The file names of shards in a directory, whatever the files hold."""
    found: dict[int, list[str]] = {}
    for name in storage.list(path):
        shard = SHARD_NAME.fullmatch(name)
        if shard is not None:
            found.setdefault(int(shard[1]), []).append(name)
    return found


def read_found(storage: Storage, path: str, name: str) -> FoundShard:
    """Read what a shard says of itself, checked down to its digest.

    Raises:
        DataError, IncompleteError, OSError: as `read_shard_front`. MismatchError: its name has another ordinal.
    """
    place = os.path.join(path, name)
    front = read_shard_front(storage, place)
    named = SHARD_NAME.fullmatch(name)
    if named is None or int(named[1]) != front.footer.shard_id:
        raise MismatchError(
            f"the file is named {name}, but is shard {front.footer.shard_id}", path=place,
            advice="Give it the name back that it was written under",
        )  # fmt: skip
    entry = shard_entry(name, front.header.file_id, front.footer, front.file_size)
    return FoundShard(entry=entry, footer=front.footer, schema=front.schema)


def difference(one: FoundShard, other: FoundShard) -> str | None:
    """Why two shards cannot be of one data set, in words; None if they can."""
    if one.schema != other.schema:
        return "another schema"
    if one.footer.metadata == other.footer.metadata:
        return None
    (metadata, options), (other_metadata, other_options) = (
        decode_metadata(shard.footer.metadata) for shard in (one, other)
    )
    if options != other_options:
        return f"other options: {differences(options, other_options)}"
    return f"other metadata: {differences(metadata, other_metadata)}"


def ordinals_in_words(ordinals: Iterable[int]) -> str:
    """Ordinals as ranges: "3, 12 to 15"."""
    ranges: list[list[int]] = []
    for ordinal in sorted(ordinals):
        if ranges and ranges[-1][1] == ordinal - 1:
            ranges[-1][1] = ordinal
        else:
            ranges.append([ordinal, ordinal])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in ranges)
