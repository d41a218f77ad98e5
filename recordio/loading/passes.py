"""Passes: an epoch, or as many as `repeat` asks for, step by step; and where a loader stands between them.

    Place             the epoch that comes next, or the state that was loaded: all that changes in a loader
    LoaderIterator    one pass; it counts what was handed out, and gives the state

Spec: spec/order.md, sections 7 to 9.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from recordio.loading.pieces import Ready
from recordio.loading.reading import Reading
from recordio.loading.recipe import Recipe, Share
from recordio.metering import Totals, clock
from recordio.plan.epoch import Span
from recordio.plan.state import State, check_size


class SharedWithCopies(Protocol):
    """What copies of a loader in other processes share of its place (`recordio.adapters.torch_workers`)."""

    def begin(self, epoch: int, state: State | None) -> None:
        """Begin with an epoch, or go on from a state of it."""
        ...


class Planned(Protocol):
    """What a pass asks of its loader (`recordio.loading.loader.Loader`)."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def share(self) -> Share: ...
    @property
    def place(self) -> Place: ...
    @property
    def passes(self) -> int | None: ...
    @property
    def epochs_of_pass(self) -> int | None: ...
    def span_steps(self, consumed: int = 0) -> int | None: ...
    def span(self, *, consumed: int = 0, first_step: int = 0) -> Span: ...
    def reading(self, span: Span, first_epoch: int, stats: Totals) -> Reading: ...
    def own_state(self, *, first_epoch: int, epoch: int, consumed: int, step: int) -> State: ...


@dataclass(slots=True)
class Place:
    """Where a loader is; all that changes in it.

    Attributes:
        first: the epoch that was set, from which loaders that are made of this one begin too.
        following: the epoch of the next pass.
        resumed: the state that the next pass goes on from.
        last: the pass that was begun last, and its number.
        left: the state of that pass, once nobody holds it any more.
        is_open: that pass has neither ended nor been replaced by set_epoch or load_state_dict.
        ahead: who reads that pass ahead of the user's loop, so that what was handed out says nothing of the loop.
        shared: is told what is set here; nothing of a copy.
    """

    first: int = 0
    following: int = 0
    resumed: State | None = None
    last: weakref.ref[LoaderIterator] | None = None
    number: int = 0
    left: State | None = None
    is_open: bool = False
    ahead: str | None = None
    shared: SharedWithCopies | None = None

    def copied(self) -> Place:
        """The place of a loader that is made of this one: where it was told to begin, not where it has come to.

        A state that was loaded stays; whether it still fits is asked when the next pass begins.
        """
        return Place(self.first, self.first, self.resumed)

    def standing(self) -> Place:
        """A place at which the next pass begins as here, whatever becomes of this one."""
        return Place(self.following, self.following, self.resumed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.first, self.following, self.resumed)

    def begin(self, epoch: int, state: State | None = None) -> None:
        """Set the epoch of the next pass, or the state that it goes on from."""
        self.first = self.following = epoch
        self.resumed, self.is_open, self.left, self.ahead = state, False, None, None
        self.number += 1  # passes that are under way have no say any more
        if self.shared is not None:
            self.shared.begin(epoch, state)


@dataclass(slots=True)
class _Progress:
    """How far a pass has come."""

    epoch: int  # at which the span begins
    span: Span | None = None
    taken: int = 0  # steps of the span handed out before those that are listed
    irregular: int | None = None  # positions that are over, where that does not follow from the steps


class LoaderIterator(Iterator[Any]):
    """One pass of a loader. Closing it, dropping it or reading it to its end leaves no thread and no process."""

    def __init__(self, loader: Planned) -> None:
        self.totals = Totals()
        self._loader = loader
        place = loader.place
        if place.last is not None and (last := place.last()) is not None:
            last._note_epochs()
        state, place.resumed, place.left, place.ahead = place.resumed, None, None, None
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
        # Before modules are taken apart at the end of the process; what closes threads could not run any more then.
        self._closing = weakref.finalize(self, _close_at_last, self._lists, self._process_id)

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

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # A loop that was left by `break` drops its iterator; where it stood is asked of the loader then.
        if is_finalizing():
            return
        place = getattr(self, "_loader", None) and self._loader.place
        if place and place.number == getattr(self, "_number", None):
            self._note_epochs()
            if place.is_open:
                place.left, place.is_open = self.state(), self.steps_left != 0

    def state_dict(self) -> dict[str, Any]:
        """Where this pass stands, counting what was handed out; JSON, the same on every pipeline."""
        return check_size(self.state())

    def state(self) -> State:
        """The same, before it is made a dict."""
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
        if self._closing.alive and self._process_id == os.getpid():
            self._lists.close()
            self._closing.detach()

    def __enter__(self) -> LoaderIterator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _close_at_last(lists: Generator[Ready], process_id: int) -> None:
    """Close what nobody holds any more, or what is still read when the process ends."""
    if os.getpid() == process_id:
        with suppress(ValueError):  # by a thread, which ends with the process
            lists.close()


def _lists(
    loader: Planned, progress: _Progress, totals: Totals, first_epoch: int, *, consumed: int, first_step: int
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
