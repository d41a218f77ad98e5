"""Generators and other iterables: sources that are read from the front.

    fn()                              one part
    fn(shard=i, num_shards=S)         S parts: the function says which records are whose
    fn(list[a:b], ...)                S parts: every list among the arguments is cut into S even ranges
    any iterable of records           one part

A generator that raised has ended, so there is nothing to skip here.
"""

from __future__ import annotations

import inspect
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from types import GeneratorType
from typing import Any

from recordio.convert.pieces import (
    DEFAULT_QUEUE_SIZE,
    INFER_RECORDS,
    INFER_SIZE,
    OnError,
    Part,
    Piece,
    Source,
    check_pickle,
    given_size,
    is_mapping,
    is_table,
    own_copy,
    raise_at,
)
from recordio.errors import SourceError
from recordio.format.checksum import digest
from recordio.plan.ranges import even_ranges
from recordio.values.infer import infer_signature


def from_generator(
    fn: Any, output_signature: Any = None, args: Sequence[Any] = ()
) -> GeneratorSource | IterableSource:
    """Make a source of a generator function, as in tf.data.

    Args:
        fn: gives an iterator, or an iterable, of records. If it has parameters named `shard` and `num_shards`, it is
            called once per output shard. An iterator is accepted too, but can be read only once.
        output_signature: structure of specs; inferred from the first records without it.
        args: positional arguments for fn. Where fn has no `shard`, every list among them is cut into as many even
            ranges as there are shards, if their number is given; so a list of files is shared out.

    Raises:
        SourceError: fn is nothing of the kind, or cannot be called with these arguments.
    """
    if inspect.isasyncgenfunction(fn) or inspect.iscoroutinefunction(fn):
        raise SourceError(f"{_name(fn)} is asynchronous", advice="Give a plain generator function")
    if inspect.isclass(fn):
        raise SourceError(
            f"{_name(fn)} is a class, not a generator function", advice=f"Make an instance: {_name(fn)}(...)"
        )
    if callable(fn):
        return GeneratorSource(fn, output_signature, tuple(args))
    if not hasattr(fn, "__iter__"):
        raise SourceError(
            f"from_generator takes a function that gives records, not {_name(type(fn))}",
            advice="Write a function with `yield`, and give it without calling it",
        )
    if args:
        raise SourceError("args are given, but the generator has begun", advice="Give the function, without calling it")
    return IterableSource(fn, output_signature)


class _FrontSource(Source):
    """What both kinds share: the signature comes from the first records of the first part that has any."""

    _parts: list[RecordsPart]

    def _infer(self) -> Any:
        for part in self._parts or [self.whole()]:
            records = part.peek()
            if records:
                return infer_signature(records)
        raise SourceError(
            "the source gave no record, so that no signature can be inferred", advice="Give an output_signature"
        )

    @abstractmethod
    def whole(self) -> RecordsPart: ...


class GeneratorSource(_FrontSource):
    """A function that gives an iterator of records."""

    def __init__(self, fn: Callable[..., Any], signature: Any, args: tuple[Any, ...]) -> None:
        self.signature = signature
        self._fn = fn
        self._args = args
        self._parts = []
        self._takes_shard = _takes_shard(fn, args)
        self._lists = [] if self._takes_shard else [place for place, arg in enumerate(args) if isinstance(arg, list)]

    def whole(self) -> RecordsPart:
        if len(self._parts) != 1:
            whole = partial(self._fn, *self._args, **({"shard": 0, "num_shards": 1} if self._takes_shard else {}))
            self._parts = [RecordsPart(whole)]
        return self._parts[0]

    def identity(self) -> Any:
        # What is cut into ranges must be what it was. A plain generator is compared record by record.
        return [_list_identity(self._args[place]) for place in self._lists] or None

    def check_picklable(self) -> None:
        check_pickle(self._fn, f"the generator function {_name(self._fn)}")
        for arg in self._args:
            # A long list of file names is not worth pickling twice: its first element stands for it.
            check_pickle(arg[:1] if isinstance(arg, list) else arg, f"an argument of {_name(self._fn)}")

    def _split(self, num_shards: int | None, shard_size: int | None, row_size: int | None) -> list[Part] | None:
        if num_shards is None or not (self._takes_shard or self._lists):
            return None
        if self._takes_shard:
            calls = [partial(self._fn, *self._args, shard=shard, num_shards=num_shards) for shard in range(num_shards)]
        else:
            calls = [partial(self._fn, *args) for args in self._cut_lists(num_shards)]
        self._parts = [RecordsPart(call, shard) for shard, call in enumerate(calls)]
        return list(self._parts)

    def _cut_lists(self, num_shards: int) -> Iterator[Sequence[Any]]:
        lengths = [len(self._args[place]) for place in self._lists]
        if num_shards == 1:
            yield self._args
            return
        if len(set(lengths)) > 1:
            raise SourceError(
                f"the lists among the arguments of {_name(self._fn)} have {', '.join(map(str, lengths))} elements, so "
                f"that they cannot be cut alike into {num_shards} shards",
                advice="Make them equally long, or give the ones that are not to be cut as tuples",
            )
        # Of an empty list, every shard has all there is: no record.
        if 0 < lengths[0] < num_shards:
            raise SourceError(
                f"the lists among the arguments of {_name(self._fn)} have {lengths[0]} elements, fewer than the "
                f"{num_shards} shards they are to be cut into",
                advice=f"Ask for at most {lengths[0]} shards, or give the lists as tuples to leave them whole",
            )
        for start, stop in even_ranges(lengths[0], num_shards):
            yield [arg[start:stop] if place in self._lists else arg for place, arg in enumerate(self._args)]


class IterableSource(_FrontSource):
    """Any iterable of records; an iterator can be read once."""

    def __init__(self, records: Any, signature: Any) -> None:
        self.signature = signature
        self.repeatable = not hasattr(records, "__next__")
        self._records = records
        self._parts = []

    def whole(self) -> RecordsPart:
        if not self._parts:
            self._parts = [RecordsPart(partial(_itself, self._records), once=not self.repeatable)]
        return self._parts[0]

    def check_picklable(self) -> None:
        if not self.repeatable:
            raise _begun("cannot be sent to a worker process")
        check_pickle(self._records, f"the {_name(type(self._records))}")


class RecordsPart(Part):
    """The records of one call; what was looked at in advance is kept, in this process."""

    def __init__(self, call: Callable[[], Any], shard: int | None = None, once: bool = False) -> None:
        self._call = call
        self._shard = shard
        self._once = once
        self._opened: tuple[deque[Any], Iterator[Any]] | None = None
        self._was_opened = False

    def __getstate__(self) -> dict[str, Any]:
        if self._once:
            raise _begun("cannot be sent to a worker process")
        # A running generator stays where it is; the other process begins anew.
        return {**vars(self), "_opened": None}

    def peek(self) -> list[Any]:
        """Give copies of the first records, a bounded number; `pieces` will give them again, once."""
        kept, records = self._take()
        size = sum(given_size(record) for record in kept)
        while len(kept) < INFER_RECORDS and size < INFER_SIZE:
            try:
                record = next(records)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001  raised again, with its place
                raise_at(error, self._label(len(kept)))
            kept.append(own_copy(record))
            size += given_size(record)
        self._opened = (kept, records)
        return list(kept)

    def pieces(
        self, executor: Executor | None = None, window: int = DEFAULT_QUEUE_SIZE, on_error: OnError = "stop"
    ) -> Generator[Piece]:
        kept, records = self._take()
        number = 0
        try:
            while True:
                try:
                    record = kept.popleft() if kept else next(records)
                except StopIteration:
                    return
                except Exception as error:  # noqa: BLE001  raised again, with its place
                    raise_at(error, self._label(number))
                yield Piece(kind="record", value=record, number=number, label=self._label(number))
                number += 1
        finally:
            # What the generator holds open is closed now, not when garbage is collected. An iterator of the user's,
            # a file perhaps, is theirs to close.
            if not self._once and isinstance(records, GeneratorType):
                records.close()

    def _take(self) -> tuple[deque[Any], Iterator[Any]]:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            return opened
        if self._once and self._was_opened:
            raise _begun("cannot be read a second time")
        self._was_opened = True
        try:
            return deque(), _iterate(self._call())
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  raised again, with its place
            raise_at(error, self._label(0))

    def _label(self, number: int) -> str:
        return f"record {number}" if self._shard is None else f"record {number} of shard {self._shard}"


def _iterate(records: Any) -> Iterator[Any]:
    """Begin with what a function, or from_generator, was given for records.

    Raises:
        SourceError: it can be iterated over, but gives something else than records.
    """
    if hasattr(records, "as_numpy_iterator"):     # tf.data
        records = records.as_numpy_iterator()
    if is_table(records) or is_mapping(records):
        raise SourceError(
            f"the source gives a {_name(type(records))}, which would be read as the names of its columns",
            advice="Columns: recordio.from_tensor_slices({name: array, ...}) instead of the function. "
            "One record: give it with `yield`",
        )
    if isinstance(records, tuple):
        raise SourceError(
            "the source gives a tuple, which may be one record, or hold the columns of many",
            advice="Columns: recordio.from_tensor_slices(...) instead of the function. One record: give it with "
            "`yield`. A sequence of records: list(...)",
        )
    is_text = isinstance(records, str | bytes | bytearray | memoryview)
    if is_text or not hasattr(records, "__iter__") or getattr(records, "ndim", 1) == 0:
        raise SourceError(
            f"the source gives {_name(type(records))}, not an iterator of records",
            advice="Write it as a generator, with `yield`",
        )
    iterator: Iterator[Any] = iter(records)
    return iterator


def _list_identity(values: list[Any]) -> dict[str, Any]:
    plain = [os.fspath(value) if isinstance(value, os.PathLike) else value for value in values]
    if not all(value is None or isinstance(value, str | bytes | int | float) for value in plain):
        return {"length": len(plain)}       # their text may hold an address
    text = repr(plain).encode("utf-8", "surrogatepass")
    return {"length": len(plain), "digest": digest(8, b"recordio.list", [text]).hex()}


def _itself(records: Any) -> Any:
    return records


def _begun(what: str) -> SourceError:
    return SourceError(
        f"the source is an iterator that has begun: it {what}",
        advice="Give the generator function itself, without calling it",
    )


def _takes_shard(fn: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Tell whether the function wants `shard` and `num_shards` from us; it must be callable with what it gets."""
    try:
        signature = inspect.signature(fn)
    except ValueError:      # some builtins do not tell
        return False
    try:
        taken = set(signature.bind_partial(*args).arguments)
        free = {name for name, parameter in signature.parameters.items()
                if name not in taken and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
        takes_shard = {"shard", "num_shards"} <= free
        signature.bind(*args, **({"shard": 0, "num_shards": 1} if takes_shard else {}))
    except TypeError as error:
        raise SourceError(
            f"{_name(fn)}{signature} cannot be called with {len(args)} arguments: {error}",
            advice="Give them: recordio.from_generator(fn, args=(...)). Parameters named `shard` and `num_shards` are "
            "filled in if both are there",
        ) from error
    return takes_shard


def _name(thing: Any) -> str:
    if isinstance(thing, partial):
        return _name(thing.func)
    return str(getattr(thing, "__qualname__", None) or type(thing).__qualname__)
