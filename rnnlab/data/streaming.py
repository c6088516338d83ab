"""A long text as parallel streams, for truncated backpropagation through time."""

import dataclasses
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.data.checks import as_array, check_codes
from rnnlab.data.order import check_seed


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """``data[i] -> Batch``, see :func:`streams`."""

    codes: np.ndarray
    batch_size: int
    length: int
    context: int
    seed: int

    def __repr__(self) -> str:
        return _check.summary(
            self,
            codes=self.codes.size,
            batch_size=self.batch_size,
            length=self.length,
            context=self.context,
            seed=self.seed,
            batches_per_epoch=self.batches_per_epoch,
        )

    @property
    def targets_per_epoch(self) -> int:
        """N − 1: every code but the first is a target."""
        return self.codes.size - 1

    @property
    def batches_per_epoch(self) -> int:
        longest = -(-self.targets_per_epoch // self.batch_size)
        return -(-longest // self.length)

    def offset(self, epoch: int) -> int:
        """Where the first stream of an epoch begins: a pure function of (seed, epoch)."""
        # The hash of SeedSequence is the same in all releases of NumPy.
        state = np.random.SeedSequence([self.seed, _check.natural("epoch", epoch)])
        return int(state.generate_state(1, np.uint64)[0] % self.targets_per_epoch)

    def __getitem__(self, index: int) -> Batch:
        epoch, window = divmod(_check.natural("index", index), self.batches_per_epoch)
        total = self.targets_per_epoch
        bounds = np.arange(self.batch_size + 1) * total // self.batch_size
        starts, sizes = bounds[:-1], np.diff(bounds)
        new_part = np.arange(-self.context, self.length)[:, None]
        steps = new_part + window * self.length  # within the stream, [context + length, 1]
        inside = (steps >= 0) & (steps < sizes)
        # The streams wrap around the end of the text, so that an epoch counts every target.
        places = (self.offset(epoch) + starts + steps) % total
        places = np.where(inside, places, 0)
        return Batch(
            xs=self.codes[places],
            targets=self.codes[places + 1],
            mask=inside & (new_part >= 0),
            # The text's end does not go on at its beginning.
            resets=inside & ((steps == 0) | (places == 0)),
        )


def streams(
    codes: Any,
    batch_size: int,
    length: int,
    *,
    context: int = 0,
    seed: int = 0,
    vocabulary_size: int | None = None,
) -> Streams:
    """N codes as B parallel streams, read window by window; the target is always the next code.

    The text is cut into B contiguous streams. ``data[i]`` is the i-th window of all streams, and
    window i + 1 continues window i, so the state is carried from one to the next: truncated
    backpropagation BPTT(k₁ = length, k₂ = length + context), which is BPTT(h; h′) of Williams &
    Peng 1990 (Neural Computation 2(4)). A window begins ``context`` steps before its new part, so
    that the gradient of each new target reaches at least that far back. The state to carry is
    therefore that after the first ``length`` steps of the window, where the next one begins.

    An epoch counts each of the N − 1 targets exactly once. It begins at an offset that depends on
    (seed, epoch) alone, so that the windows of each epoch differ; the streams wrap around the end
    of the text. ``resets`` is True at the first step of each stream and of the text, where the
    state starts afresh. Steps before the first and beyond the last of a stream are filler that the
    mask leaves out.

    >>> import numpy as np
    >>> data = streams(np.arange(1001) % 5, batch_size=8, length=20, context=5)
    >>> batch = data[0]
    >>> batch.xs.shape, data.batches_per_epoch, int(batch.mask.sum())
    ((25, 8), 7, 160)

    Args:
        codes: ``[N]``, integers of at least 0.
        batch_size: B.
        length: the new steps of a window.
        context: the steps before them, whose targets do not count again.
        seed: chooses the offsets.
        vocabulary_size: V, if codes are to be checked against it.

    Returns:
        Data whose batches have xs, targets, mask and resets ``[context + length, B]``.

    Raises:
        ValueError: for codes that are not integers ``[N]`` or lie outside of 0..V−1, and for fewer
            than B + 1 of them.
    """
    codes = as_array("codes", codes)
    _check.positive_int("batch_size", batch_size)
    _check.positive_int("length", length)
    _check.natural("context", context)
    check_seed(seed)
    if codes.ndim != 1:
        raise ValueError(f"codes has shape {codes.shape}; it must be [N], one text")
    check_codes("codes", codes, vocabulary_size)
    # The batches hold int32.
    check_codes("codes", codes, 2**31)
    if codes.size <= batch_size:
        raise ValueError(
            f"codes holds {codes.size} codes, but {batch_size} streams need at least "
            f"{batch_size + 1}; give a longer text or a smaller batch_size"
        )
    return Streams(codes.astype(np.int32), int(batch_size), int(length), int(context), int(seed))
