"""The transcriber: labels for a sequence of frames whose alignment is not known, by CTC."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.data.batch import Batch
from rnnlab.data.checks import as_array
from rnnlab.models.base import targets, unpacked
from rnnlab.models.ctc import Transcription, best_path, ctc_losses, frames_needed, prefix_beam
from rnnlab.models.edits import edit_distance
from rnnlab.models.generation import wide
from rnnlab.models.network import Network
from rnnlab.models.scores import Scored
from rnnlab.models.sequence import SequenceParams
from rnnlab.models.stepwise import StepwiseModel
from rnnlab.typing import Array, Cell, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcTranscriber(StepwiseModel):
    """Fewer labels than frames; see :func:`ctc_transcriber`.

    Attributes:
        blank: the class that stands for no label.
    """

    blank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.natural("blank", self.blank)
        if self.blank >= self.outputs:
            raise ValueError(
                f"blank is {self.blank}, but there are {self.outputs} classes; give a class in "
                f"0..{self.outputs - 1}"
            )

    @property
    def labels(self) -> int:
        return self.outputs

    def check_batch(self, batch: Batch) -> None:
        """ValueError as for other models, and for labels that the frames cannot hold."""
        super().check_batch(batch)
        labels, label_lengths = _labels(batch)
        counts = np.asarray(within(label_lengths, len(labels)))
        if batch.mask is not None and (counts != as_array("mask", batch.mask).astype(bool)).any():
            raise ValueError(
                "mask leaves out a label before one that counts; give the labels of each sequence "
                "first, and its padding after them"
            )
        is_blank = counts & np.asarray(labels == self.blank)
        if is_blank.any():
            place = np.argwhere(is_blank)[0].tolist()
            raise ValueError(
                f"targets{place} is the blank, {self.blank}; give labels other than it, or another "
                "blank"
            )
        lengths = np.asarray(_lengths(batch, np.shape(batch.xs)))
        needed = np.asarray(frames_needed(labels, label_lengths))
        too_short = np.flatnonzero(needed > lengths)
        if too_short.size:
            first = int(too_short[0])
            raise ValueError(
                f"sequence {first} has {lengths[first]} frames, but its {label_lengths[first]} "
                f"labels need {needed[first]}, one for each and one for the blank between equal "
                "neighbours; leave it out, or give it more frames"
            )

    def apply(self, params: SequenceParams, batch: Batch, *, key: Key | None = None) -> Array:
        """The logits of each frame, ``[T, B, classes]``."""
        unpacked(batch)
        return super().apply(params, batch, key=key)

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean of −ln P(labels | x), in nats for each label, and "label_error_rate"."""
        labels, label_lengths = _labels(batch)
        counts = within(label_lengths, len(labels))
        is_legal = (labels >= 0) & (labels < self.outputs) & (labels != self.blank)
        is_bad = jnp.any(counts & ~is_legal)
        if batch.mask is not None:
            is_bad = is_bad | jnp.any(counts != (_check.array("mask", batch.mask) != 0))
        # A sequence without labels does not count, and its logits may be NaN.
        is_counted = label_lengths > 0
        logits = jnp.where(is_counted[:, None], wide(outputs), 0)
        lengths = _lengths(batch, outputs.shape)
        losses = ctc_losses(logits, lengths, labels, label_lengths, self.blank)
        count = jnp.sum(label_lengths)
        value = jnp.sum(losses, where=is_counted) / jnp.maximum(count, 1)
        read = best_path(logits, lengths, self.blank)
        errors = edit_distance(
            read.labels, labels, lengths=read.lengths, other_lengths=label_lengths
        )
        rate = jnp.sum(errors, where=is_counted) / jnp.maximum(count, 1)
        metrics = {"label_error_rate": rate.astype(value.dtype), "count": count}
        return jnp.where(is_bad, jnp.nan, value), metrics

    def decode(self, params: Any, batch: Batch, *, beams: int | None = None) -> Transcription:
        """The labels of each sequence; the targets of the batch are not read.

        Args:
            params: the parameters.
            batch: the inputs.
            beams: the candidates of a beam search over prefixes, which sums the paths of each
                labelling; None for the labels of the single best path.
        """
        logits = wide(self.apply(params, batch))
        lengths = _lengths(batch, logits.shape)
        if beams is None:
            return best_path(logits, lengths, self.blank)
        return prefix_beam(logits, lengths, self.blank, _check.positive_int("beams", beams))


def _lengths(batch: Batch, shape: tuple[int, ...]) -> Array:
    """The frames of each sequence, ``[B]``, for inputs or outputs of a shape."""
    steps, count = shape[:2]
    if batch.lengths is None:
        return jnp.full(count, steps)
    return _check.lengths(batch.lengths, steps, (count,))


def _labels(batch: Batch) -> tuple[Array, Array]:
    """The labels ``[N, B]`` and how many of them count, ``[B]``."""
    labels = targets(batch)
    count = np.shape(batch.xs)[1]
    is_whole = jnp.issubdtype(labels.dtype, jnp.integer)
    if not is_whole or labels.ndim != 2 or labels.shape[1] != count or not labels.size:
        raise ValueError(
            f"targets are {labels.dtype}{list(labels.shape)}; they must be labels, whole numbers "
            f"[N, {count}] with the labels of a sequence in its column, at least one row"
        )
    labels = _check.codes("targets", labels)
    if batch.mask is None:
        return labels, jnp.full(count, len(labels))
    mask = _check.flags("mask", batch.mask, labels.shape, "label")
    return labels, jnp.sum(mask, axis=0)


def ctc_transcriber(
    cell: Cell | Network,
    classes: int,
    *,
    blank: int = 0,
    vocabulary_size: int | None = None,
    embedding_size: int | None = None,
    dropout: float = 0.0,
    engine: str = "auto",
) -> CtcTranscriber:
    """A model that reads frames and writes fewer labels, whose places in time are not known.

    Connectionist temporal classification (Graves et al. 2006): the logits W hₜ + b of the outputs h
    of the cell are those of a label or of the blank at each frame, and
    P(l | x) = Σ Πₜ P(πₜ | x) over all paths π that are l without repetitions and blanks, by
    :func:`optax.ctc_loss`.

    A batch has xs ``[T, B, I]`` and the ``lengths [B]`` of these frames, targets ``[N, B]`` in
    0..classes−1 other than the blank, and a ``mask [N, B]`` that is True for the labels of each
    sequence and False for the padding after them; a sequence without labels does not count.
    ``apply`` returns logits ``[T, B, classes]``, ``decode`` the labels. The loss is −ln P over the
    number of labels, in nats for each; "label_error_rate" is the edit distance between the labels
    of the best path and the targets, over the number of labels.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import ctc_transcriber
    >>> model = ctc_transcriber(rnnlab.bidirectional(rnnlab.LSTM(8)), classes=5)
    >>> frames, labels = jnp.ones((20, 3, 2)), jnp.array([[1, 4, 3], [2, 4, 1]])  # [2, 3]
    >>> batch = rnnlab.data.Batch(frames, labels, lengths=jnp.array([20, 3, 11]))
    >>> params = model.init(jax.random.key(0), batch)
    >>> loss, metrics = model.loss(params, batch)
    >>> list(metrics), model.decode(params, batch, beams=4).labels.shape
    (['label_error_rate', 'count'], (20, 3))

    Args:
        cell: any cell or layer, or a network without recurrence such as :class:`Transformer`; what
            reads in one direction can write while it reads.
        classes: C, the number of labels and one for the blank.
        blank: the class of the blank.
        vocabulary_size: V, for inputs that are codes; None for vectors.
        embedding_size: E, the size of the embedding of codes; ``cell.hidden_size`` by default.
        dropout: on the embedding and on the outputs of the cell, where a ``key`` is given.
        engine: how the cell runs, as in :func:`rnnlab.unroll`.

    Raises:
        ValueError: as for a tagger, and for a blank that is not a class; in ``fit``, ``evaluate``
            and ``check_batch``, for a sequence with fewer frames than its labels and a blank
            between equal neighbours need. In compiled code its loss is NaN.
    """
    return CtcTranscriber(
        cell=cell,
        outputs=_check.positive_int("classes", classes),
        blank=blank,
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
        dropout=dropout,
        engine=engine,
    )
