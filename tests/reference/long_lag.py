"""Slow twins of the tasks with a long lag, and the best predictor without memory, by counting."""

import math

import jax
import numpy as np

from tests.reference import tasks


def draw(task, seed=0, batch_size=64):
    """A batch as NumPy arrays."""
    return tasks.draw(task, jax.random.key(seed), batch_size)


def class_loss(task, contexts, count, seen, fresh):
    """The cross-entropy on ``fresh`` of the frequencies of classes in each context of ``seen``.

    ``contexts(batch)`` gives whole numbers below ``count``, shaped like the targets.
    """
    frequencies = np.full((count, task.outputs), 1e-6)
    np.add.at(frequencies, (contexts(seen), seen.targets), 1)
    p = frequencies / frequencies.sum(axis=1, keepdims=True)
    losses = -np.log(p[contexts(fresh), fresh.targets])
    return losses.mean(where=True if fresh.mask is None else fresh.mask)


def number_loss(contexts, count, seen, fresh):
    """The mean squared error on ``fresh`` of the mean target in each context of ``seen``.

    ``contexts(batch)`` gives whole numbers below ``count``, shaped like the targets.
    """
    sums = np.bincount(contexts(seen).ravel(), seen.targets.ravel(), count)
    counts = np.bincount(contexts(seen).ravel(), minlength=count)
    means = sums / np.maximum(counts, 1)
    errors = (means[contexts(fresh)] - fresh.targets) ** 2
    if fresh.mask is None:
        return errors.mean()
    return errors.mean(where=np.broadcast_to(fresh.mask[..., None], errors.shape))


def farthest(twin, task, xs, change):
    """The largest number of steps between a changed input and a target that changes with it.

    ``change(xs, t)`` changes step t of one example; ``twin(task, xs)`` gives the targets.
    """
    targets = twin(task, xs)
    lags = []
    for t in range(task.steps):
        changed, *_ = np.nonzero(twin(task, change(xs.copy(), t)) != targets)
        last = task.steps - 1 if "each step" not in task.kind else changed.max(initial=-1)
        if changed.size:
            lags.append(last - t)
    return max(lags, default=0)


def two_numbers(task, xs):
    """Targets of the adding and of the multiplication problem."""
    targets = []
    for b in range(xs.shape[1]):
        first, second = [xs[t, b, 0] for t in range(len(xs)) if xs[t, b, 1] == 1]
        if not hasattr(task, "scaling"):
            target = first * second
        elif task.scaling == "sum":
            target = first + second
        elif task.scaling == "pascanu":
            target = (first + second) / 2
        else:
            target = 0.5 + (first + second) / 4
        targets.append(target)
    return np.array(targets)


def held(task, xs):
    """Targets of the flip-flop task."""
    targets = np.zeros_like(xs)
    for b in range(xs.shape[1]):
        last = np.zeros(task.bits)
        for t in range(len(xs)):
            for channel in range(task.bits):
                if xs[t, b, channel]:
                    last[channel] = xs[t, b, channel]
            targets[t, b] = last
    return targets


def copied(task, xs):
    """Targets of the copy tasks."""
    targets = np.full_like(xs, task.symbols)
    for b in range(xs.shape[1]):
        waiting = None
        for t in range(len(xs)):
            if waiting:
                targets[t, b] = waiting.pop(0)
            if xs[t, b] == task.symbols + 1:
                waiting = list(xs[: task.items, b])
    return targets


def order(task, xs):
    """Targets of the temporal order problem."""
    targets = []
    for b in range(xs.shape[1]):
        target, place_value = 0, 1
        for t in range(len(xs)):
            if xs[t, b] < 2:
                target += place_value * xs[t, b]
                place_value *= 2
        assert place_value == 2**task.symbols
        targets.append(target)
    return np.array(targets)


def repeated(task, xs):
    """Targets of the noise-free long lag."""
    targets = np.zeros_like(xs)
    for b in range(xs.shape[1]):
        for t in range(len(xs)):
            targets[t, b] = xs[t + 1, b] if t + 1 < task.steps else xs[0, b]
    return targets


def xor(task, xs):
    """Targets of the delayed XOR; 0 where it is undefined."""
    targets = np.zeros_like(xs)
    for b in range(xs.shape[1]):
        for t in range(task.delay + 1, len(xs)):
            targets[t, b] = xs[t - task.delay, b] != xs[t - task.delay - 1, b]
    return targets


def entropy(*probabilities):
    """In nats."""
    return -sum(p * math.log(p) for p in probabilities if p)
