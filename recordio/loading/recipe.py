"""Recipes: what a data set with its operators reads, in a normal form, and what one pipeline has of it.

    rows -> one shuffle -> rows -> map* -> repeat     Recipe: values, shared by views, batches and distributed loaders
    Recipe + the pipeline's shards -> Share           orders: what is at a position, and where it is read

Operators fold into these fields; those that cannot are refused where they are called (`recordio.dataset`). How batches
are made of it is in `recordio.loading.loader`.

Spec: spec/order.md, sections 2 to 6.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from recordio.columns import ColumnValues, take_rows
from recordio.errors import RequestError
from recordio.loading.decoding import Decoder
from recordio.loading.held import HeldRows
from recordio.loading.mapping import Mapper, MapStage, MapTask, make_mapper
from recordio.loading.options import Options
from recordio.loading.pooled import PooledRows
from recordio.loading.rows import NumberedRows, Store, Wanted
from recordio.memory import MemoryReader
from recordio.metering import Totals
from recordio.plan.epoch import by_epoch
from recordio.plan.mixing import Array
from recordio.plan.order import (
    ExactOrder,
    Mode,
    Order,
    OrderParameters,
    PooledOrder,
    resolve,
)
from recordio.plan.tape import Tape
from recordio.plan.view import View
from recordio.process_local import ProcessLocal
from recordio.reader import DataSetReader
from recordio.rows import LostRange, OnCorrupt, merged_ranges
from recordio.schema import Schema
from recordio.zipped import ZipReader

Reader = DataSetReader | MemoryReader | ZipReader

# Rows further apart than this are picked one by one; nearer ones are read in order and thinned out.
STREAM_STEP = 16
_NUM_SAMPLES = 4, 32, 256  # records that a map is tried with; more, where those before could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """The arguments of `shuffle`."""

    seed: int
    mode: Mode
    pool: int | None
    reshuffles: bool  # each epoch has an order of its own


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe:
    """What is read, in normal form."""

    reader: Reader
    view: View
    schema: Schema  # of what is stored, as far as it is selected
    ordinals: tuple[int, ...]  # of its columns, in the reader
    on_corrupt: OnCorrupt = "raise"
    lost: dict[LostRange, None] = field(default_factory=dict)  # a set that keeps its order; shared by all views
    shuffle: Shuffle | None = None
    after: View | None = None  # places of a fixed order that are in view
    maps: tuple[MapStage, ...] = ()
    repeats: int | None = 1  # epochs; None: without an end
    options: Options = field(default_factory=Options)

    def __reduce__(self) -> tuple[Any, ...]:
        # What was found out of these values, or read, is found out again where it is needed.
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _make_recipe, ({**values, "lost": {}},)

    @property
    def num_records(self) -> int:
        """N, records of an epoch."""
        return len(self.view if self.after is None else self.after)

    @property
    def is_stored_order(self) -> bool:
        """Whether nothing was asked for but rows and columns."""
        return self.shuffle is None and not self.maps and self.repeats == 1

    @property
    def seed(self) -> int:
        """Of the generators of `map`."""
        return 0 if self.shuffle is None else self.shuffle.seed

    def on_rows(self, change: Any) -> Recipe:
        """Take rows: of the view, or of the order if it is always the same.

        Args:
            change: makes the new view of the old one.

        Raises:
            RequestError: the order changes from epoch to epoch, or records repeat.
        """
        if self.repeats != 1:
            raise RequestError("rows are taken after repeat", advice="Take them first: ds.take(n).repeat(k)")
        if self.shuffle is None:
            return replace(self, view=change(self.view))
        if self.shuffle.reshuffles:
            raise RequestError(
                "rows are taken after a shuffle whose order changes from epoch to epoch: what is taken, and what is "
                "left for another split, would not be the same records in the next epoch",
                advice="Split first: ds.take(n).shuffle(...); or shuffle(..., reshuffle_each_iteration=False)",
            )
        after = View(range(len(self.view))) if self.after is None else self.after
        return replace(self, after=change(after))

    def settled(self) -> Recipe:
        """The same records without the fixed order that they were taken from: whoever splits them orders them anew."""
        if self.after is None:
            return self
        wanted = self.whole.want(0, np.arange(len(self.after), dtype=np.int64))
        return replace(self, view=View(np.sort(wanted.numbers)), after=None)

    @cached_property
    def mapper(self) -> Mapper | None:
        """All maps; functions without an output_signature are called with a few records."""
        if not self.maps:
            return None
        samples = None
        if len(self.view) and any(stage.output_signature is None for stage in self.maps):
            samples = self._samples()
        return make_mapper(self.maps, self.schema, self.seed, samples)

    def _samples(self) -> MapTask | None:
        """A few records; where damage is skipped, of those that can be read, None if many were tried in vain."""
        rows = NumberedRows(
            reader=self.reader, ordinals=self.ordinals, on_corrupt=self.on_corrupt, note_lost=self.note_lost,
            stats=Totals(),
        )  # fmt: skip
        for count in _NUM_SAMPLES if self.on_corrupt == "skip" else _NUM_SAMPLES[:1]:
            places = np.unique(np.linspace(0, len(self.view) - 1, count).astype(np.int64))
            numbers, epochs = self.view.at(places), np.zeros(len(places), np.int64)
            found = rows.gather(
                Wanted(epochs=epochs, positions=places, rows=places, find_numbers=lambda numbers=numbers: numbers)  # type: ignore[misc]
            )
            kept = np.arange(len(places)) if found.kept is None else found.kept
            if len(kept):
                few = kept[np.unique(np.linspace(0, len(kept) - 1, _NUM_SAMPLES[0]).astype(np.int64))]
                columns = [
                    take_rows(c, v, np.searchsorted(kept, few))
                    for c, v in zip(self.schema.columns, found.columns, strict=True)
                ]
                return MapTask(columns=columns, numbers=numbers[few], epochs=epochs[few], positions=places[few])
        return None

    @property
    def record_schema(self) -> Schema:
        """Of the records that come out."""
        return self.schema if self.mapper is None else self.mapper.schema

    @cached_property
    def tape(self) -> Tape:
        """The chunks that hold a row; reads all chunk tables."""
        return self.view.tape(*self.reader.chunk_table())

    @property
    def row_size(self) -> float:
        """Raw bytes of what is read of a record, about."""
        fixed = [c.row_size + c.optional for c in self.schema.columns if c.is_fixed]
        if len(fixed) == len(self.schema.columns):
            return float(max(1, sum(fixed)))
        return max(1.0, self.reader.record_size)

    def parameters(self, tape: Tape) -> OrderParameters:
        """Mode, lanes and window of a shuffle of the rows of a tape."""
        assert self.shuffle is not None
        record_size = max(1.0, self.reader.record_size)
        return resolve(tape.num_records, len(tape), self.shuffle.mode, self.shuffle.pool, record_size=record_size)

    @property
    def whole(self) -> Share:
        """All of it, as one pipeline reads it, or all pipelines together; one for all who have it at the same time."""
        # It holds decoded rows, and this recipe: a reference back would keep hundreds of megabytes until a full garbage
        # collection.
        found: Share | None = self.__dict__.get("_whole", _nothing)()
        if found is None:
            found = Share(self, None, (0, 0))
            self.__dict__["_whole"] = weakref.ref(found)
        return found

    def shard_ids(self) -> list[int]:
        """Shards that hold a row, in order."""
        return sorted(set(self.tape.shards.tolist()))

    def of_pipeline(self, num_pipelines: int, pipeline_id: int) -> Share:
        """What one pipeline reads under FILE: every P-th of the shards that hold a row."""
        shards = np.array(self.shard_ids()[pipeline_id::num_pipelines], np.int64)
        return Share(self, self.tape.of_shards(shards), (num_pipelines, pipeline_id + 1))

    def note_lost(self, ranges: Iterable[LostRange]) -> None:
        """Keep ranges that could not be read and hold a row."""
        for lost in ranges:
            below = self.view.rows_below(np.array([lost.start, lost.stop]))
            if below[0] < below[1]:
                self.lost[lost] = None

    def lost_ranges(self) -> tuple[LostRange, ...]:
        """What was lost up to now."""
        return merged_ranges(list(self.lost))


class Share:
    """What one pipeline reads of a recipe, and where it finds it.

    Args:
        tape: the part of the tape that is its own; None: all of it.
        salt: a and b of the keys.
    """

    def __init__(self, recipe: Recipe, tape: Tape | None, salt: tuple[int, int]) -> None:
        self.recipe = recipe
        self._own_tape = tape
        self._salt = salt
        self._held: dict[str, ProcessLocal[HeldRows]] = {}  # threads that come at once all take the first one

    @property
    def num_records(self) -> int:
        """Records of an epoch."""
        return self.recipe.num_records if self._own_tape is None else self._own_tape.num_records

    @property
    def tape(self) -> Tape:
        """The chunks that it reads."""
        return self.recipe.tape if self._own_tape is None else self._own_tape

    @cached_property
    def parameters(self) -> OrderParameters | None:
        """Of the shuffle, None without one."""
        return None if self.recipe.shuffle is None else self.recipe.parameters(self.tape)

    @cached_property
    def order(self) -> Order | None:
        """The shuffle of its rows; None without one."""
        shuffle, parameters = self.recipe.shuffle, self.parameters
        if shuffle is None or parameters is None:
            return None
        if parameters.mode == "exact":
            return ExactOrder(self.tape.num_records, shuffle.seed, self._salt, reshuffles=shuffle.reshuffles)
        return PooledOrder(self.tape, parameters, shuffle.seed, self._salt, reshuffles=shuffle.reshuffles)

    @property
    def num_lanes(self) -> int:
        """Lanes by which batches are sorted; 1 where they are not."""
        return 1 if self.order is None or self.recipe.after is not None else self.order.num_lanes

    def want(self, first_epoch: int, positions: Array) -> Wanted:
        """What stands at positions of a span that begins with an epoch."""
        groups = list(by_epoch(positions, max(1, self.num_records)))
        if len(groups) == 1:
            number, _, inside = groups[0]
            return self._want(first_epoch + number, inside)
        found = [(here, self._want(first_epoch + number, inside)) for number, here, inside in groups]

        def joined(name: str) -> Any:
            whole = np.empty(len(positions), np.int64)
            for here, part in found:
                value = getattr(part, name)
                if value is None:
                    return None
                whole[here] = value
            return whole

        return Wanted(
            epochs=joined("epochs"), positions=joined("positions"), segments=joined("segments"), rows=joined("rows"),
            find_numbers=lambda: joined("numbers"),
        )  # fmt: skip

    def _want(self, epoch: int, positions: Array) -> Wanted:
        recipe, order = self.recipe, self.order
        places = positions if recipe.after is None else recipe.after.at(positions)
        segments = None
        if order is None:
            rows = places
            view = recipe.view if self._own_tape is None else self._natural
        elif isinstance(order, ExactOrder):
            rows = order.rows(epoch, places)
            view = recipe.view.ascending if self._own_tape is None else self._rows_of_tape
        else:
            rows, segments = order.find(epoch, places)
            view = recipe.view.ascending
        return Wanted(
            epochs=epoch, positions=positions, segments=segments, rows=rows, find_numbers=lambda: view.at(rows)
        )

    @cached_property
    def _rows_of_tape(self) -> View:
        """Under FILE: the records of its shards, ascending."""
        tape = self.tape
        return View(self.recipe.view.ascending.at(tape.rows_at(np.arange(tape.num_records, dtype=np.int64))))

    @cached_property
    def _natural(self) -> View:
        """Under FILE, without a shuffle: the records of its shards, in the order of the view."""
        view, tape = self.recipe.view, self.tape
        if view.is_ascending:
            return self._rows_of_tape
        numbers = view.at(np.arange(len(view), dtype=np.int64))
        shard_of_chunk, _, ends = self.recipe.reader.chunk_table()
        shards = shard_of_chunk[np.searchsorted(ends, numbers, side="right")]
        return View(numbers[np.isin(shards, np.unique(tape.shards))])

    def reached(self, position: int) -> int:
        """The place in the order before which nothing comes any more, once positions before `position` are over."""
        after = self.recipe.after
        if after is None:
            return position
        return int(after.numbers[position]) if after.is_ascending and position < len(after) else 0

    def ranges(self, position: int) -> list[tuple[int, int]] | None:
        """Ranges of record numbers that hold the records from a position on, in order; None if they are no such thing.

        Records of a view with a step are thinned out by whoever reads the ranges.
        """
        view = self.recipe.view
        if self.order is not None or not view.is_ascending or not isinstance(view.numbers, range):
            return None
        numbers = view.numbers
        if numbers.step > STREAM_STEP or isinstance(self.recipe.reader, ZipReader):
            return None
        if self._own_tape is None:
            return [(numbers[position], numbers[-1] + 1)] if position < len(numbers) else []
        tape = self._own_tape
        ends = np.cumsum(tape.counts)
        first = int(np.searchsorted(ends, position, side="right"))
        starts, stops = tape.starts[first:].copy(), (tape.starts + tape.counts)[first:]
        if len(starts):
            starts[0] += position - int(ends[first] - tape.counts[first])
        breaks = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        return [
            (numbers[int(starts[low])], numbers[int(stops[high - 1]) - 1] + 1)
            for low, high in zip([0, *breaks], [*breaks, len(starts)], strict=True)
            if low < high
        ]

    @property
    def is_numbered(self) -> bool:
        """Whether rows are read by their numbers, as they come; else the order says what to decode and keep."""
        return self.order is None or not isinstance(self.recipe.reader, DataSetReader)

    def store(self, stats: Totals, ahead: int) -> Store:
        """Where the rows of one iteration come from.

        Args:
            ahead: rows that may be decoded before they are needed.
        """
        recipe, decoder = self.recipe, self._decoder(stats)
        if decoder is None:
            return NumberedRows(
                reader=recipe.reader, ordinals=recipe.ordinals, on_corrupt=recipe.on_corrupt,
                note_lost=recipe.note_lost, stats=stats,
            )  # fmt: skip
        if isinstance(self.order, PooledOrder):
            return PooledRows(
                decoder, self.order, recipe.schema.columns, ahead=ahead, groups=recipe.options.num_threads
            )
        return self._held_rows().on(decoder)

    def rows_at_hand(self, wanted: Wanted, stats: Totals, *, loads: bool) -> list[ColumnValues] | None:
        """Rows of an exact order that are held in this process; None where they are not, or are damaged.

        Args:
            loads: decode and hold them all, where they are not there yet and no budget of memory says otherwise.
        """
        decoder = self._decoder(stats)
        if decoder is None or not isinstance(self.order, ExactOrder):
            return None
        store = self._held_rows().loaded(decoder, loads=loads and self.recipe.options.memory is None)
        found = None if store is None else store.gather(wanted)
        is_whole = found is not None and (found.kept is None or len(found.kept) == len(wanted.rows))
        return found.columns if found is not None and is_whole else None

    def _decoder(self, stats: Totals) -> Decoder | None:
        """What decodes the rows of a shuffle; None where rows are read by their numbers."""
        recipe = self.recipe
        if self.order is None or not isinstance(recipe.reader, DataSetReader):
            return None
        return Decoder(
            reader=recipe.reader, view=recipe.view.ascending, ordinals=recipe.ordinals, on_corrupt=recipe.on_corrupt,
            note_lost=recipe.note_lost, stats=stats,
        )  # fmt: skip

    def _held_rows(self) -> HeldRows:
        held = self._held.get("rows")
        if held is None:
            tape, columns, size = self.tape, self.recipe.schema.columns, self.recipe.row_size
            held = self._held.setdefault("rows", ProcessLocal(lambda: HeldRows(tape, columns, size)))
        return held.get()

    def held_size(self) -> int:
        """Raw bytes that a shuffle of these rows holds, about; 0 where nothing is held."""
        order = self.order
        if order is None or self.is_numbered:
            return 0
        held = order.num_records
        if isinstance(order, PooledOrder):
            chunk = int(order.tape.counts.max(initial=0))
            held = min(held, order.num_lanes * (order.lanes.window + 2 * chunk))
        return int(held * self.recipe.row_size)



def _nothing() -> None:
    return None


def _make_recipe(values: dict[str, Any]) -> Recipe:
    return Recipe(**values)
