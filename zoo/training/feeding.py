"""Batches as the backend's `fit` takes them: the next one is made while the network learns from this one."""

from __future__ import annotations

from typing import Any

import keras


def feed(batches: keras.utils.PyDataset) -> Any:
    """The batches themselves, or on TensorFlow a dataset of them that tf.data does not tune.

    Keras makes such a dataset itself, but a tuned one: the thread that tunes it sleeps twice as long each
    time, and an epoch may end only when it wakes, late by up to as long as the epoch took.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def spec(array: Any) -> tf.TensorSpec:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    def each() -> Any:
        return (batches[i] for i in range(len(batches)))

    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_generator(
        each, output_signature=keras.tree.map_structure(spec, batches[0])
    )
    counted = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return counted.prefetch(1).with_options(options)
