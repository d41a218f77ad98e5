"""Writing one shard, chunk by chunk; or checking that it would come out as one that exists.

    chunk 0 -> file id -> file header | schema | pad | chunk 0 | chunk 1 | ... | footer | pad | trailer

The caller names the file, syncs nothing itself, and renames what `finish` has made. A shard that exists already (a
finished one, or the front of a spool) is compared instead of written: the same records must give the same headers.

Spec: spec/format.md, sections 2, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recordio.chunks.encoding import EncodedChunk
from recordio.errors import SourceError
from recordio.format import layout
from recordio.format.checksum import crc
from recordio.format.chunk import ChunkHeader, encode_chunk_header
from recordio.format.footer import ChunkEntry, Footer, encode_footer, make_footer
from recordio.format.index import ShardEntry, shard_name
from recordio.storage import Storage, WriteHandle


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIdentity:
    """What is the same for all shards of a data set, and the ordinal."""

    shard_id: int
    schema: bytes
    metadata: bytes  # as in the footer
    options: bytes  # msgpack of the writer's options


class ShardWriter:
    """Writes a shard to `path`; constructed cheaply, the file is made with the first chunk."""

    def __init__(
        self,
        storage: Storage,
        path: str | None,
        identity: ShardIdentity,
        *,
        existing: Sequence[ChunkEntry] = (),
        replayed: str = "",
    ) -> None:
        """
        Args:
            path: a temporary name; None writes nothing and only compares.
            existing: chunks that the file holds already; the first chunks given to `write` must be these.
            replayed: names, in an error, what is being compared.
        """
        self._storage = storage
        self._path = path
        self._identity = identity
        self._existing = existing
        self._replayed = replayed
        self._handle: WriteHandle | None = None
        self._file_header = b""
        self._file_id = b""
        self._chunks: list[ChunkEntry] = []
        self._offset = 0
        self.num_records = 0

    def write(self, chunk: EncodedChunk) -> None:
        """Append a chunk.

        Raises:
            SourceError: it is not the chunk that stands there already.
        """
        if not self._file_header:
            self._begin(chunk.directory_crc)
        header = encode_chunk_header(
            ChunkHeader(
                file_id=self._file_id, chunk_id=len(self._chunks), num_records=chunk.num_records,
                first_record=self.num_records, stored_size=chunk.stored_size,
                directory_size=len(chunk.directory), directory_crc=chunk.directory_crc,
            ),
            self._offset,
        )  # fmt: skip
        entry = ChunkEntry(
            chunk.stored_size,
            chunk.raw_size,
            chunk.num_records,
            len(chunk.directory),
            int.from_bytes(header[60:], "little"),
        )
        ordinal = len(self._chunks)
        if ordinal < len(self._existing):
            if entry != self._existing[ordinal]:
                raise self.changed(ordinal)
        elif self._handle is not None:
            self._handle.write([header, chunk.directory, *chunk.payload])
        elif self._path is None:
            raise self.changed(ordinal)
        self._chunks.append(entry)
        self._offset += chunk.stored_size
        self.num_records += chunk.num_records

    def finish(self, *, last: bool) -> tuple[ShardEntry, Footer]:
        """Write footer and trailer, sync and close; gives the index's entry for the shard.

        Raises:
            SourceError: fewer chunks came than stand there already.
        """
        if not self._file_header:
            self._begin(0)
        if len(self._chunks) < len(self._existing):
            raise self.changed(len(self._chunks))
        identity = self._identity
        footer = make_footer(
            file_id=self._file_id, schema=identity.schema, shard_id=identity.shard_id, last=last,
            chunks=self._chunks, metadata=identity.metadata,
        )  # fmt: skip
        encoded = encode_footer(footer)
        trailer = layout.Trailer(
            footer_offset=self._offset, footer_size=len(encoded), footer_crc=crc(encoded), file_id=self._file_id,
            num_records=self.num_records,
        )  # fmt: skip
        end = self._offset + layout.align(len(encoded))
        if self._handle is not None:
            self._handle.write([encoded, layout.padding(len(encoded)), layout.encode_trailer(trailer, end)])
            self._handle.sync()
            self.close()
        entry = ShardEntry(
            name=shard_name(identity.shard_id, footer.digest), file_id=self._file_id, digest=footer.digest,
            file_size=end + layout.TRAILER_SIZE, num_records=self.num_records, raw_size=footer.raw_size,
            num_chunks=footer.num_chunks, table_crc=crc(footer.chunk_table),
        )  # fmt: skip
        return entry, footer

    def close(self) -> None:
        """Close the file as it is; without `finish` it is incomplete, and is refused by readers."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def _begin(self, first_directory_crc: int) -> None:
        identity = self._identity
        self._file_id = layout.file_id(
            shard_id=identity.shard_id,
            first_directory_crc=first_directory_crc,
            schema=identity.schema,
            options=identity.options,
        )
        header = layout.FileHeader(
            shard_id=identity.shard_id,
            file_id=self._file_id,
            schema_size=len(identity.schema),
            schema_crc=crc(identity.schema),
        )
        self._file_header = layout.encode_file_header(header)
        self._offset = header.first_chunk_offset
        if self._path is None:
            return
        kept = self._offset + sum(chunk.stored_size for chunk in self._existing) if self._existing else 0
        self._handle = self._storage.create(self._path, keep=kept)
        if not kept:
            front = layout.FILE_HEADER_SIZE + len(identity.schema)
            self._handle.write([self._file_header, identity.schema, layout.padding(front)])

    def changed(self, chunk_id: int) -> SourceError:
        return SourceError(
            f"the source is not what it was: its records differ from those already written to {self._replayed}",
            shard=self._identity.shard_id, chunk=chunk_id,
            advice="Convert again from the start, with overwrite=True and without resume, or restore the source",
        )  # fmt: skip
