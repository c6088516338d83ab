"""What every synthetic task must hold, and predictors without memory fitted to samples."""

import dataclasses
import functools

import jax
import numpy as np

from rnnlab.data import check_batch

SAMPLE = jax.jit(lambda task, key, batch_size: task.sample(key, batch_size), static_argnums=(0, 2))


def draw(task, key, batch_size=6000):
    """A batch as NumPy arrays; a task and a size are compiled once, so most tests share a size."""
    return jax.tree.map(np.asarray, SAMPLE(task, key, batch_size))


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw_each(task, keys, batch_size):
    return jax.vmap(lambda key: task.sample(key, batch_size))(keys)


def check_task(task, batch_size=6000):
    """A pure sampler with the task's own sizes, and 32 bits also in x64; a hashable task."""
    keys = jax.random.split(jax.random.key(3), 2)
    first, second = (draw(task, key, batch_size) for key in keys)
    classes = task.outputs if task.kind.startswith("class") else None
    check_batch(first, vocabulary_size=task.vocabulary_size, classes=classes)
    assert first.xs.shape[:2] == (task.steps, batch_size)
    if task.vocabulary_size is None:
        assert first.xs.shape[2:] == (task.input_size,)
        assert first.xs.dtype == np.float32
    else:
        assert first.xs.dtype == np.int32
        assert task.input_size is None
    shape = (task.steps, batch_size) if task.kind.endswith("each step") else (batch_size,)
    assert first.targets.shape == shape
    assert first.targets.dtype == np.int32
    assert np.any(first.xs != second.xs)
    mapped = draw_each(task, keys, batch_size)
    for index, single in enumerate((first, second)):
        jax.tree.map(functools.partial(same_entry, index), mapped, single)
    assert hash(dataclasses.replace(task)) == hash(task)
    assert 0 < task.lag < task.steps
    assert 0 <= task.floor() < task.baseline()


def columns(batch, count):
    """The first examples of a batch of codes."""
    return jax.tree.map(lambda leaf: leaf[..., :count], batch)


def same_entry(index, stacked, single):
    np.testing.assert_array_equal(stacked[index], single)


def counted(batch):
    """Inputs and targets of the steps that count, ``[N]`` each."""
    mask = np.ones(batch.targets.shape, bool) if batch.mask is None else np.asarray(batch.mask)
    return np.asarray(batch.xs)[mask], np.asarray(batch.targets)[mask]


def memoryless_loss(inputs, targets):
    """The loss of the predictor that gives each target its frequency after the same input."""
    loss = 0.0
    for symbol in np.unique(inputs):
        after = targets[inputs == symbol]
        for target in np.unique(after):
            count = np.sum(after == target)
            loss -= count * np.log(count / after.size)
    return loss / targets.size


def assert_uniform(counts):
    """Counts of equally probable cases, within five standard deviations."""
    counts = np.asarray(counts)
    total, cases = counts.sum(), counts.size
    deviation = np.sqrt(total * (1 / cases) * (1 - 1 / cases))
    assert np.abs(counts - total / cases).max() < 5 * deviation
