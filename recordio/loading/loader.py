"""Loaders: all steps of a data set, epoch after epoch, known from the index alone.

    Loader       a recipe, batches of it, and this pipeline's part of every batch

The only thing that changes in a loader is its place. What is read at a step is a pure function of values
(`recordio.plan`), how it is read is in `recordio.loading.reading`, one pass over all of them in
`recordio.loading.passes`.

Spec: spec/order.md, sections 7 to 9.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from recordio.arguments import whole_number
from recordio.errors import RequestError, StateError
from recordio.loading.finishing import Finisher
from recordio.loading.mapping import Mapper
from recordio.loading.options import least_memory
from recordio.loading.passes import LoaderIterator, Place
from recordio.loading.reading import Reading
from recordio.loading.recipe import Recipe, Share
from recordio.metering import Totals
from recordio.plan.epoch import Span, Steps
from recordio.plan.mixing import Array
from recordio.plan.splitting import Remainder, Split, num_steps
from recordio.plan.state import State, agreed, check_same, check_size, read_state
from recordio.plan.view import view_digest

MAX_EPOCH = (1 << 64) - 1

Iterating = TypeVar("Iterating", bound=LoaderIterator)


def abandoned() -> RequestError:
    """The error of a pass that is begun while others may still read the last one."""
    return RequestError(
        "the last pass was not read to its end, so that this pipeline might be an epoch ahead of the others",
        advice="Say where all of them begin: set_epoch(epoch), or load_state_dict(state)",
    )


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

    def __getstate__(self) -> dict[str, Any]:
        """What it was made of; not what it holds."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

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

    @property
    def is_regular(self) -> bool:
        """Whether the number of a step says which records it holds: not where skipped ones are made up for."""
        return self.recipe.on_corrupt != "skip" or self.is_distributed or self.share.ranges(0) is None

    # -- one step by its number --

    def at(self, index: int, epoch: int | None = None, consumed: int = 0, *, holds: bool = False) -> Any:
        """Step `index` of a pass, without beginning it.

        Args:
            epoch: of the pass; the next one by default.
            consumed: the position in it from which steps are counted, where a stream that all share is read.
            holds: all steps will be asked for: decode an exact shuffle once and hold it, as a pass does.
        """
        first, steps = self._planned(index, self.place.following if epoch is None else epoch, consumed)
        wanted = self.share.want(first, steps.positions)
        columns = self.share.rows_at_hand(wanted, Totals(), loads=holds)
        if columns is None:
            columns = self.recipe.reader.rows(wanted.numbers, self.recipe.ordinals)
        stops = np.cumsum(steps.sizes.reshape(-1)).tolist()
        maps = self.reading(self.span(), first, Totals()).maps
        if maps is not None:
            mapped = [maps.mapper(task) for task in maps.tasks(columns, stops, wanted)]
            return next(self.finisher.records(mapped[0])) if self.by_record else self.finisher.step(mapped)
        if self.by_record:
            return next(self.finisher.records(columns))
        return self.finisher.steps(columns, stops, self.split.num_slots)[0]

    def numbers_at(self, index: int, epoch: int) -> Array:
        """int64[records]: the numbers of the records of step `index` of the pass that begins with an epoch."""
        first, steps = self._planned(index, epoch)
        return self.share.want(first, steps.positions).numbers

    def _planned(self, index: int, epoch: int, consumed: int = 0) -> tuple[int, Steps]:
        """The epoch at which the span of a step begins, and the step."""
        per_span = self.span_steps()
        number, step = (0, index) if per_span is None else divmod(index, per_span)
        return epoch + number * (self.recipe.repeats or 0), self.span(consumed=consumed).steps(step, step + 1)

    # -- passes --

    def begin(self, kind: type[Iterating] = LoaderIterator) -> Iterating:  # type: ignore[assignment]
        """Begin the next pass.

        Args:
            kind: of the iterator.

        Raises:
            RequestError: the last one was abandoned, and other pipelines may not know; or memory is too small.
        """
        place = self.place
        last = None if place.last is None else place.last()
        # Where all steps were handed out, it does not matter who noticed the end.
        if place.is_open and self.has_peers and (last is None or last.steps_left != 0):
            raise abandoned()
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

    def copied(self) -> Loader:
        """The same loader with a place of its own."""
        return replace(self, place=self.place.copied())

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
        """Where reading stands: of the pass that was begun last, or in front of the next one.

        Raises:
            RequestError: somebody reads ahead of the loop, so that nobody here knows where that stands.
        """
        place = self.place
        if place.ahead is not None:
            raise RequestError(
                f"{place.ahead} reads ahead of the loop that trains, so that what it has read is no state of training",
                advice="Count the steps of the loop, and ask state_after(state, steps): the state that is so many "
                "steps behind one that was saved, or taken before the loop",
            )
        last = None if place.last is None else place.last()
        if place.is_open and last is not None:
            return last.state_dict()
        if place.is_open and place.left is not None:
            return check_size(place.left)
        if place.resumed is not None:
            return check_size(place.resumed)
        epoch = place.following
        return check_size(self.own_state(first_epoch=epoch, epoch=epoch, consumed=0, step=0))

    def state_after(self, state: Any, steps: int) -> dict[str, Any]:
        """The state that is so many steps behind another one, whoever takes them.

        Args:
            steps: of this loader; those behind the end of an epoch are of the epochs that follow it.

        Raises:
            StateError: as `load_state_dict`. RequestError: there are no such steps, or they are not regular.
        """
        found = read_state(state)
        self._check_state(found)
        left = whole_number("steps", steps, least=0)
        if not self.is_regular:
            raise RequestError(
                "where damaged records are skipped, batches are filled up from what follows, so that their number does "
                "not say which records they were",
                advice="Repair the data set, or distribute it: steps are regular then",
            )
        first_epoch, epoch, step = found.first_epoch, found.epoch, found.step or 0
        span = self.span(consumed=found.consumed, first_step=step)
        in_span = None if span.num_steps is None else span.num_steps - span.first_step
        if in_span is not None and left > in_span:
            left, per_span = left - in_span, self.span_steps()
            if not per_span:
                raise RequestError(f"{steps} steps of a data set that has {in_span} from there on")
            # The last step of a span is still in it.
            num_spans = -(-left // per_span)
            left -= (num_spans - 1) * per_span
            epoch += num_spans * (self.recipe.repeats or 1)
            if (per_pass := self.epochs_of_pass) is not None:
                first_epoch += (epoch - first_epoch) // per_pass * per_pass
            if epoch > MAX_EPOCH:
                raise RequestError(f"{steps} steps go beyond epoch {MAX_EPOCH}, which is the last one")
            span = self.span()
        step = span.first_step + left
        return check_size(
            self.own_state(first_epoch=first_epoch, epoch=epoch, consumed=span.consumed(step), step=step)
        )

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
        self.place.begin(state.epoch, state)

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
