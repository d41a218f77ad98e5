"""Batches: what a training loop reads, as a sequence that begins a new epoch whenever it is iterated over.

    loader = ds.shuffle(seed=0).batch(256)        len(loader), loader[5], for batch in loader

What a batch holds follows from the data set, the seed and the epoch (`recordio.plan`); how it is read from the options.

Spec: spec/order.md, sections 5, 8 and 9.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np

from recordio.adapted import Adapted
from recordio.arguments import whole_number
from recordio.errors import RequestError, SignatureError
from recordio.loading.finishing import Finisher, Padding, padded_spec
from recordio.loading.loader import Loader
from recordio.loading.mapping import MapStage
from recordio.loading.passes import LoaderIterator, Place
from recordio.loading.recipe import Recipe
from recordio.plan.splitting import Split
from recordio.plan.view import View
from recordio.refusals import RefusedOperators
from recordio.rows import LostRange
from recordio.schema import Schema
from recordio.spec import TensorSpec
from recordio.structure import CONTAINERS, children, rebuild


@dataclass(frozen=True, eq=False)
class Batches(Adapted, RefusedOperators):
    """Batches of a data set, as a sequence. Made by `Dataset.batch` and `padded_batch`.

    Every batch has the structure of a record. Fixed-shape columns are arrays `[B, ...]`; `str`, `bytes` and ragged
    columns are `Ragged`; optional fixed columns `numpy.ma`; unknown rank and msgpack object arrays.

    Each `iter()` takes the next epoch, and gives a `LoaderIterator` with `state_dict()`, `steps_left`, `stats()` and
    `close()`. Batches share no byte, but lie side by side in buffers of some megabytes, which live as long as one of
    them: copy what you keep for long. Under on_corrupt="skip" damaged records are left out: without a shuffle batches
    are filled up from what follows, and there are fewer than `len` says; with one, those that lost a record are
    smaller.
    `[i]` counts all records, and raises where one is damaged.
    """

    _recipe: Recipe
    batch_size: int
    drop_remainder: bool
    _paddings: tuple[Padding, ...] | None = None
    _passes: int | None = 1
    _place: Place = field(default_factory=Place)

    def __len__(self) -> int:
        """Batches of a pass: of an epoch, or of as many as `repeat` asks for."""
        steps = self._loader.num_steps()
        if steps is None:
            raise TypeError("a loader that repeats without an end has no len()")
        return steps

    @property
    def schema(self) -> Schema:
        """Of the records, as columns."""
        return self._recipe.record_schema

    @property
    def element_spec(self) -> Any:
        """The spec of a batch: that of a record with one more dimension in front, None where batches differ in size."""
        return batch_spec(padded_spec(self.schema, self._paddings), self.batch_size if self.drop_remainder else None)

    @property
    def recipe(self) -> Recipe:
        """What is read, in normal form; for whoever builds on loaders."""
        return self._recipe

    @property
    def fingerprint(self) -> str:
        """Of the data set that is read."""
        return self._recipe.reader.fingerprint.hex()

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """As `Dataset.lost`."""
        return self._recipe.lost_ranges()

    def __repr__(self) -> str:
        return f"<recordio.Batches of {self.batch_size}: {self._recipe.num_records} records an epoch>"

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Batch `index` of the pass that comes next, by arithmetic; nothing is begun by that.

        Raises:
            IndexError: out of range.
        """
        found = operator.index(index)
        steps = self._loader.num_steps()
        if steps is not None:
            found += steps if found < 0 else 0
        if found < 0 or (steps is not None and found >= steps) or (steps is None and not self._recipe.num_records):
            raise IndexError(f"batch {operator.index(index)} of {'endless' if steps is None else steps} batches")
        return self._loader.at(found)

    def __iter__(self) -> LoaderIterator:
        """The batches of the next epoch, in order; what follows is decoded meanwhile."""
        return self._loader.begin()

    # -- epochs and states --

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that the next `iter()` takes: 0 at first, then one more each time."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the pass that was begun last stands, or the next one begins; JSON.

        Raises:
            RequestError: tf.data reads that pass, ahead of the loop; see `state_after`.
        """
        return self._loader.state_dict()

    def state_after(self, state: Any, steps: int) -> dict[str, Any]:
        """The state that is `steps` batches behind another one: for loops that somebody, as tf.data, reads ahead of.

        Args:
            state: what `state_dict` or `state_after` gave.
            steps: batches that the loop has taken since; those behind the end of an epoch are of the next ones.

        Raises:
            StateError: as `load_state_dict`. RequestError: there are no such batches, or they are not regular.
        """
        return self._loader.state_after(state, steps)

    def load_state_dict(self, states: Any) -> None:
        """Make the next `iter()` go on from a state; the batch size may be another.

        Args:
            states: what `state_dict` gave, here or on any input pipeline, or the list of all pipelines'.

        Raises:
            StateError: the state belongs to another data set, view, order or policy; it names the field.
        """
        self._loader.load_state_dict(states)

    # -- operators --

    def take(self, count: int) -> Batches:
        """The first batches; all of them if count is -1."""
        number = whole_number("count", count, least=-1)
        return self if number < 0 else self._on_rows(lambda view: view.slice(slice(number * self.batch_size)))

    def skip(self, count: int) -> Batches:
        """All batches but the first; none of them if count is -1."""
        number = whole_number("count", count, least=-1)
        return self._on_rows(
            lambda view: view.slice(slice(len(view) if number < 0 else number * self.batch_size, None))
        )

    def shard(self, num_shards: int, index: int) -> Batches:
        """Every num_shards-th batch, from batch `index` on."""
        num_shards = whole_number("num_shards", num_shards, least=1)
        index = whole_number("index", index, least=0)
        if index >= num_shards:
            raise RequestError(f"index {index} is not below num_shards {num_shards}")

        def change(view: View) -> View:
            places = np.arange(len(view), dtype=np.int64)
            return view.pick(places[places // self.batch_size % num_shards == index])

        return self._on_rows(change)

    def map(self, fn: Callable[..., Any], *, batched: bool = True, output_signature: Any = None) -> Batches:
        """Give every batch to a function; the same as `ds.map(fn, batched=True)` before `batch`.

        Row i of what it returns may depend on row i only: the function may be called with parts of a batch, where it is
        split over replicas.
        """
        if not callable(fn):
            raise TypeError(f"map takes a function, not {fn!r}")
        if not batched:
            raise RequestError("map after batch gets batches", advice="Map first: ds.map(fn).batch(n)")
        if self._paddings is not None:
            raise RequestError("map after padded_batch", advice="Map first: ds.map(fn).padded_batch(n)")
        stage = MapStage(fn=fn, batched=True, output_signature=output_signature)
        return self._with(_recipe=replace(self._recipe, maps=(*self._recipe.maps, stage)))

    def repeat(self, count: int | None = None) -> Batches:
        """Go on through the following epochs, `count` in all, each with its own last batch.

        None or -1 goes on without an end.
        """
        return self._with(_passes=repeated(self._passes, count))

    def prefetch(self, buffer_size: int) -> Batches:
        """Keep so many batches ready ahead of the loop, or AUTOTUNE; the same as with_options(max_queue_size=...)."""
        return self.with_options(max_queue_size=buffer_size)

    def with_options(self, **options: Any) -> Batches:
        """Say how to read, as `Dataset.with_options`."""
        return self._with(_recipe=replace(self._recipe, options=self._recipe.options.changed(**options)))

    def batch(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: batches are not batched again."""
        raise RequestError("the data set is batched already", advice="Batch once, with the size that is wanted")

    padded_batch = batch

    def shuffle(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: records are shuffled, not batches."""
        raise RequestError("shuffle after batch would keep batches together", advice="ds.shuffle(...).batch(n)")

    def subset(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refused: records are picked, not batches."""
        raise RequestError("subset after batch", advice="Pick records first: ds.subset(indices).batch(n)")

    select_columns = subset

    # -- inside --

    @property
    def paddings(self) -> tuple[Padding, ...] | None:
        """Of `padded_batch`; for whoever builds on loaders."""
        return self._paddings

    @property
    def passes(self) -> int | None:
        """Epochs of a pass, as `repeat` after `batch` has it; None without an end."""
        return self._passes

    @property
    def place(self) -> Place:
        """Where it is; for whoever builds on loaders."""
        return self._place

    def settled(self) -> Batches:
        """The same records without the fixed order that they were taken from; for whoever builds on loaders."""
        return self if self._recipe.after is None else self._with(_recipe=self._recipe.settled())

    @property
    def loader(self) -> Loader:
        """What reads; for whoever builds on loaders."""
        return self._loader

    @cached_property
    def _loader(self) -> Loader:
        return Loader(
            recipe=self._recipe, finisher=Finisher(schema=self._recipe.record_schema, paddings=self._paddings),
            split=Split(batch_size=self.batch_size), remainder="drop" if self.drop_remainder else "empty",
            passes=self._passes, place=self._place,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        return Batches, (
            self._recipe, self.batch_size, self.drop_remainder, self._paddings, self._passes, self._place,
        )  # fmt: skip

    def _with(self, **changes: Any) -> Batches:
        return replace(self, _place=self._place.copied(), **changes)

    def _on_rows(self, change: Callable[[View], View]) -> Batches:
        if self._passes != 1:
            raise RequestError("batches are taken after repeat", advice="Take them first: loader.take(n).repeat(k)")
        return self._with(_recipe=self._recipe.on_rows(change))


def repeated(before: int | None, count: int | None) -> int | None:
    """Epochs of a repeat of a repeat; None without an end.

    Raises:
        RequestError: count is below -1. TypeError: no int.
    """
    if count is None:
        return None
    count = whole_number("count", count, least=-1)
    return None if count == -1 or before is None else before * count


def batch_spec(spec: Any, size: int | None) -> Any:
    """The spec of a batch of records.

    Args:
        spec: structure of the specs of a record.
        size: rows, None if it is not always the same.
    """
    if isinstance(spec, CONTAINERS):
        return rebuild(spec, [batch_spec(child, size) for _, child in children(spec)])
    if not isinstance(spec, TensorSpec):
        return spec  # an object array of any objects
    if spec.shape is None:
        return spec
    try:
        return TensorSpec((size, *spec.shape), spec.dtype, name=spec.name, optional=spec.optional)
    except SignatureError:
        # Larger, or of a higher rank, than what can be stored; it need not be.
        return TensorSpec(None, spec.dtype, name=spec.name, optional=spec.optional)
