"""Operators that there are in tf.data and not here: an error that says what to do instead, never an AttributeError.

Spec: spec/order.md; design.md, section 4.
"""

from __future__ import annotations

from typing import Any, NoReturn

from recordio.errors import RequestError

INSTEAD = {
    "filter": "Find the records once, and take them by number: ds.subset(indices); or filter before converting",
    "flat_map": "One record becomes one record: expand them before converting, or map to a ragged column",
    "interleave": "A shuffle reads many shards at once already: ds.shuffle(seed=0)",
    "unbatch": "Leave batch out: a data set gives single records",
    "cache": "recordio.open(..., cache_size=) keeps decoded frames, and a shuffle of a small data set keeps all of it",
    "rebatch": "Batch once, with the size that is wanted",
    "concatenate": "Convert both into one data set, or read one after the other",
    "apply": "Call the function with the data set",
    "window": "Batches are windows: ds.batch(n); overlapping ones are made before converting",
    "group_by_window": "Sort by length before converting, and use padded_batch",
    "bucket_by_sequence_length": "Sort by length before converting, and use padded_batch",
    "enumerate": "In Python: enumerate(ds); to keep a number with its record, store it as a column",
    "scan": "Order-dependent transformations are made before converting",
    "reduce": "Read it: for batch in loader: ...",
}


def refuse(name: str) -> NoReturn:
    """Raise the error of an operator that there is not.

    Raises:
        RequestError: always.
    """
    raise RequestError(f"there is no {name} on a recordio data set", advice=INSTEAD[name])


class RefusedOperators:
    """Raises for the operators of tf.data that there are not."""

    def __getattr__(self, name: str) -> Any:
        if name in INSTEAD:
            return lambda *_args, **_kwargs: refuse(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
