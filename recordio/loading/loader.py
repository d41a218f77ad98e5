"""Loaders: passes over a data set, epoch after epoch, and where they stand.

    Loader       a recipe, batches of it, and this pipeline's part of every batch; knows all steps from the index alone
    LoaderIterator   one pass: an epoch, or as many as `repeat` asks for

The only thing that changes in a loader is its place: the epoch that comes next, or the state it was given. What is read
at a step is a pure function of values (`recordio.plan`), how it is read is in `recordio.loading.reading`.

Spec: spec/order.md, sections 7 to 9.
"""

from __future__ import annotations

import operator
import os
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from recordio.errors import RequestError, StateError
from recordio.loading.finishing import Finisher
from recordio.loading.mapping import Mapper
from recordio.loading.options import least_memory
from recordio.loading.reading import Reading, Ready
from recordio.loading.recipe import Recipe, Share
from recordio.metering import Totals, clock
from recordio.plan.epoch import Span
from recordio.plan.splitting import Remainder, Split, num_steps
from recordio.plan.state import State, agreed, check_same, check_size, read_state
from recordio.plan.view import view_digest

MAX_EPOCH = (1 << 64) - 1

Iterating = TypeVar("Iterating", bound="LoaderIterator")


@dataclass(slots=True)
class Place:
    """Where a loader is; all that changes in it.

    Attributes:
        first: the epoch that was set, from which loaders that are made of this one begin too.
        following: the epoch of the next pass.
        resumed: the state that the next pass goes on from.
        last: the pass that was begun last, and its number.
        left: the state of that pass, once nobody holds it any more.
    """

    first: int = 0
    following: int = 0
    resumed: State | None = None
    last: weakref.ref[LoaderIterator] | None = None
    number: int = 0
    left: State | None = None
    is_open: bool = False  # a pass was begun, and neither ended nor replaced by set_epoch or load_state_dict

    def copied(self) -> Place:
        """The place of a loader that is made of this one: where it was told to begin, not where it has come to.

        A state that was loaded stays; whether it still fits is asked when the next pass begins.
        """
        return Place(self.first, self.first, self.resumed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.first, self.following, self.resumed)

    def begin(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.first = self.following = epoch
        self.resumed, self.is_open, self.left = None, False, None
        self.number += 1  # passes that are under way have no say any more


@dataclass(slots=True)
class _Progress:
    """How far a pass has come."""

    epoch: int  # at which the span begins
    span: Span | None = None
    taken: int = 0  # steps of the span handed out before those that are listed
    irregular: int | None = None  # positions that are over, where that does not follow from the steps


class LoaderIterator(Iterator[Any]):
    """One pass of a loader. Closing it, dropping it or reading it to its end leaves no thread and no process."""

    def __init__(self, loader: Loader) -> None:
        self.totals = Totals()
        self._loader = loader
        place = loader.place
        if place.last is not None and (last := place.last()) is not None:
            last._note_epochs()
        state, place.resumed, place.left = place.resumed, None, None
        self._number = place.number = place.number + 1
        if state is None:
            self._first_epoch, self._consumed, self._step = place.following, 0, 0
            self._progress = _Progress(place.following)
        else:
            self._first_epoch, self._consumed, self._step = state.first_epoch, state.consumed, state.step or 0
            self._progress = _Progress(state.epoch)
        epochs = loader.epochs_of_pass
        place.following = self._progress.epoch + 1 if epochs is None else self._first_epoch + epochs
        self._ready: Iterator[Any] = iter(())
        self._listed: Ready | None = None
        self._in_list = 0  # steps of those listed that were handed out
        self._is_over = self._is_closed = False
        self._failure: BaseException | None = None
        # It must not refer to this object: where that is dropped, threads and processes end at once.
        self._lists = _lists(
            loader, self._progress, self.totals, self._first_epoch, consumed=self._consumed, first_step=self._step
        )
        self._process_id = os.getpid()

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Any:
        for step in self._ready:
            self._in_list += 1
            return step
        return self._refill()

    def get_next(self) -> Any:
        """The next step; StopIteration after the last one."""
        return next(self)

    def _refill(self) -> Any:
        if self._failure is not None:  # or a loop that goes on would take it for the end
            raise self._failure
        started = clock()
        self._put_away()
        try:
            while not self._is_closed:
                found = next(self._lists, None)
                if found is None:
                    self._end()
                    break
                self._listed, self._ready = found, iter(found.steps)
                del found
                for step in self._ready:
                    self._in_list = 1
                    return step
                self._put_away()
        except BaseException as error:
            # What failed is not over: the state stays where it is, and nothing more comes.
            self._is_closed, self._failure = True, error
            raise
        finally:
            self.totals.waited_s += clock() - started
        raise StopIteration

    def _put_away(self) -> None:
        """Count what was handed out of the list, and let it go."""
        listed, handed_out = self._listed, self._in_list
        if listed is None:
            return
        records, nbytes = listed.handed_out(handed_out)
        self.totals.records += records
        self.totals.nbytes += nbytes
        self.totals.num_batches += handed_out
        self._progress.taken += handed_out
        if listed.consumed is not None and handed_out:
            self._progress.irregular = listed.consumed[handed_out - 1]
        self._note_epochs()
        self._listed, self._in_list, self._ready = None, 0, iter(())

    def _note_epochs(self) -> None:
        """The pass after one without an end begins behind all epochs that it has touched."""
        loader, place = self._loader, self._loader.place
        if loader.epochs_of_pass is not None or place.number != self._number:
            return
        epoch, consumed, _ = self._where()
        within = max(0, consumed - 1) // max(1, loader.share.num_records) if loader.recipe.repeats is None else 0
        place.following = max(place.following, epoch + within + 1)

    def _end(self) -> None:
        place = self._loader.place
        self._is_over = self._is_closed = True
        if place.number == self._number:
            place.is_open = False

    @property
    def steps_left(self) -> int | None:
        """Steps of this pass that are still to come; None without an end."""
        loader, progress = self._loader, self._progress
        if self._is_over:
            return 0
        if loader.recipe.repeats is None or loader.passes is None:
            return None
        span = progress.span or loader.span(consumed=self._consumed, first_step=self._step)
        done = (span.first_step if progress.span is None else progress.taken) + self._in_list
        number = (progress.epoch - self._first_epoch) // max(1, loader.recipe.repeats)
        assert span.num_steps is not None
        return max(0, span.num_steps - done) + max(0, loader.passes - number - 1) * (loader.span_steps() or 0)

    def __del__(self) -> None:
        # A loop that was left by `break` drops its iterator; where it stood is asked of the loader then.
        place = getattr(self, "_loader", None) and self._loader.place
        if place and place.number == getattr(self, "_number", None):
            self._note_epochs()
            if place.is_open:
                place.left = self._state()

    def state_dict(self) -> dict[str, Any]:
        """Where this pass stands, counting what was handed out; JSON, the same on every pipeline."""
        return check_size(self._state())

    def _state(self) -> State:
        loader = self._loader
        epoch, consumed, step = self._where()
        first_epoch = epoch if self._is_over else self._first_epoch
        return loader.own_state(first_epoch=first_epoch, epoch=epoch, consumed=consumed, step=step)

    def _where(self) -> tuple[int, int, int]:
        """Epoch, and what was consumed and how many steps were taken since it began."""
        loader, progress, listed = self._loader, self._progress, self._listed
        epochs = loader.epochs_of_pass
        if self._is_over:
            return progress.epoch + 1 if epochs is None else self._first_epoch + epochs, 0, 0
        consumed, step = self._consumed, self._step
        if progress.span is not None:
            step = progress.taken + self._in_list
            consumed = progress.span.consumed(step)
            if listed is not None and listed.consumed is not None and self._in_list:
                consumed = listed.consumed[self._in_list - 1]
            elif progress.irregular is not None:
                consumed = progress.irregular
        return progress.epoch, consumed, step

    def stats(self) -> dict[str, float]:
        """What was read so far and what it took, in records, bytes and seconds.

        Returns:
            records, batches, bytes (where records differ in size, about): handed out. elapsed_s since the pass began;
            waited_s: of that, in `next`. Of threads, so that their sum may be more than what elapsed: plan_s which
            records come next, read_s files, verify_s checksums, decode_s decompression and what belongs to it, gather_s
            putting shuffled records together, map_s the user's functions. Of the caller's thread: assemble_s making
            batches. plan_s and assemble_s are processor time, without what they wait for others. num_deaths: workers
            that died.
        """
        totals, listed = self.totals, self._listed
        records, nbytes = (0, 0) if listed is None else listed.handed_out(self._in_list)
        return {
            "records": totals.records + records, "batches": totals.num_batches + self._in_list,
            "bytes": totals.nbytes + nbytes,
            "elapsed_s": clock() - totals.started, "waited_s": totals.waited_s,
            "plan_s": totals.plan_s, "read_s": totals.read_s, "verify_s": totals.verify_s,
            "decode_s": totals.decode_s, "gather_s": totals.gather_s, "map_s": totals.map_s,
            "assemble_s": totals.assemble_s, "num_deaths": totals.num_deaths,
        }  # fmt: skip

    def close(self) -> None:
        """Stop what is under way; nothing more comes, and the state stays what it is."""
        self._is_closed = True
        self._put_away()
        if self._process_id == os.getpid():
            self._lists.close()

    def __enter__(self) -> LoaderIterator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True, eq=False, kw_only=True)
class Loader:
    """Batches of a recipe, as one pipeline gets them.

    Attributes:
        split: how batches are dealt out, and which part is ours.
        remainder: what is done where not every slot is full.
        passes: epochs (or groups of epochs that batches run across) of one pass; None: without an end.
        by_record: single records instead of batches.
        is_distributed: whether replicas wait for our steps.
        has_peers: whether other pipelines do.
        streams: records of a span of every pipeline, where a function made them.
        pipeline_id: which of these is ours.
        num_pipelines: P, where a function made the data set.
    """

    recipe: Recipe
    finisher: Finisher
    split: Split
    remainder: Remainder = "empty"
    passes: int | None = 1
    by_record: bool = False
    is_distributed: bool = False
    has_peers: bool = False
    streams: tuple[int, ...] | None = None
    pipeline_id: int = 0
    num_pipelines: int = 1
    place: Place = field(default_factory=Place)

    # -- steps --

    @cached_property
    def share(self) -> Share:
        """What this pipeline reads."""
        if self.split.policy == "FILE":
            return self.recipe.of_pipeline(self.split.num_pipelines, self.split.pipeline_id)
        return self.recipe.whole

    @cached_property
    def mapper(self) -> Mapper | None:
        """All maps; where positions are those of a stream of the pipeline's own, its generators are, too."""
        mapper, split = self.recipe.mapper, self.split
        if mapper is None or not split.has_own_stream:
            return mapper
        if split.policy == "FUNCTION":
            return mapper.of_pipeline(self.num_pipelines, self.pipeline_id)
        return mapper.of_pipeline(split.num_pipelines, split.pipeline_id)

    @cached_property
    def _streams(self) -> tuple[list[Split], list[int]]:
        """The splits of all pipelines whose steps must be counted, and records of a span of each."""
        split = self.split
        repeats = 1 if self.recipe.repeats is None else self.recipe.repeats
        if self.streams is not None:
            return [split] * len(self.streams), list(self.streams)
        if not split.has_own_stream or split.policy == "FUNCTION":
            return [split], [self.recipe.num_records * repeats]
        splits = [replace(split, pipeline_id=number) for number in range(split.num_pipelines)]
        if split.policy == "OFF":
            return splits, [self.recipe.num_records * repeats] * len(splits)
        tape = self.recipe.tape
        of_shard = dict.fromkeys(self.recipe.shard_ids(), 0)
        for shard, count in zip(tape.shards.tolist(), tape.counts.tolist(), strict=True):
            of_shard[shard] += count
        counts = list(of_shard.values())
        return splits, [repeats * sum(counts[number :: split.num_pipelines]) for number in range(split.num_pipelines)]

    def span_steps(self, consumed: int = 0) -> int | None:
        """Steps of one span, from a position on where a stream that all share is read; None without an end.

        Raises:
            RequestError: remainder is "error", and a step is not full.
        """
        if self.recipe.repeats is None:
            return None
        splits, counts = self._streams
        return num_steps(splits, [count - consumed for count in counts], self.remainder)

    def num_steps(self) -> int | None:
        """Steps of a pass; None without an end."""
        steps = self.span_steps()
        return None if steps is None or self.passes is None else steps * self.passes

    @property
    def epochs_of_pass(self) -> int | None:
        """How many epochs one pass takes."""
        if self.recipe.repeats is None or self.passes is None:
            return None
        return self.recipe.repeats * self.passes

    def span(self, *, consumed: int = 0, first_step: int = 0) -> Span:
        """The steps of one span, from where it is begun."""
        share = self.share
        has_own = self.split.has_own_stream
        return Span(
            split=self.split, num_records=share.num_records,
            repeats=self.recipe.repeats, num_lanes=1 if self.by_record else share.num_lanes,
            start=0 if has_own else consumed, first_step=first_step if has_own else 0,
            num_steps=self.span_steps(0 if has_own else consumed),
            limit=None if self.streams is None else self.streams[self.pipeline_id],
        )  # fmt: skip

    def reading(self, span: Span, first_epoch: int, stats: Totals) -> Reading:
        """How a span is read."""
        return Reading(
            share=self.share, span=span, finisher=self.finisher, mapper=self.mapper,
            options=self.recipe.options, stats=stats, first_epoch=first_epoch, by_record=self.by_record,
            is_dense=not self.is_distributed, drops=self.remainder == "drop",
            has_peers=self.has_peers,
        )  # fmt: skip

    def check_memory(self) -> None:
        """Refuse a budget that the order does not fit in.

        Raises:
            RequestError: names the least one that does.
        """
        memory = self.recipe.options.memory
        if memory is None:
            return
        held = self.share.held_size()
        if held + 2 * self.recipe.options.block_size > memory and held:
            raise RequestError(
                f"the shuffle holds {held:,} bytes of decoded records besides what is handed out, memory is {memory:,}",
                advice=f"Give at least memory={least_memory(held)}, or shuffle with a smaller pool=",
            )

    def everyone(self) -> list[Loader]:
        """The loaders of all pipelines; a shared stream is one."""
        split = self.split
        if not split.has_own_stream or split.policy == "FUNCTION":
            return [replace(self, split=Split(batch_size=split.batch_size))]
        return [
            replace(self, split=replace(split, pipeline_id=number), place=self.place.copied())
            for number in range(split.num_pipelines)
        ]

    # -- one step by its number --

    def at(self, index: int, epoch: int | None = None) -> Any:
        """Step `index` of a pass, without beginning it.

        Args:
            epoch: of the pass; the next one by default.
        """
        first = self.place.following if epoch is None else epoch
        per_span = self.span_steps()
        number, step = (0, index) if per_span is None else divmod(index, per_span)
        steps = self.span().steps(step, step + 1)
        if self.recipe.repeats is not None:
            first += number * self.recipe.repeats
        wanted = self.share.want(first, steps.positions)
        columns = self.recipe.reader.rows(wanted.numbers, self.recipe.ordinals)
        stops = np.cumsum(steps.sizes.reshape(-1)).tolist()
        mapper = self.mapper
        reading = self.reading(self.span(), first, Totals())
        if mapper is not None:
            mapped = [mapper(task) for task in reading.tasks(columns, stops, wanted)]
            return next(self.finisher.records(mapped[0])) if self.by_record else self.finisher.step(mapped)
        if self.by_record:
            return next(self.finisher.records(columns))
        return self.finisher.steps(columns, stops, self.split.num_slots)[0]

    # -- passes --

    def begin(self, kind: type[Iterating] = LoaderIterator) -> Iterating:  # type: ignore[assignment]
        """Begin the next pass.

        Args:
            kind: of the iterator.

        Raises:
            RequestError: the last one was abandoned, and other pipelines may not know; or memory is too small.
        """
        place = self.place
        if place.is_open and self.has_peers:
            raise RequestError(
                "the last pass was not read to its end, so that this pipeline might be an epoch ahead of the others",
                advice="Say where all of them begin: set_epoch(epoch), or load_state_dict(state)",
            )
        if place.resumed is not None:
            self._check_state(place.resumed)
        if place.following > MAX_EPOCH:
            raise RequestError(f"epoch {MAX_EPOCH} was the last one", advice="set_epoch(epoch) says where to go on")
        self.check_memory()
        iterator = kind(self)
        place.last, place.is_open = weakref.ref(iterator), True
        return iterator

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next one."""
        if isinstance(epoch, bool):
            raise TypeError(f"epoch is an int, not {epoch!r}")
        number = operator.index(epoch)
        if not 0 <= number <= MAX_EPOCH:
            raise RequestError(f"epoch {number} is not between 0 and {MAX_EPOCH}")
        self.place.begin(number)

    # -- states --

    def own_state(self, *, first_epoch: int, epoch: int, consumed: int, step: int) -> State:
        """The state at a place."""
        recipe, split = self.recipe, self.split
        shuffle = recipe.shuffle
        parameters = None if split.policy == "FILE" else self.share.parameters
        has_own = split.has_own_stream
        return State(
            fingerprint=recipe.reader.fingerprint.hex(), view=view_digest(recipe.view, recipe.after),
            records=recipe.num_records, seed=None if shuffle is None else shuffle.seed,
            mode="none" if shuffle is None else shuffle.mode if parameters is None else parameters.mode,
            lanes=None if parameters is None else parameters.lanes,
            window=None if parameters is None else parameters.window,
            pool=None if shuffle is None else shuffle.pool,
            split=split.policy.lower() if has_own else "global",
            first_epoch=first_epoch, epoch=epoch, consumed=consumed,
            pipelines=split.num_pipelines if has_own else None, replicas=split.num_replicas if has_own else None,
            batch_size=split.batch_size if has_own else None, step=step if has_own else None,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands: of the pass that was begun last, or in front of the next one."""
        place = self.place
        last = None if place.last is None else place.last()
        if place.is_open and last is not None:
            return last.state_dict()
        if place.is_open and place.left is not None:
            return check_size(place.left)
        if place.resumed is not None:
            return check_size(place.resumed)
        epoch = place.following
        return check_size(self.own_state(first_epoch=epoch, epoch=epoch, consumed=0, step=0))

    def load_state_dict(self, states: Any) -> None:
        """Make the next pass go on from a state.

        Args:
            states: what `state_dict` gave, or a list of what it gave on all pipelines.

        Raises:
            StateError: it is no state, belongs to something else, or the states of a list differ.
        """
        if isinstance(states, Sequence) and not isinstance(states, str | bytes) and len(states):
            state = agreed([read_state(one) for one in states])
        elif isinstance(states, Mapping):
            state = read_state(states)
        else:
            raise StateError(
                f"a state is what state_dict() gave, or a list of these, not {type(states).__name__}"
            )
        self._check_state(state)
        self.place.begin(state.epoch)
        self.place.resumed = state

    def _check_state(self, state: State) -> None:
        """Refuse the state of something else, and a place that no pass of this loader has."""
        check_same(state, self.own_state(first_epoch=0, epoch=0, consumed=0, step=0))
        epochs = state.epoch - state.first_epoch
        repeats, passes = self.recipe.repeats, self.passes
        per_span = 1 if repeats is None else repeats
        most = epochs if passes is None else per_span * passes
        if epochs < 0 or epochs % max(1, per_span) or (epochs and epochs > most):
            raise StateError(
                f"the state stands {epochs} epochs after the beginning of its pass, which repeat does not have here",
                advice="Give repeat the number that it had when the state was saved",
            )
        total = None if repeats is None else self.recipe.num_records * repeats
        if not self.split.has_own_stream:
            if total is not None and state.consumed > total:
                raise StateError(f"consumed is {state.consumed:,} in the state, of {total:,} records")
            return
        steps = self.span_steps()
        if state.step is None or (steps is not None and state.step > steps):
            raise StateError(f"step is {state.step} in the state, of {'endless' if steps is None else steps} steps")
        if state.consumed != state.step * self.split.batch_size:
            raise StateError(
                f"consumed is {state.consumed:,} in the state, which is not {state.step} steps of "
                f"{self.split.batch_size} records"
            )


def _lists(
    loader: Loader, progress: _Progress, totals: Totals, first_epoch: int, *, consumed: int, first_step: int
) -> Generator[Ready]:
    """All spans of a pass from a place on."""
    repeats = loader.recipe.repeats
    number = (progress.epoch - first_epoch) // repeats if repeats else 0
    while loader.passes is None or number < loader.passes:
        span = loader.span(consumed=consumed, first_step=first_step)
        progress.span, progress.taken, progress.irregular = span, span.first_step, None
        progress.epoch = first_epoch + number * (repeats or 1)
        yield from loader.reading(span, progress.epoch, totals).ready()
        if not repeats or (loader.passes is None and not loader.span_steps()):
            return
        number, consumed, first_step = number + 1, 0, 0
