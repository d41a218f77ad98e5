"""What an adapter costs in training: the same framework, model and loop, fed by us and with ready numpy batches.

    tools/bench --training                     every framework
    tools/bench --training jax keras-jax       some of them

Batches of 256 small images with labels, a small perceptron, both feeds in turn in one process, epoch by epoch. "grain"
hands batches of ours through Grain, "grain-records" has it make them of single records; either side is a source of the
same kind in memory there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench_parts.environments import versions
from bench_parts.running import run_process
from bench_parts.workloads import Workload, make_workload

FRAMEWORKS = ("keras-jax", "keras-torch", "keras-tensorflow", "torch", "jax", "tensorflow", "grain", "grain-records")
ORDERS = ("in order", "shuffled")
MOST = 1.15  # of the time with ready batches
BATCH_SIZE, NUM_HIDDEN, NUM_CLASSES = 256, 256, 10
_SHARE = 0.25  # of the workload: 50,000 records
_LIMIT_S = 600.0
_VERSIONS = ("keras", "jax", "torch", "tensorflow-cpu", "grain", "numpy")

Batch = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Epoch = Callable[[Any], None]  # trains on every batch of a feed
# "ready", and ours by order; "ready, shuffled" where the framework shuffles. Each call gives the feed of one epoch.
Feeds = dict[str, Callable[[], Any]]


def main(arguments: Sequence[str]) -> int:
    """Measure; 1 if an adapter takes more than it may."""
    parser = argparse.ArgumentParser(
        prog="tools/bench --training", description="Time of an epoch of training, over that with ready numpy batches.",
    )  # fmt: skip
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help=f"some of {', '.join(FRAMEWORKS)}")
    parser.add_argument("--share", type=float, default=_SHARE, help=f"of 200,000 records ({_SHARE:g})")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="epochs of each feed, after one (5)")
    parser.add_argument("--json", action="store_true", help="every epoch, as one JSON object on stdout")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.frameworks if name not in FRAMEWORKS]
    if unknown:
        parser.error(f"no such framework: {', '.join(unknown)}; there are {', '.join(FRAMEWORKS)}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="recordio-bench-") as directory:
        workload = make_workload("small_images", os.path.join(directory, "workload"), share=options.share)
        for name in options.frameworks or FRAMEWORKS:
            request = {
                "framework": name, "workload": workload.path, "path": os.path.join(directory, "files"),
                "repeats": options.repeats,
            }  # fmt: skip
            found[name] = run_process(
                "training", "bench_parts.training", request, limit_s=_LIMIT_S, directory=directory
            )  # fmt: skip
            print(f"{name}: {_line(found[name])}", file=sys.stderr, flush=True)
    ratios = {name: found[name].get("ratios", {}) for name in found}
    missed = [f"{name}, {order}" for name in found for order in ORDERS if not ratios[name].get(order, 9.0) <= MOST]
    if options.json:
        print(json.dumps({"frameworks": found, "missed": missed}))
    else:
        print(f"{versions('training', _VERSIONS)}\n")
        print("| framework | " + " | ".join(ORDERS) + " |\n|---|" + "---|" * len(ORDERS))
        for name in found:
            cells = (f"{ratios[name][order]:.2f}" if order in ratios[name] else "-" for order in ORDERS)
            print(f"| {name} | {' | '.join(cells)} |")
    return 1 if missed else 0


def _line(found: dict[str, Any]) -> str:
    if "error" in found:
        return str(found["error"])
    return ", ".join(f"{order} {ratio:.2f}" for order, ratio in found["ratios"].items())


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds of every epoch of every feed, and the ratios of their medians to that of the ready batches."""
    kind, _, backend = request["framework"].partition("-")
    if kind == "keras":
        os.environ["KERAS_BACKEND"] = backend  # before Keras is imported
    import recordio

    path = Path(request["path"])
    if not path.exists():
        workload = Workload.open(request["workload"])
        recordio.convert(
            recordio.from_tensor_slices({name: np.array(values) for name, values in workload.values.items()}), path
        )
    ds = recordio.open(path)
    make = {
        "keras": _keras, "torch": _torch, "jax": _jax, "tensorflow": _tensorflow, "grain": _grain,
        "grain-records": _grain_records,
    }  # fmt: skip
    epoch, feeds = make[kind if kind == "keras" else request["framework"]](ds)
    seconds: dict[str, list[float]] = {name: [] for name in feeds}
    for repeat in range(request["repeats"] + 1):
        for name, feed in feeds.items():
            began = time.perf_counter()
            epoch(feed())
            if repeat:  # the first one compiles
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    ratios = {name: medians[name] / medians.get(f"ready, {name}", medians["ready"]) for name in ORDERS}
    return {"seconds": seconds, "ratios": ratios}


def _ready(ds: Any) -> list[Batch]:
    return [(batch["image"], batch["label"]) for batch in ds.batch(BATCH_SIZE, drop_remainder=True)]


def _loaders(ds: Any) -> dict[str, Any]:
    rows = {"in order": ds, "shuffled": ds.shuffle(seed=0)}
    return {name: rows[name].batch(BATCH_SIZE, drop_remainder=True) for name in ORDERS}


def _keras(ds: Any) -> tuple[Epoch, Feeds]:
    import keras

    class Ready(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, batches: list[Batch]) -> None:
            super().__init__()
            self.batches = batches

        def __len__(self) -> int:
            return len(self.batches)

        def __getitem__(self, index: int) -> Batch:
            return self.batches[index]

    model = keras.Sequential([
        keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(NUM_HIDDEN, "relu"),
        keras.layers.Dense(NUM_CLASSES),
    ])  # fmt: skip
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ready = Ready(_ready(ds))
    feeds: Feeds = {"ready": lambda: ready}
    for name, loader in _loaders(ds).items():
        feeds[name] = partial(_same, loader.to_keras(x="image", y="label"))
    return lambda feed: model.fit(feed, shuffle=False, verbose=0), feeds


def _torch(ds: Any) -> tuple[Epoch, Feeds]:
    import torch

    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(28 * 28, NUM_HIDDEN), torch.nn.ReLU(),
        torch.nn.Linear(NUM_HIDDEN, NUM_CLASSES),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(batches: Iterable[Any]) -> None:
        for image, label in batches:
            loss = torch.nn.functional.cross_entropy(model(image.float() / 255), label.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    ready = _ready(ds)
    feeds: Feeds = {"ready": lambda: ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in ready)}
    for name, loader in _loaders(ds).items():
        feeds[name] = partial(_pairs, loader.to_torch())
    return train, feeds


def _same(feed: Any) -> Any:
    return feed


def _pairs(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        yield batch["image"], batch["label"]


def _jax_epoch() -> Epoch:
    import jax
    import jax.numpy as jnp

    first, second = jax.random.split(jax.random.key(0))
    weights = [
        jax.random.normal(first, (28 * 28, NUM_HIDDEN)) / 28, jax.random.normal(second, (NUM_HIDDEN, NUM_CLASSES)) / 16
    ]  # fmt: skip

    def loss(weights: Any, image: Any, label: Any) -> Any:
        hidden = jax.nn.relu(image.reshape(len(image), -1).astype(jnp.float32) / 255 @ weights[0])
        chances = jax.nn.log_softmax(hidden @ weights[1])
        return -jnp.take_along_axis(chances, label.astype(jnp.int32)[:, None], 1).mean()

    def step(weights: Any, image: Any, label: Any) -> Any:
        return jax.tree.map(lambda w, g: w - 0.01 * g, weights, jax.grad(loss)(weights, image, label))

    compiled = jax.jit(step)

    def train(batches: Iterable[Any]) -> None:
        nonlocal weights
        for image, label in batches:
            weights = compiled(weights, image, label)
        jax.block_until_ready(weights)

    return train


def _jax(ds: Any) -> tuple[Epoch, Feeds]:
    import jax

    ready = _ready(ds)
    feeds: Feeds = {"ready": lambda: (jax.device_put(batch) for batch in ready)}
    for name, loader in _loaders(ds).items():
        feeds[name] = partial(_pairs, loader.to_jax())
    return _jax_epoch(), feeds


def _tensorflow(ds: Any) -> tuple[Epoch, Feeds]:
    import tensorflow as tf

    weights = [
        tf.Variable(tf.random.normal((28 * 28, NUM_HIDDEN), seed=1) / 28),
        tf.Variable(tf.random.normal((NUM_HIDDEN, NUM_CLASSES), seed=2) / 16),
    ]

    @tf.function  # type: ignore[untyped-decorator]
    def step(image: Any, label: Any) -> None:
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(tf.cast(tf.reshape(image, (BATCH_SIZE, -1)), tf.float32) / 255 @ weights[0])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(label, tf.int32), hidden @ weights[1])
            loss = tf.reduce_mean(losses)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.01 * gradient)

    def train(batches: Iterable[Any]) -> None:
        for image, label in batches:
            step(image, label)

    ready = _ready(ds)
    signature = tuple(tf.TensorSpec((BATCH_SIZE, *one.shape[1:]), one.dtype) for one in ready[0])
    feeds: Feeds = {"ready": lambda: tf.data.Dataset.from_generator(lambda: iter(ready), output_signature=signature)}
    for name, loader in _loaders(ds).items():
        feeds[name] = partial(_pairs, loader.to_tf())
    return train, feeds


def _grain(ds: Any) -> tuple[Epoch, Feeds]:
    import grain.python as grain
    import jax

    # Grain's own 16 threads and 500 elements are meant for single records.
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)

    def feed(source: Any) -> Iterator[Any]:
        for batch in grain.MapDataset.source(source).to_iter_dataset(options):
            yield jax.device_put((batch["image"], batch["label"]))

    ready = [{"image": image, "label": label} for image, label in _ready(ds)]
    feeds: Feeds = {"ready": partial(feed, ready)}
    for name, loader in _loaders(ds).items():
        feeds[name] = partial(_epochs, loader, feed)
    return _jax_epoch(), feeds


def _epochs(loader: Any, feed: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """The next epoch, as a source of its own."""
    loader.set_epoch(loader.state_dict()["epoch"] + 1)
    return feed(loader.to_grain())


def _grain_records(ds: Any) -> tuple[Epoch, Feeds]:
    import grain.python as grain
    import jax

    everything = ds[list(range(len(ds)))]

    class Ready:
        def __len__(self) -> int:
            return len(ds)

        def __getitem__(self, index: Any) -> Any:
            return {name: values[index] for name, values in everything.items()}

        def __repr__(self) -> str:
            return "ready"

    def feed(source: Any, *, shuffled: bool) -> Iterator[Any]:
        found = grain.MapDataset.source(source)
        if shuffled:
            found = found.shuffle(seed=0)
        for batch in found.batch(BATCH_SIZE, drop_remainder=True).to_iter_dataset():
            yield jax.device_put((batch["image"], batch["label"]))

    own = ds.to_grain()
    return _jax_epoch(), {
        "ready": lambda: feed(Ready(), shuffled=False),
        "ready, shuffled": lambda: feed(Ready(), shuffled=True),
        "in order": lambda: feed(own, shuffled=False),
        "shuffled": lambda: feed(own, shuffled=True),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
