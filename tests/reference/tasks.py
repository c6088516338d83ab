"""What every synthetic task must hold, and predictors without memory fitted to samples."""

import jax
import numpy as np

from rnnlab.data import check_batch

SAMPLE = jax.jit(lambda task, key, batch_size: task.sample(key, batch_size), static_argnums=(0, 2))


def draw(task, key, batch_size=6000):
    """A batch as NumPy arrays; a task and a size are compiled once, so most tests share a size."""
    return jax.tree.map(np.asarray, SAMPLE(task, key, batch_size))


def check_contract(task, batch_size=7):
    """Shapes, dtypes, keys, and a sample that is mapped, for any task."""
    batch = draw(task, jax.random.key(0), batch_size)
    classes = task.outputs if "class" in task.kind else None
    check_batch(batch, vocabulary_size=task.vocabulary_size, classes=classes)
    shape = (task.steps, batch_size)
    if task.vocabulary_size is None:
        assert batch.xs.shape == (*shape, task.input_size)
        assert batch.xs.dtype == np.float32
    else:
        assert task.input_size is None
        assert batch.xs.shape == shape
        assert batch.xs.dtype == np.int32
    lead = shape if "each step" in task.kind else shape[1:]
    if "class" in task.kind:
        assert batch.targets.shape == lead
        assert batch.targets.dtype == np.int32
    else:
        features = () if batch.targets.ndim == 1 else (task.outputs,)
        assert batch.targets.shape == (*lead, *features)
        assert batch.targets.dtype == np.float32
    if batch.mask is not None:
        assert batch.mask.shape == lead
        assert batch.mask.dtype == bool
    assert 0 < task.lag < task.steps
    assert 0 <= task.floor() < task.baseline()
    twin = type(task)(**vars(task))
    assert task == twin
    assert hash(task) == hash(twin)
    check_keys(task, batch)


def check_keys(task, batch):
    """Equal keys give equal batches, others do not, and 32 bits are enough."""
    batch_size = batch.xs.shape[1]
    keys = jax.random.split(jax.random.key(1), 3)
    mapped = jax.jit(jax.vmap(lambda key: task.sample(key, batch_size)))(keys)
    mapped = jax.tree.map(np.asarray, mapped)
    for index in range(3):
        one = jax.tree.map(lambda x, index=index: x[index], mapped)
        same(SAMPLE(task, keys[index], batch_size), one)
    assert (mapped.xs[0] != mapped.xs[1]).any()
    assert (mapped.targets[0] != mapped.targets[1]).any()
    with jax.enable_x64(False):
        narrow = draw(task, jax.random.key(0), batch_size)
    same(narrow, batch)


def same(actual, expected):
    """The same whole numbers and booleans, and floats but for rounding: programs differ in it."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6), actual, expected)


def columns(batch, count):
    """The first examples of a batch of codes."""
    return jax.tree.map(lambda leaf: leaf[..., :count], batch)


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
