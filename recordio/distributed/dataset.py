"""Distributed data sets: the same global batches for everybody, and of each this pipeline's part.

    dist = recordio.distribute(loader, context)       split by us: AUTO, FILE, DATA, OFF
    dist = recordio.distribute_from_function(fn, context)       split by the function; replicas take batches in turn
    for batch in dist: batch["image"].values          one value for each local replica

Every pipeline takes the same number of steps, which is known from the index; none sends a message to another.

Spec: spec/order.md, sections 6 to 9. Source: tf.distribute.DistributedDataset, tf.distribute.DistributedIterator.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

from recordio.adapted import Adapted
from recordio.batches import Batches, batch_spec
from recordio.distributed.context import InputContext, as_input_context
from recordio.distributed.options import AutoShardPolicy, InputOptions, InputReplicationMode, as_policy
from recordio.distributed.values import Optional, PerReplica, PerReplicaSpec
from recordio.errors import RequestError, StateError
from recordio.loading.finishing import padded_spec
from recordio.loading.loader import Loader
from recordio.loading.passes import LoaderIterator
from recordio.plan.splitting import REMAINDERS, Policy, Remainder, Split
from recordio.plan.state import read_state
from recordio.rows import LostRange
from recordio.spec import TensorSpec
from recordio.structure import CONTAINERS, children, rebuild

_POLICIES: dict[AutoShardPolicy, Policy] = {
    AutoShardPolicy.AUTO: "AUTO",
    AutoShardPolicy.FILE: "FILE",
    AutoShardPolicy.DATA: "DATA",
    AutoShardPolicy.OFF: "OFF",
}


def distribute(
    loader: Any,
    context: Any = None,
    policy: Any = AutoShardPolicy.AUTO,
    remainder: Remainder | None = None,
    input_options: Any = None,
) -> DistributedDataset:
    """Split every batch over the replicas of all input pipelines, and give this pipeline its part.

    Args:
        loader: batched by the size of a global batch.
        context: which pipeline this is, of how many, and the replicas in all; `InputContext.detect()` by default. A
            tf.distribute.InputContext is taken, too.
        policy: AUTO: one global order, whatever the number of pipelines; each reads about its part of the files. FILE:
            each pipeline reads its own shards. DATA: all read all files and take parts of batches in turn. OFF: each
            pipeline hands out all records.
        remainder: "empty": every record once, replicas without one get zero rows. "drop": only full steps. "pad": short
            parts are filled up, and every step is (batch, mask). "error": refuse what does not divide. By default
            "empty", or "drop" after drop_remainder=True.
        input_options: as tf.distribute has them, for adapters that put batches on devices.

    Raises:
        RequestError: not batched, fewer shards than pipelines under FILE, HINT, or a remainder that contradicts
            drop_remainder; the same on every pipeline, before anything is read.
    """
    if not isinstance(loader, Batches):
        what = type(loader).__name__
        if hasattr(loader, "batch"):
            raise RequestError(
                f"a {what} that is not batched is distributed", advice="Batch first: ds.batch(global_batch_size)"
            )
        raise TypeError(f"distribute takes a batched recordio data set, not {what}")
    context = InputContext.detect() if context is None else as_input_context(context)
    options = _options(input_options)
    chosen = as_policy(policy)
    if chosen is AutoShardPolicy.HINT:
        raise RequestError(
            "policy HINT asks for a hint in the data set, and there is none",
            advice="Use AUTO; or ds.shard(context.num_input_pipelines, context.input_pipeline_id) in a dataset_fn",
        )
    if remainder is not None and remainder not in REMAINDERS:
        raise RequestError(f"remainder is {remainder!r}", advice=f"Use one of {', '.join(map(repr, REMAINDERS))}")
    if loader.drop_remainder and remainder not in (None, "drop"):
        raise RequestError(
            f"drop_remainder=True leaves the rest out, remainder={remainder!r} hands it out", advice="Say one of them"
        )
    how: Remainder = remainder or ("drop" if loader.drop_remainder else "empty")
    if chosen is AutoShardPolicy.FILE:
        num_shards = len(loader.recipe.shard_ids())
        if num_shards < context.num_input_pipelines:
            raise RequestError(
                f"policy FILE needs a shard for every input pipeline: there are {context.num_input_pipelines} input "
                f"pipelines, and {num_shards} {'shard' if num_shards == 1 else 'shards'} with records in view",
                advice="Use AutoShardPolicy.AUTO or DATA, or convert into more shards",
            )
    if context.num_input_pipelines > 1 and not loader.loader.finisher.has_known_shapes:
        raise RequestError(
            "padded_batch to the longest row of every batch is distributed over several input pipelines: none of them "
            "knows the rows of the others, so that their shapes would differ",
            advice="Say how long rows become: padded_batch(n, padded_shapes=...)",
        )
    _warn_of_idle_replicas(loader.batch_size, context.num_replicas_in_sync)
    split = Split(
        policy=_POLICIES[chosen], num_pipelines=context.num_input_pipelines, pipeline_id=context.input_pipeline_id,
        num_replicas=context.num_replicas_in_sync, batch_size=loader.batch_size,
    )  # fmt: skip
    if split.policy == "FILE":
        loader = loader.settled()
    return _distributed(loader, context, split, how, options=options)


def distribute_from_function(
    dataset_fn: Callable[[InputContext], Batches], context: Any = None, input_options: Any = None
) -> DistributedDataset:
    """Let a function make this pipeline's data set; at every step each local replica takes its next batch.

    Args:
        dataset_fn: called with an `InputContext`, gives a data set batched by the size of one replica; a
            `DatasetCreator` is one. It is called for every input pipeline, so that all know how many steps the longest
            of them takes; nothing but the index is read by that.
        context: as for `distribute`.
        input_options: as tf.distribute has them.

    Raises:
        TypeError: dataset_fn cannot be called, or gives no batched data set. Whatever it raises.
    """
    if not callable(dataset_fn):
        raise TypeError(f"dataset_fn is a function of an InputContext, not {dataset_fn!r}")
    context = InputContext.detect() if context is None else as_input_context(context)
    options = _options(getattr(dataset_fn, "input_options", None) if input_options is None else input_options)
    loaders = [_called(dataset_fn, context, number) for number in range(context.num_input_pipelines)]
    own = loaders[context.input_pipeline_id]
    for loader in loaders:
        kind, own_kind = ((one.batch_size, one.passes, one.recipe.repeats) for one in (loader, own))
        if kind != own_kind:
            raise RequestError(
                "dataset_fn gives data sets of different batch sizes or repeats for different input pipelines",
                advice="Let only the records differ: ds.shard(context.num_input_pipelines, context.input_pipeline_id)",
            )
    split = Split(
        policy="FUNCTION", num_replicas=context.num_local_replicas,
        batch_size=own.batch_size * context.num_local_replicas,
    )  # fmt: skip
    counts = [
        None if loader.recipe.repeats is None else _handed_out(loader, loader.recipe.repeats)
        for loader in loaders
    ]
    streams = None if None in counts else tuple(count for count in counts if count is not None)
    return _distributed(own, context, split, "empty", streams=streams, options=options)


def _options(given: Any) -> InputOptions:
    options = InputOptions.of(given)
    if options.experimental_replication_mode is InputReplicationMode.PER_REPLICA:
        raise RequestError(
            "InputReplicationMode.PER_REPLICA asks for an input pipeline on every device, and batches are on the host",
            advice="Make every replica a pipeline: InputContext(num_input_pipelines=R, input_pipeline_id=r, "
            "num_replicas_in_sync=R)",
        )
    return options


def _called(dataset_fn: Callable[[InputContext], Batches], context: InputContext, number: int) -> Batches:
    given = InputContext(context.num_input_pipelines, number, context.num_replicas_in_sync)
    try:
        loader: Any = dataset_fn(given)
    except Exception as error:
        if number != context.input_pipeline_id:
            error.add_note(
                f"recordio: this is input pipeline {context.input_pipeline_id}; dataset_fn is called for every other "
                f"one, here {number}, to know how many steps it takes"
            )
        raise
    if not isinstance(loader, Batches):
        advice = "Batch it: ds.batch(context.get_per_replica_batch_size(global_batch_size))"
        raise TypeError(f"dataset_fn gives a batched recordio data set, not {type(loader).__name__}. {advice}")
    return loader


def _handed_out(loader: Batches, repeats: int) -> int:
    num_records = loader.recipe.num_records * repeats
    return num_records // loader.batch_size * loader.batch_size if loader.drop_remainder else num_records


def _distributed(
    loader: Batches, context: InputContext, split: Split, remainder: Remainder, *, options: InputOptions,
    streams: tuple[int, ...] | None = None,
) -> DistributedDataset:  # fmt: skip
    wraps = context.num_replicas_in_sync > 1
    finisher = replace(
        loader.loader.finisher, wrap=PerReplica if wraps else None, pads_together=split.policy != "FUNCTION",
        slot_size=split.slot_size if remainder == "pad" else None,
    )  # fmt: skip
    own = Loader(
        recipe=loader.recipe, finisher=finisher, split=split, remainder=remainder, passes=loader.passes,
        is_distributed=True, has_peers=context.num_input_pipelines > 1, streams=streams,
        pipeline_id=context.input_pipeline_id, num_pipelines=context.num_input_pipelines, place=loader.place.copied(),
    )  # fmt: skip
    own.num_steps()  # what cannot be divided is refused here
    return DistributedDataset(_loader=own, _batches=loader, context=context, input_options=options)


def _warn_of_idle_replicas(batch_size: int, num_replicas: int) -> None:
    if batch_size < num_replicas:
        warnings.warn(
            f"a global batch of {batch_size} leaves {num_replicas - batch_size} of {num_replicas} replicas idle",
            UserWarning, stacklevel=3,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class DistributedDataset(Adapted):
    """The part of every global batch that belongs to one input pipeline. Made by `recordio.distribute`.

    Iteration gives the structure of a record with a `PerReplica` at each leaf; not wrapped where there is one replica
    in all. A replica that gets no record at a step has arrays of zero rows, of the right dtype and shape. Each `iter()`
    takes the next epoch; with several pipelines, one after a pass that was not read to its end is an error, until
    `set_epoch` or `load_state_dict` says where all of them are.

    Attributes:
        context: which pipeline this is.
        input_options: how batches come to devices; adapters that put them there ask it.
    """

    _loader: Loader
    _batches: Batches
    context: InputContext
    input_options: InputOptions

    def __len__(self) -> int:
        """Steps of a pass, the same on every pipeline."""
        steps = self._loader.num_steps()
        if steps is None:
            raise TypeError("a data set that repeats without an end has no len()")
        return steps

    @property
    def element_spec(self) -> Any:
        """The structure of a step: `PerReplicaSpec` at the leaves, `TensorSpec` where there is one replica in all."""
        loader, batches = self._loader, self._batches
        slot_size = loader.finisher.slot_size
        is_even = loader.split.batch_size % loader.split.num_replicas == 0
        size = slot_size or (loader.split.slot_size if loader.remainder in ("drop", "error") and is_even else None)
        spec = batch_spec(padded_spec(batches.schema, batches.paddings), size)
        mask: Any = TensorSpec((size,), "bool")
        if loader.finisher.wrap is not None:
            num_slots = loader.split.num_slots
            # A structure has the order of the schema: its leaves can be replaced one by one.
            spec = _with_leaves(spec, lambda leaf: PerReplicaSpec(*[leaf] * num_slots))
            mask = PerReplicaSpec(*[mask] * num_slots)
        return spec if slot_size is None else (spec, mask)

    @property
    def fingerprint(self) -> str:
        """Of the data set that is read."""
        return self._batches.fingerprint

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """As `Dataset.lost`: what this pipeline could not read."""
        return self._batches.lost

    @property
    def loader(self) -> Loader:
        """What reads; for whoever builds on it."""
        return self._loader

    def __iter__(self) -> DistributedIterator:
        """The steps of the next epoch."""
        iterator = self._loader.begin(DistributedIterator)
        iterator.dataset = self
        return iterator

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Step `index` of the pass that comes next, by arithmetic; IndexError out of range."""
        found, steps = operator.index(index), self._loader.num_steps()
        if steps is not None:
            found += steps if found < 0 else 0
        if found < 0 or (steps is not None and found >= steps) or (
            steps is None and not self._loader.share.num_records
        ):
            raise IndexError(f"step {operator.index(index)} of {'endless' if steps is None else steps} steps")
        return self._loader.at(found)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the one that the next `iter()` takes; to be called on every pipeline."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the pass that was begun last stands, or the next one begins; JSON, the same on every pipeline.

        After `distribute_from_function` each pipeline has a state of its own.

        Raises:
            RequestError: tf.data reads that pass, ahead of the loop; see `state_after`.
        """
        return self._loader.state_dict()

    def state_after(self, state: Any, steps: int) -> dict[str, Any]:
        """As `Batches.state_after`: the state that is `steps` steps of this data set behind another one."""
        return self._loader.state_after(state, steps)

    def load_state_dict(self, states: Any) -> None:
        """Make the next `iter()` go on from a state, or from the list of the states of all pipelines.

        Raises:
            StateError: the state belongs to something else, or the pipelines were saved at different steps.
        """
        if self._loader.split.policy == "FUNCTION" and isinstance(states, Sequence) and len(states):
            if len(states) != self.context.num_input_pipelines:
                raise RequestError(f"{len(states)} states for {self.context.num_input_pipelines} input pipelines")
            found = [read_state(state) for state in states]
            if len({(state.first_epoch, state.epoch, state.step) for state in found}) > 1:
                cursors = ", ".join(
                    f"pipeline {number} at step {state.step} of epoch {state.epoch}"
                    for number, state in enumerate(found)
                )
                raise StateError(
                    f"the pipelines were saved at different steps: {cursors}", advice="Load states of the same step"
                )
            states = states[self.context.input_pipeline_id]
        self._loader.load_state_dict(states)


class DistributedIterator(LoaderIterator):
    """One pass of a distributed data set.

    Attributes:
        dataset: what is read.
    """

    dataset: DistributedDataset

    @property
    def element_spec(self) -> Any:
        """The structure of a step, as that of the data set."""
        return self.dataset.element_spec

    def get_next_as_optional(self) -> Optional:
        """The next step as an `Optional`, which is empty after the last one."""
        for step in self:
            return Optional(step)
        return Optional()


def _with_leaves(spec: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(spec, CONTAINERS):
        return rebuild(spec, [_with_leaves(child, change) for _, child in children(spec)])
    return change(spec)
