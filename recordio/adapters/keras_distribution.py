"""What `keras.distribution` asks of a data set: this process's part of every batch, in shapes that its devices share.

Only the jax backend has distributions of several processes. It puts the global array together from what each process
hands out (`jax.make_array_from_process_local_data`), so that each has to give the rows that its devices hold.

Spec: spec/adapters.md, section 2. Source: keras/src/distribution/distribution_lib.py,
keras/src/backend/jax/distribution_lib.py.
"""

from __future__ import annotations

import warnings
from typing import Any

import keras

from recordio.batches import Batches
from recordio.distributed.context import InputContext
from recordio.distributed.dataset import DistributedDataset, distribute
from recordio.errors import RequestError

Shape = tuple[tuple[int, ...], int] | None  # of the mesh, and the processes; None without a distribution


def of_this_process() -> Shape:
    """The shape of the distribution that is set."""
    distribution = _distribution()
    return None if distribution is None else (tuple(distribution.device_mesh.shape), _num_processes())


def distributed(loader: Batches, remainder: Any) -> Batches | DistributedDataset:
    """What this process reads of the batches; they themselves where no distribution is set.

    Raises:
        RequestError: the devices cannot share a batch, or the distribution would shard it again.
    """
    distribution = _distribution()
    if distribution is None:
        if remainder is not None:
            raise RequestError("remainder without a keras.distribution", advice="Use batch(n, drop_remainder=True)")
        return loader
    context = _part(distribution, loader.batch_size)
    advice = "Fill it up: batch(n) without drop_remainder, and to_keras(remainder='pad')"
    _check_skipping(loader.recipe.on_corrupt, remainder or "drop", advice)
    full = distribute(loader, context, remainder=remainder or "drop")
    if remainder is None and not loader.drop_remainder:
        whole = loader.loader.span_steps()
        if whole != full.loader.span_steps():
            raise RequestError(
                f"the last batch has less than {loader.batch_size} records, which the devices of a keras.distribution "
                "cannot share",
                advice="Leave it out: batch(n, drop_remainder=True); or fill it up: to_keras(remainder='pad')",
            )
    return full


def check_part(dataset: DistributedDataset) -> None:
    """Refuse the part of another process, or steps that are not full, where a distribution is set.

    Raises:
        RequestError: the devices of this process hold other rows, or cannot share a last batch.
    """
    distribution = _distribution()
    if distribution is None:
        return
    loader, own = dataset.loader, dataset.context
    batch_size = loader.split.batch_size
    wanted = _part(distribution, batch_size)
    if (own.num_input_pipelines, own.input_pipeline_id) != (wanted.num_input_pipelines, wanted.input_pipeline_id):
        raise RequestError(
            f"part {own.input_pipeline_id} of {own.num_input_pipelines} of every batch, where the keras.distribution "
            f"wants part {wanted.input_pipeline_id} of {wanted.num_input_pipelines} of this process",
            advice="Give it the whole batches: loader.to_keras() takes this process's part by itself",
        )
    advice = "Fill it up: recordio.distribute(loader, ..., remainder='pad')"
    _check_skipping(loader.recipe.on_corrupt, loader.remainder, advice)
    rest = loader.recipe.num_records * (loader.recipe.repeats or 0) % batch_size
    if loader.remainder == "empty" and (rest or loader.split.has_own_stream):
        raise RequestError(
            f"the last batch may have less than {batch_size} records, which no devices can share",
            advice="recordio.distribute(loader, ..., remainder='pad') or remainder='drop'",
        )


def warn_of_separate_models() -> None:
    """Keras on torch averages no gradients: under torchrun, each process trains a model of its own."""
    if keras.backend.backend() != "torch":
        return
    context = InputContext.detect()
    if context.num_input_pipelines > 1:
        warnings.warn(
            f"{context.detected_from} names {context.num_input_pipelines} processes, and the torch backend of Keras "
            "trains a separate model in each. Use the jax backend with keras.distribution, or ds.to_torch() with "
            "DistributedDataParallel",
            UserWarning, stacklevel=4,
        )  # fmt: skip


def _part(distribution: Any, batch_size: int) -> InputContext:
    """Which part of every batch this process gives.

    Raises:
        RequestError: the devices cannot share a batch, or the distribution would shard it again.
    """
    if _num_processes() > 1 and getattr(distribution, "auto_shard_dataset", False):
        raise RequestError(
            "the keras.distribution wants to shard the data set itself, which Keras does for tf.data alone",
            advice="keras.distribution.DataParallel(auto_shard_dataset=False): recordio gives each process its part",
        )
    from recordio.adapters.jax import part_of_process

    return part_of_process(distribution.get_data_layout((batch_size,)).backend_layout, batch_size)


def _check_skipping(on_corrupt: str, remainder: str, advice: str) -> None:
    if on_corrupt == "skip" and remainder != "pad":
        raise RequestError(
            "a batch that lost a damaged record has less rows, which the devices of a keras.distribution cannot share",
            advice=advice,
        )


def _distribution() -> Any:
    if keras.backend.backend() != "jax":
        return None
    return keras.distribution.distribution()


def _num_processes() -> int:
    import jax

    return int(jax.process_count())
