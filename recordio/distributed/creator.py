"""DatasetCreator: a function that makes a data set, with the options of its distribution.

Source: tf.keras.utils.experimental.DatasetCreator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recordio.distributed.options import InputOptions

if TYPE_CHECKING:
    from recordio.batches import Batches

_ADVICE = "Batch it: ds.batch(context.get_per_replica_batch_size(global_batch_size))"


class DatasetCreator:
    """What `distribute_from_function` calls to make the data set of one input pipeline.

    Attributes:
        dataset_fn: takes an `InputContext`, gives a batched data set.
        input_options: an `InputOptions`, or None.
    """

    def __init__(self, dataset_fn: Callable[..., Batches], input_options: Any = None) -> None:
        """Keep both.

        Raises:
            TypeError: dataset_fn cannot be called, or input_options is no `InputOptions`.
        """
        if not callable(dataset_fn):
            raise TypeError(f"dataset_fn for DatasetCreator must be a callable, not {dataset_fn!r}")
        self.dataset_fn = dataset_fn
        self.input_options = None if input_options is None else InputOptions.of(input_options)

    def __call__(self, *args: Any, **kwargs: Any) -> Batches:
        """Make the data set.

        Raises:
            TypeError: the function gives something else. Whatever it raises.
        """
        dataset: Any = self.dataset_fn(*args, **kwargs)
        if hasattr(dataset, "batch_size") and hasattr(dataset, "element_spec"):
            return dataset  # type: ignore[no-any-return]  # whatever stands in for one
        what = type(dataset).__name__
        if hasattr(dataset, "batch"):
            raise TypeError(f"dataset_fn of a DatasetCreator gave a {what} that is not batched. {_ADVICE}")
        raise TypeError(f"dataset_fn of a DatasetCreator must give a batched recordio data set, not {what}. {_ADVICE}")
