"""Adapters: what a framework's own loops take, made of data sets. One module for each framework, which it needs.

    keras         batches -> keras.utils.PyDataset
    tensorflow    batches -> tf.data.Dataset
    torch         records -> map-style Dataset; batches -> IterableDataset
    jax           batches -> global jax.Array, over any sharding
    grain         records -> RandomAccessDataSource
    huggingface   records -> datasets.IterableDataset

What is read, and by whom, is decided in `recordio.plan` and `recordio.distributed`; these only hand it over.

Spec: spec/adapters.md.
"""
