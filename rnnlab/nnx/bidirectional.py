"""Two modules that read a sequence in both directions."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from rnnlab.driver import RunOptions
from rnnlab.layers.bidirectional import both_ways
from rnnlab.nnx.calls import carries_of, check_layer, options_of, time_first, within_lengths
from rnnlab.nnx.keys import source_of
from rnnlab.typing import Array, PyTree


def concatenate(forward: Array, backward: Array) -> Array:
    """Both outputs side by side."""
    return jnp.concatenate([forward, backward], axis=-1)


class Bidirectional(nnx.Module):
    """``flax.nnx.Bidirectional`` around two :class:`RNN` (Schuster & Paliwal 1997).

    >>> from rnnlab.nnx import RNN
    >>> rngs = nnx.Rngs(0)
    >>> cells = [nnx.GRUCell(3, 8, rngs=rngs) for _ in range(2)]
    >>> layer = Bidirectional(RNN(cells[0]), RNN(cells[1]))
    >>> layer(jnp.ones((4, 20, 3))).shape
    (4, 20, 16)

    Args:
        forward_rnn: reads from the first step to the last.
        backward_rnn: reads from the last step to the first.
        merge_fn: of the outputs of both, at the steps of their inputs.
        time_major: whether inputs and outputs are ``[T, B, ...]``.
        return_carry: whether a call returns ``((forward carry, backward carry), outputs)``.
        rngs: for Flax's signature; each direction has its own.

    Raises:
        ValueError: for anything but a module that reads whole sequences.
    """

    def __init__(
        self,
        forward_rnn: Any,
        backward_rnn: Any,
        *,
        merge_fn: Callable[[Array, Array], Array] = concatenate,
        time_major: bool = False,
        return_carry: bool = False,
        rngs: Any = None,
    ) -> None:
        del rngs
        check_layer("forward_rnn", forward_rnn)
        check_layer("backward_rnn", backward_rnn)
        self.forward_rnn = forward_rnn
        self.backward_rnn = backward_rnn
        self.merge_fn = merge_fn
        self.time_major = time_major
        self.return_carry = return_carry

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: tuple[PyTree, PyTree] | None = None,
        seq_lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
        rngs: Any = None,
    ) -> Any:
        """Merged outputs, or ``((forward carry, backward carry), outputs)``.

        The arguments are those of :class:`RNN`; a reset before step t cuts both directions between
        t − 1 and t. ``reverse`` and ``keep_order`` have no meaning here and, as in Flax, no effect.
        """
        del reverse, keep_order
        time_major, return_carry = options_of(
            self, time_major=time_major, return_carry=return_carry
        )
        xs, mask, resets = time_first(inputs, mask, resets, time_major)
        resets = within_lengths(resets, seq_lengths, xs)
        forwards, backwards = both_ways(RunOptions(resets=resets, mask=mask))
        shared = {"mask": mask, "deterministic": deterministic, "rngs": source_of(rngs)}
        carries = carries_of(initial_carry, 2)
        finals = []
        outputs = []
        for rnn, carry, options in (
            (self.forward_rnn, carries[0], forwards),
            (self.backward_rnn, carries[1], backwards),
        ):
            given = shared | {"resets": options.resets}
            # Flax's own RNN knows none of these, and works here where they are not given.
            given = {name: value for name, value in given.items() if value is not None}
            final, ys = rnn(
                xs,
                initial_carry=carry,
                seq_lengths=seq_lengths,
                return_carry=True,
                time_major=True,
                reverse=options.reverse,
                keep_order=True,
                **given,
            )
            finals.append(final)
            outputs.append(ys)
        merged = self.merge_fn(*outputs)
        if not time_major:
            merged = jnp.moveaxis(merged, 0, -2)
        return (tuple(finals), merged) if return_carry else merged
