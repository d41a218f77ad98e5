"""Every error that recordio raises, by whose fault it is.

    RecordIOError
      DataError            the bytes: damaged, truncated, hostile, foreign
        ChecksumError  TruncatedError  MalformedError  MismatchError
        NotRecordIOError  TooNewError
      IncompleteError      writing did not end; often resumable
      SignatureError       a record, or a signature, that breaks the declared types
      SourceError          the user's source: it changed, or has no length where one is needed
      RequestError         a call that cannot be carried out as asked
      StateError           a saved position that does not belong to what is read
      LockedError          somebody else is writing there
      WorkerError          one of our own worker processes died

A location is data, not only text: `path`, `shard`, `chunk`, `column`, `records`, `offset`, `record`. What the user's
own code raised keeps its type. Errors of the operating system pass through untouched.

Spec: spec/format.md, section 1.
"""

from __future__ import annotations

from typing import Any


class RecordIOError(Exception):
    """Base of all errors here; says what, where and what to do.

    Attributes:
        message: what happened, found and expected values.
        path: file or data set directory.
        shard: ordinal of the shard.
        chunk: ordinal of the chunk in its shard.
        column: name of the column, or the path of the leaf in the record.
        records: half-open range of record numbers, in the data set where it is known, else in the shard.
        record: number of one record, in the source or the data set.
        offset: bytes from the start of the file.
        advice: what the reader of the message can do.
    """

    _FIELDS = ("path", "shard", "chunk", "column", "records", "record", "offset", "advice")

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        shard: int | None = None,
        chunk: int | None = None,
        column: str | None = None,
        records: tuple[int, int] | None = None,
        record: int | None = None,
        offset: int | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.shard = shard
        self.chunk = chunk
        self.column = column
        self.records = records
        self.record = record
        self.offset = offset
        self.advice = advice

    def locate(self, **where: Any) -> RecordIOError:
        """Fill in the parts of the location that are not known yet, and return self."""
        for field, value in where.items():
            if field not in self._FIELDS:
                raise TypeError(f"no such part of a location: {field}")
            if getattr(self, field) is None:
                setattr(self, field, value)
        return self

    def location(self) -> dict[str, Any]:
        """The known parts of the location, as plain values for JSON."""
        found = {field: getattr(self, field) for field in self._FIELDS if field != "advice"}
        return {
            field: list(value) if isinstance(value, tuple) else value
            for field, value in found.items()
            if value is not None
        }

    def __str__(self) -> str:
        where = []
        if self.path is not None:
            where.append(str(self.path))
        for label in ("shard", "chunk", "column", "record", "offset"):
            value = getattr(self, label)
            if value is not None:
                where.append(f"{label} {value!r}" if label == "column" else f"{label} {value}")
        if self.records is not None:
            where.append(f"records {self.records[0]} to {self.records[1]}")
        text = self.message + (f" [{', '.join(where)}]" if where else "")
        return f"{text}. {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[Any, ...]:
        where = {field: getattr(self, field) for field in self._FIELDS}
        return _rebuild, (type(self), self.message, where, tuple(getattr(self, "__notes__", ())))


def _rebuild(
    kind: type[RecordIOError], message: str, where: dict[str, Any], notes: tuple[str, ...] = ()
) -> RecordIOError:
    error = kind(message, **where)
    for note in notes:
        error.add_note(note)
    return error


class DataError(RecordIOError):
    """The bytes are not what the format promises."""


class ChecksumError(DataError):
    """A stored checksum or digest differs from the computed one."""


class TruncatedError(DataError):
    """A file ends before a structure in it does."""


class MalformedError(DataError):
    """Checksums are right, but a value breaks a rule or a limit of the format."""


class MismatchError(DataError):
    """A valid structure that belongs to another file, place or index."""


class NotRecordIOError(DataError):
    """The file is no recordio file at all."""


class TooNewError(DataError):
    """The file needs a newer recordio."""


class IncompleteError(RecordIOError):
    """Writing did not end: no trailer, or no index."""


class SignatureError(RecordIOError, ValueError):
    """A record does not match the declared signature."""


class SignatureTypeError(SignatureError, TypeError):
    """A record, or a signature, holds a value of the wrong type."""


class SourceError(RecordIOError, ValueError):
    """The source cannot be converted as asked, or is no longer the one that was begun."""


class RequestError(RecordIOError, ValueError):
    """The call cannot be carried out with these arguments."""


class StateError(RecordIOError, ValueError):
    """A saved state that is none, or that belongs to another data set, order or step."""


class LockedError(RecordIOError):
    """Another process, or another writer in this one, is writing to this path."""


class WorkerError(RecordIOError):
    """A worker process ended before its task did."""
