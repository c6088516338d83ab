"""Connectionist temporal classification: labels that are fewer than the frames they are read from.

A path π gives each frame a label or the blank. Without its repetitions, and then without its
blanks, it is a labelling, B(π); its probability is that of all its paths,

    P(l | x) = Σ_{π: B(π) = l} Πₜ P(πₜ | x)

(Graves, Fernández, Gomez & Schmidhuber 2006, "Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks").
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rnnlab._results import result
from rnnlab.cells.base import within
from rnnlab.typing import Array


@result
class Transcription(NamedTuple):
    """The labels of each sequence.

    Attributes:
        labels: ``[T, B]``, the labels first, then −1.
        lengths: how many labels there are, ``[B]``.
        log_probability: of the best path, ln Πₜ P(πₜ | x); of a beam search, ln P(labels | x) over
            the paths that it kept; in nats, ``[B]``.
    """

    labels: Array
    lengths: Array
    log_probability: Array


def frames_needed(labels: Array, label_lengths: Array) -> Array:
    """The least number of frames for labels ``[N, B]``: one for each, one blank between equals."""
    is_equal = labels[1:] == labels[:-1]
    return label_lengths + jnp.sum(is_equal & within(label_lengths - 1, len(is_equal)), axis=0)


def ctc_losses(
    logits: Array, lengths: Array, labels: Array, label_lengths: Array, blank: int
) -> Array:
    """−ln P(labels | x) of each sequence, ``[B]``, in nats, by optax.

    NaN where there are fewer frames than the labels need, so that no path exists; optax would
    return a large number.

    Args:
        logits: ``[T, B, C]``.
        lengths: the frames of each sequence, ``[B]``.
        labels: ``[N, B]`` in 0..C−1, none the blank.
        label_lengths: the labels of each sequence, ``[B]``.
        blank: the class of the blank.
    """
    frame_padding = ~within(lengths, len(logits))
    label_padding = ~within(label_lengths, len(labels))
    # The padding must not repeat the last label.
    labels = jnp.where(label_padding, blank, labels)
    losses = optax.ctc_loss(
        jnp.swapaxes(logits, 0, 1),
        frame_padding.T.astype(logits.dtype),
        labels.T,
        label_padding.T.astype(logits.dtype),
        blank_id=blank,
    )
    return jnp.where(frames_needed(labels, label_lengths) <= lengths, losses, jnp.nan)


@functools.partial(jax.jit, static_argnames="blank")
def best_path(logits: Array, lengths: Array, blank: int) -> Transcription:
    """The labels of the most likely path: argmaxₜ, without repetitions and blanks."""
    steps, count, _ = logits.shape
    valid = within(lengths, steps)
    path = jnp.argmax(logits, axis=-1)
    before = jnp.concatenate([jnp.full_like(path[:1], blank), path[:-1]])
    is_label = (path != blank) & (path != before) & valid
    # Each label goes to its place in the labelling; all else beyond the end, where it is dropped.
    place = jnp.where(is_label, jnp.cumsum(is_label, axis=0) - 1, steps)
    labels = jnp.full_like(path, -1).at[place, jnp.arange(count)].set(path, mode="drop")
    logs = jnp.max(jax.nn.log_softmax(logits), axis=-1)
    return Transcription(labels, jnp.sum(is_label, axis=0), jnp.sum(logs, axis=0, where=valid))


class _Beams(NamedTuple):
    """W prefixes, and the probability of all paths to each that end in a blank or in a label."""

    prefixes: Array  # [W, T], −1 beyond the end
    lengths: Array  # [W]
    ending_blank: Array  # [W], logarithms
    ending_label: Array  # [W]

    @property
    def total(self) -> Array:
        return jnp.logaddexp(self.ending_blank, self.ending_label)


@functools.partial(jax.jit, static_argnames=("blank", "beams"))
def prefix_beam(logits: Array, lengths: Array, blank: int, beams: int) -> Transcription:
    """The labelling that a search over prefixes with so many candidates finds.

    A prefix holds all paths that begin with its labels, so that those of one labelling are summed
    (Hannun et al. 2014, arXiv 1408.2873, without a language model). With as many beams as there are
    prefixes it finds the labelling with the largest P(l | x) exactly.
    """
    logs = jax.nn.log_softmax(logits)
    valid = within(lengths, len(logits))

    def search(logs: Array, valid: Array) -> _Beams:
        """Of one sequence, ``[T, C]`` and ``[T]``."""
        never = jnp.full(beams, -jnp.inf, logs.dtype)
        start = _Beams(
            prefixes=jnp.full((beams, len(logs)), -1),
            lengths=jnp.zeros(beams, int),
            ending_blank=never.at[0].set(0),
            ending_label=never,
        )

        def step(old: _Beams, now: tuple[Array, Array]) -> tuple[_Beams, None]:
            frame, is_valid = now
            new = _extended(old, frame, blank)
            return jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), new, old), None

        return lax.scan(step, start, (logs, valid))[0]

    found = jax.vmap(search, in_axes=1)(logs, valid)
    best = jax.tree.map(lambda leaf: leaf[:, 0], found)
    return Transcription(best.prefixes.T, best.lengths, best.total)


def _extended(old: _Beams, frame: Array, blank: int) -> _Beams:
    """The best prefixes after a frame with the log-probabilities ``[C]``."""
    count, classes = len(old.lengths), frame.size
    rows = jnp.arange(count)
    last = old.prefixes[rows, jnp.maximum(old.lengths - 1, 0)]
    is_last = last[:, None] == jnp.arange(classes)
    # A blank, or the last label once more, leaves the prefix as it is.
    stay_blank = old.total + frame[blank]
    stay_label = jnp.where(old.lengths > 0, old.ending_label + frame[last], -jnp.inf)
    # The last label anew needs a blank before it.
    grown = frame + jnp.where(is_last, old.ending_blank[:, None], old.total[:, None])
    grown = grown.at[:, blank].set(-jnp.inf)
    # Where a prefix and a label are another prefix of the beam, that one takes their paths.
    joined = _is_child(old)
    taken = jnp.where(joined, grown[:, last], -jnp.inf)
    stay_label = jnp.logaddexp(stay_label, jnp.max(taken, axis=0))
    is_taken = jnp.any(joined[:, :, None] & is_last, axis=1)
    grown = jnp.where(is_taken, -jnp.inf, grown)

    scores = jnp.concatenate([jnp.logaddexp(stay_blank, stay_label), grown.ravel()])
    scores, chosen = lax.top_k(scores, count)
    is_stay = chosen < count
    parent = jnp.where(is_stay, chosen, (chosen - count) // classes)
    label = (chosen - count) % classes
    lengths = old.lengths[parent]
    place = jnp.where(is_stay, old.prefixes.shape[1], lengths)
    return _Beams(
        prefixes=old.prefixes[parent].at[rows, place].set(label, mode="drop"),
        lengths=lengths + ~is_stay,
        ending_blank=jnp.where(is_stay, stay_blank[parent], -jnp.inf),
        ending_label=jnp.where(is_stay, stay_label[parent], scores),
    )


def _is_child(old: _Beams) -> Array:
    """Whether prefix j is prefix i and one label more, ``[i, j]``; only where j has any path."""
    places = jnp.arange(old.prefixes.shape[1])
    is_same = old.prefixes[:, None] == old.prefixes
    begins = jnp.all(is_same | (places >= old.lengths[:, None, None]), axis=-1)
    is_longer = old.lengths[None] == old.lengths[:, None] + 1
    # Beams that no path has reached may repeat others.
    return begins & is_longer & (old.total > -jnp.inf)
