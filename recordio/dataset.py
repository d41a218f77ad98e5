"""Data sets: what users index, slice, iterate, shuffle, map and batch.

    ds = recordio.open("data/train")       the index is read, nothing else
    ds[7]                                  one record
    ds[10:20]                              a view: no record is read
    ds[[3, 1, 4]]                          one batch, in the order asked
    for record in ds                       in order, decoded on threads ahead of the loop

Every operator gives a new data set, and only says what is to be read: rows -> shuffle -> rows -> map* -> repeat, then
`batch`. What they come to is in `recordio.loading.recipe`; batches are in `recordio.batches`.

Spec: spec/order.md.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np

from recordio.adapted import Adapted
from recordio.arguments import whole_number
from recordio.batches import Batches, repeated
from recordio.columns import Array, ColumnValues
from recordio.errors import RequestError
from recordio.indices import places_in_view
from recordio.loading.finishing import Finisher, make_paddings
from recordio.loading.loader import Loader
from recordio.loading.mapping import MapStage
from recordio.loading.passes import LoaderIterator, Place
from recordio.loading.recipe import Recipe, Shuffle
from recordio.memory import MemoryReader
from recordio.metering import Totals
from recordio.plan.order import Mode, check_shuffle
from recordio.plan.splitting import Split
from recordio.plan.view import View
from recordio.reader import DataSetReader
from recordio.refusals import RefusedOperators
from recordio.rows import LostRange, OnCorrupt
from recordio.schema import Schema
from recordio.values.leaves import batch_leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of a data set."""

    name: str
    first_record: int  # its record number in the data set
    num_records: int
    raw_size: int  # bytes
    stored_size: int  # bytes, of the file
    num_chunks: int


@dataclass(frozen=True, eq=False)
class Dataset(Adapted, RefusedOperators):
    """Records on disk, or in memory, as a sequence. Made by `recordio.open`, `from_tensors` and `from_tensor_slices`.

    Everything that comes back is writable and the caller's own. A data set can be pickled, and used from many threads
    and after a fork. With a shuffle, each `iter()` takes the next epoch; that is all that ever changes in it.
    """

    _recipe: Recipe
    _place: Place = field(default_factory=Place)

    # -- what it is --

    def __len__(self) -> int:
        recipe = self._recipe
        if recipe.repeats is None:
            raise TypeError("a data set that repeats without an end has no len()")
        return recipe.num_records * recipe.repeats

    @property
    def schema(self) -> Schema:
        """Of the records, as columns."""
        return self._recipe.record_schema

    @property
    def element_spec(self) -> Any:
        """Structure of `TensorSpec` and `MsgpackSpec` that every record matches."""
        return self.schema.element_spec

    @property
    def metadata(self) -> dict[str, Any]:
        """What the writer was given; the caller's own copy."""
        import copy

        return copy.deepcopy(self._recipe.reader.metadata)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that are equal for equal data sets (all of it, not only what is in view)."""
        return self._recipe.reader.fingerprint.hex()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files of the data set, in order (all of them, not only what is in view); empty in memory."""
        reader = self._recipe.reader
        if not isinstance(reader, DataSetReader):
            return ()
        return tuple(
            Shard(
                name=entry.name,
                first_record=int(reader.first_records[ordinal]),
                num_records=entry.num_records,
                raw_size=entry.raw_size,
                stored_size=entry.file_size,
                num_chunks=entry.num_chunks,
            )
            for ordinal, entry in enumerate(reader.shards)
        )

    @property
    def record_numbers(self) -> range | Array:
        """Which records of the whole data set are in view, in the order of the view; a shuffle changes nothing here.

        An array is int64[N], and read-only.
        """
        return self._recipe.view.numbers

    @property
    def on_corrupt(self) -> OnCorrupt:
        """What is done where damage is met: as `open` was told."""
        return self._recipe.on_corrupt

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """Under on_corrupt="skip": the ranges of records that cannot be read, as far as reading has met them up to now.

        Of this data set and all views that were made of it, in this process; a range has a record in view of the one
        that met it. No two ranges of the same column of a chunk overlap; records that several columns have lost are in
        the ranges of each.
        """
        return self._recipe.lost_ranges()

    def __reduce__(self) -> tuple[Any, ...]:
        recipe = self._recipe
        reader, view, ordinals = recipe.reader, recipe.view, recipe.ordinals
        if (
            isinstance(reader, MemoryReader)
            and recipe.is_stored_order
            and (len(view) < reader.num_records or len(ordinals) < len(reader.columns))
        ):
            # Only what is in view is sent: a part of a data set in memory goes to every worker.
            columns = self.read_columns(0, len(view))
            reader = replace(
                reader, schema=recipe.schema, columns=columns, num_records=len(view), whole=reader.fingerprint
            )
            recipe = replace(
                recipe, reader=reader, view=View(range(len(view))), ordinals=tuple(range(len(columns))), lost={}
            )
        return Dataset, (recipe, self._place)

    def __repr__(self) -> str:
        repeats = self._recipe.repeats
        count = f"{self._recipe.num_records} records"
        if repeats != 1:
            count += ", repeated" if repeats is None else f", {repeats} times"
        return f"<recordio.Dataset: {count}, element_spec={self.element_spec!r}>"

    # -- records --

    @overload
    def __getitem__(self, key: slice) -> Dataset: ...
    @overload
    def __getitem__(self, key: SupportsIndex | Sequence[SupportsIndex] | Array) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """One record, a view, or one batch.

        Args:
            key: an int (negative from the end): a record; with a shuffle, of the epoch that comes next. A slice: a data
                set that shows only these rows. A list or array of ints: a batch of these records in this order, leaves
                as described in `batch`.

        Raises:
            IndexError: out of range. TypeError: not one of these. DataError: what is asked for is damaged, under
            on_corrupt="skip" as well: a record that is asked for by number cannot be left out. RequestError: a slice
            after a shuffle that changes from epoch to epoch.
        """
        if type(key) is int and self._direct is not None:
            numbers, record, ordinals, unflatten = self._direct
            try:
                number = int(numbers[key])
            except IndexError:
                raise IndexError(f"record {key} of a data set of {len(self)} records") from None
            return unflatten(record(number, ordinals))
        if isinstance(key, slice):
            return self._on_rows(lambda view: view.slice(key))
        if isinstance(key, (list, tuple, range)) or (isinstance(key, np.ndarray) and key.ndim):
            return self._batch(places_in_view(key, len(self)))
        if isinstance(key, bool | np.bool_):
            raise TypeError("records are picked by int, slice, or a list or array of ints, not bool")
        try:
            index = operator.index(key)
        except TypeError:
            raise TypeError(
                f"records are picked by int, slice, or a list or array of ints, not {type(key).__name__}"
            ) from None
        recipe = self._recipe
        if recipe.repeats is None:
            if index < 0 or not recipe.num_records:
                what = "without an end" if recipe.num_records else "without records"
                raise IndexError(f"record {index} of a data set {what}")
        elif not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of a data set of {len(self)} records")
        else:
            index %= len(self)
        if recipe.maps:
            return self._loader.at(index)
        if recipe.is_stored_order:
            number = int(recipe.view.numbers[index])
        else:
            number = int(self._loader.share.want(self._place.following, np.array([index], np.int64)).numbers[0])
        return recipe.schema.unflatten(recipe.reader.record(number, recipe.ordinals))

    def __iter__(self) -> LoaderIterator:
        """The records in order; the next chunks are decoded meanwhile."""
        return self._loader.begin()

    def __reversed__(self) -> Iterator[Any]:
        return iter(self[::-1])

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that the next `iter()` takes: 0 at first, then one more each time."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration that was begun last stands; JSON."""
        return self._loader.state_dict()

    def load_state_dict(self, states: Any) -> None:
        """Make the next `iter()` go on from a state, or from the equal states of all pipelines.

        Raises:
            StateError: the state belongs to another data set, view, order or policy; it names the field.
        """
        self._loader.load_state_dict(states)

    # -- views --

    def select_columns(self, names: str | Sequence[str]) -> Dataset:
        """Show only some columns; the others are neither read nor verified.

        Args:
            names: of columns, as `inspect` shows them: the name in the spec, or the path of the leaf ("features/age").

        Raises:
            RequestError: there is no such column, or records were mapped already.
        """
        recipe = self._recipe
        if recipe.maps:
            raise RequestError("columns are selected after map", advice="Select them first, or return fewer from map")
        schema, ordinals = recipe.schema.select([names] if isinstance(names, str) else names)
        return self._with(schema=schema, ordinals=tuple(recipe.ordinals[ordinal] for ordinal in ordinals))

    def take(self, count: int) -> Dataset:
        """The first records; all of them if count is -1, or more than there are."""
        count = whole_number("count", count, least=-1)
        return self._on_rows(lambda view: view.slice(slice(None if count == -1 else count)))

    def skip(self, count: int) -> Dataset:
        """All records but the first; none of them if count is -1, or more than there are."""
        count = whole_number("count", count, least=-1)
        return self._on_rows(lambda view: view.slice(slice(len(view) if count == -1 else count, None)))

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Every num_shards-th record, from record `index` on."""
        num_shards = whole_number("num_shards", num_shards, least=1)
        index = whole_number("index", index, least=0)
        if index >= num_shards:
            raise RequestError(f"index {index} is not below num_shards {num_shards}")
        return self._on_rows(lambda view: view.slice(slice(index, None, num_shards)))

    def subset(self, indices: Sequence[SupportsIndex] | Array) -> Dataset:
        """Records by their places, in the order given; repeats are allowed.

        Args:
            indices: ints, negative ones from the end.

        Raises:
            IndexError: one is out of range. TypeError: something else than ints.
        """
        return self._on_rows(lambda view: view.pick(places_in_view(indices, len(view))))

    # -- order, maps, epochs --

    def shuffle(
        self,
        *args: Any,
        seed: int = 0,
        mode: Mode = "auto",
        pool: int | None = None,
        reshuffle_each_iteration: bool = True,
    ) -> Dataset:
        """Put the records into another order, a new one in every epoch.

        Args:
            seed: 0 to 2**64 - 1; the order follows from it and the epoch.
            mode: "exact": any record may come at any place; all records in view are held in memory, decoded. "pooled":
                many chunks from all over the data set are read at a time. "auto": exact for up to about a million
                records, if they fit the pool that is given, or 256 MiB.
            pool: records that are mixed at a time, under "pooled"; as many as 32 MiB hold, by default. Whole
                chunks are held for them: up to twice as many, by default five times, or some chunks.
            reshuffle_each_iteration: False gives every epoch the same order, of which rows may be taken.

        Raises:
            RequestError: a second shuffle, one after map, batch or repeat, or an argument out of range.
        """
        recipe = self._recipe
        if args:
            raise RequestError(
                f"shuffle({', '.join(map(repr, args))}): there is no shuffle buffer, and arguments have names",
                advice="Use shuffle(seed=0), and pool=10_000 to set how many records are mixed at a time",
            )
        check_shuffle(seed, mode, pool)
        if recipe.shuffle is not None:
            raise RequestError("the data set is shuffled already", advice="Shuffle once: one shuffle is a full one")
        if recipe.repeats != 1:
            raise RequestError(
                "shuffle after repeat would mix epochs", advice="Shuffle first: ds.shuffle(...).repeat(k)"
            )
        if recipe.maps:
            raise RequestError(
                "shuffle after map would map every record that waits", advice="Shuffle first: ds.shuffle(...).map(fn)"
            )
        shuffle = Shuffle(
            seed=int(seed), mode=mode, pool=None if pool is None else int(pool),
            reshuffles=bool(reshuffle_each_iteration),
        )  # fmt: skip
        return self._with(shuffle=shuffle)

    def map(
        self,
        fn: Callable[..., Any],
        *,
        rng: bool = False,
        batched: bool = False,
        output_signature: Any = None,
    ) -> Dataset:
        """Give every record to a function, and take what it returns as the record.

        Args:
            fn: called with one record; with its parts as arguments, if it is a tuple. What it gets is its own.
            rng: call it with `rng=` a `numpy.random.Generator` besides, which follows from seed, epoch and position: an
                augmentation is the same after a resume, and in any process.
            batched: call it with a batch of any number of records instead, as `batch` gives them; it returns a batch of
                as many, in which row i depends on row i only.
            output_signature: of one record that it returns; found out from a few records by default.

        Raises:
            RequestError: arguments that exclude each other. TypeError: fn cannot be called.
        """
        if not callable(fn):
            raise TypeError(f"map takes a function, not {fn!r}")
        if rng and batched:
            raise RequestError(
                "rng=True gives every record a generator of its own, batched=True calls with many records",
                advice="Use one of them",
            )
        if output_signature is not None:
            Schema.from_signature(output_signature)
        stage = MapStage(fn=fn, rng=bool(rng), batched=bool(batched), output_signature=output_signature)
        return self._with(maps=(*self._recipe.maps, stage))

    def repeat(self, count: int | None = None) -> Dataset:
        """Go on through the following epochs: `count` of them in all; without an end, if it is None or -1."""
        return self._with(repeats=repeated(self._recipe.repeats, count))

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Batches:
        """Group records; a sequence of batches.

        Args:
            batch_size: records of a batch, B; of a global batch, if it is distributed.
            drop_remainder: leave out the last batch if it is smaller.

        Raises:
            RequestError: batch_size is below 1.
        """
        size = whole_number("batch_size", batch_size, least=1)
        return Batches(self._recipe, size, bool(drop_remainder), _place=self._place.copied())

    def padded_batch(
        self, batch_size: int, padded_shapes: Any = None, padding_values: Any = None, drop_remainder: bool = False
    ) -> Batches:
        """Group records, and fill their rows up to one shape: arrays instead of `Ragged`.

        Args:
            padded_shapes: None: the longest row of every batch. Or the structure of a record with a shape at every
                leaf, in which None, like None for a whole leaf, means the longest.
            padding_values: None: zeros and empty strings. Or one value, or the structure with a value at every leaf.

        Raises:
            RequestError: batch_size is below 1, or a shape or value does not fit its column; while reading: a row is
                larger than its padded shape.
        """
        paddings = make_paddings(self.schema, padded_shapes, padding_values)
        return Batches(
            self._recipe, whole_number("batch_size", batch_size, least=1), bool(drop_remainder), _paddings=paddings,
            _place=self._place.copied(),
        )  # fmt: skip

    def prefetch(self, buffer_size: int) -> Dataset:
        """Keep so many batches ready ahead of the loop, or AUTOTUNE; the same as with_options(max_queue_size=...)."""
        return self.with_options(max_queue_size=buffer_size)

    def with_options(self, **options: Any) -> Dataset:
        """Say how to read; never what: every setting gives the same batches.

        Args:
            workers: threads that read, decode and map; with use_multiprocessing, processes that map. As many as there
                are processors by default (AUTOTUNE); 0: the caller's own thread.
            use_multiprocessing: `map` functions run in processes of their own; for slow ones that hold the GIL.
            max_queue_size: batches that are ready, or in work, ahead of the caller.
            memory: bytes that decoded records may take, those handed out apart.
            replace_workers: a worker process that dies is replaced, and its work done again; else it is an error.
        """
        return self._with(options=self._recipe.options.changed(**options))

    # -- columns: what converters read --

    def read_columns(self, start: int, stop: int) -> list[ColumnValues]:
        """Records [start, stop) of the epoch that comes next, a ColumnValues for every column; the caller's own."""
        recipe = self._recipe
        if recipe.is_stored_order:
            places = np.arange(start, min(stop, len(recipe.view)), dtype=np.int64)
            return recipe.reader.rows(recipe.view.at(places), recipe.ordinals)
        return self._mapped_rows(np.arange(start, min(stop, len(self)), dtype=np.int64))

    def stream_columns(self, *, workers: int | None = None) -> Iterator[list[ColumnValues]]:
        """All stored records of the view in order, in runs; what is damaged is left out under on_corrupt="skip".

        Args:
            workers: threads that read and decode ahead; as many as there are processors by default.
        """
        options = self._recipe.options if workers is None else replace(self._recipe.options, workers=workers)
        loader = self._with(options=options)._loader
        for piece in loader.reading(loader.span(), self._place.following, Totals()).pieces():
            if piece.columns[0].num_rows:
                yield piece.columns

    def fixed(self) -> Dataset:
        """The same records in the order of epoch 0, whatever the epoch: what a conversion writes."""
        shuffle = self._recipe.shuffle
        return self if shuffle is None else self._with(shuffle=replace(shuffle, reshuffles=False))

    @property
    def recipe(self) -> Recipe:
        """What is read, in normal form; for whoever builds on data sets."""
        return self._recipe

    # -- inside --

    @cached_property
    def _direct(self) -> tuple[Any, Callable[..., list[Any]], tuple[int, ...], Callable[[list[Any]], Any]] | None:
        """What makes a record in stored order: numbers, leaves of a number and columns, structure; None in another."""
        recipe = self._recipe
        if not recipe.is_stored_order:
            return None
        return recipe.view.numbers, recipe.reader.record, recipe.ordinals, recipe.schema.unflatten

    @cached_property
    def _loader(self) -> Loader:
        return Loader(
            recipe=self._recipe, finisher=Finisher(schema=self._recipe.record_schema), split=Split(batch_size=1),
            by_record=True, place=self._place,
        )  # fmt: skip

    def _with(self, **changes: Any) -> Dataset:
        return Dataset(replace(self._recipe, **changes), self._place.copied())

    def _on_rows(self, change: Callable[[View], View]) -> Dataset:
        # A map changes no row: rows taken behind it are those taken in front of it.
        return Dataset(self._recipe.on_rows(change), self._place.copied())

    def _batch(self, places: Array) -> Any:
        rows = self._mapped_rows(places)
        schema = self.schema
        return schema.unflatten([batch_leaf(c, values) for c, values in zip(schema.columns, rows, strict=True)])

    def _mapped_rows(self, places: Array) -> list[ColumnValues]:
        """Records at places of the epoch that comes next, and of those after it."""
        recipe = self._recipe
        if recipe.is_stored_order:
            return recipe.reader.rows(recipe.view.at(places), recipe.ordinals)
        wanted = self._loader.share.want(self._place.following, places)
        rows = recipe.reader.rows(wanted.numbers, recipe.ordinals)
        loader = self._loader
        maps = loader.reading(loader.span(), 0, Totals()).maps
        if maps is None:
            return rows
        (task,) = maps.tasks(rows, [len(places)], wanted)
        return maps.mapper(task)
