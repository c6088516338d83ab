"""Hidden Markov models of sequences of symbols, by hmmlearn.

    sₜ ~ A[sₜ₋₁, ·],    xₜ ~ E[sₜ, ·],    s₁ ~ π

with N states and V symbols. All that such a model knows of the past is which of its states it may
be in, so past and future share at most ln N nats: n independent bits need 2ⁿ states. The bound
holds on any data, also on sequences that do not come from the model: with q the model and b its
belief after the past,

    q(future | past) = Σₛ b(s) q(future | s) ≤ Σₛ q(future | s) = N q̄(future),

where q̄ is the mean over the states, a distribution. So the mean of −ln q(future | past) is at least
H(future) − ln N.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab._results import result


@result
class HiddenMarkov(NamedTuple):
    """The parameters of a hidden Markov model.

    Attributes:
        start: π, the distribution of the first state, ``[N]``.
        transitions: A, from each state (row) to the next, ``[N, N]``.
        emissions: E, the distribution of the symbol in each state (row), ``[N, V]``.
    """

    start: np.ndarray
    transitions: np.ndarray
    emissions: np.ndarray


@result
class HiddenMarkovFit(NamedTuple):
    """The result of :func:`baum_welch`.

    Attributes:
        model: the fitted :class:`HiddenMarkov`.
        log_likelihoods: ln P of all sequences before each iteration, in nats, ``[iterations]``.
    """

    model: HiddenMarkov
    log_likelihoods: np.ndarray


@result
class StatePath(NamedTuple):
    """The result of :func:`viterbi`.

    Attributes:
        states: the most likely states, whole numbers in 0..N−1, ``[T, B]``; −1 in the padding.
        log_probability: ln P(states, symbols), in nats, ``[B]``.
    """

    states: np.ndarray
    log_probability: np.ndarray


def log_likelihood(model: HiddenMarkov, codes: Any, lengths: Any = None) -> np.ndarray:
    """ln P(x₁ … x_T) of each sequence by the forward algorithm, in nats, ``[B]``.

    >>> import numpy as np
    >>> coin = HiddenMarkov(np.ones(1), np.ones((1, 1)), np.full((1, 2), 0.5))
    >>> log_likelihood(coin, np.zeros((3, 4), int)).round(3)
    array([-2.079, -2.079, -2.079, -2.079])

    Args:
        model: the parameters.
        codes: symbols ``[T, B]``, whole numbers in 0..V−1.
        lengths: ``[B]``, in 1..T; None where all sequences have T steps.

    Raises:
        ValueError: for parameters that are not distributions, and symbols that the model lacks.
        ImportError: where hmmlearn is not installed.
    """
    estimator, sequences = _prepared(model, codes, lengths)
    return np.array([estimator.score(sequence) for sequence in sequences])


def smooth(model: HiddenMarkov, codes: Any) -> np.ndarray:
    """P(sₜ | x₁ … x_T) of each sequence by the forward–backward algorithm, ``[T, B, N]``.

    >>> import numpy as np
    >>> emissions = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> constant = HiddenMarkov(np.full(2, 0.5), np.eye(2), emissions)
    >>> smooth(constant, [[0], [1]])[:, 0].round(3).tolist()  # only the second state emits 1
    [[0.0, 1.0], [0.0, 1.0]]

    Args:
        model: the parameters.
        codes: symbols ``[T, B]``, whole numbers in 0..V−1.

    Raises:
        ValueError: for parameters that are not distributions, symbols that the model lacks, and
            sequences that it cannot emit.
        ImportError: where hmmlearn is not installed.
    """
    estimator, sequences = _prepared(model, codes, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [estimator.predict_proba(sequence) for sequence in sequences]
    for index, column in enumerate(columns):
        if np.isnan(column).any():
            raise ValueError(
                f"sequence {index} has probability 0 under the model, so that its states have no "
                "distribution; fit the model with a pseudocount"
            )
    return np.stack(columns, axis=1)


def viterbi(model: HiddenMarkov, codes: Any, lengths: Any = None) -> StatePath:
    """The most likely states of each sequence; arguments and errors of :func:`log_likelihood`."""
    estimator, sequences = _prepared(model, codes, lengths)
    states = np.full(np.shape(codes), -1)
    log_probability = np.zeros(len(sequences))
    for column, sequence in enumerate(sequences):
        value, path = estimator.decode(sequence, algorithm="viterbi")
        states[: len(sequence), column] = path
        log_probability[column] = value
    return StatePath(states, log_probability)


def next_symbols(model: HiddenMarkov, codes: Any) -> np.ndarray:
    """P(xₜ₊₁ | x₁ … xₜ) for each step, ``[T, B, V]``; NaN after symbols that cannot occur.

    This is the filter, which hmmlearn does not offer: its posteriors are given all of a sequence.

    >>> import numpy as np
    >>> emissions = np.array([[1.0, 0.0], [0.5, 0.5]])
    >>> constant = HiddenMarkov(np.full(2, 0.5), np.eye(2), emissions)
    >>> next_symbols(constant, [[0], [1]])[:, 0].round(3).tolist()
    [[0.833, 0.167], [0.5, 0.5]]

    Args:
        model: the parameters.
        codes: symbols ``[T, B]``, whole numbers in 0..V−1.

    Raises:
        ValueError: for parameters that are not distributions, and symbols that the model lacks.
    """
    model = _checked(model)
    codes = _codes(codes, model.emissions.shape[1])
    belief = np.broadcast_to(model.start, (codes.shape[1], model.start.size))
    predictions = []
    for symbols in codes:
        joint = belief * model.emissions[:, symbols].T  # P(sₜ, xₜ | x₁ … xₜ₋₁)
        total = joint.sum(axis=-1, keepdims=True)
        posterior = joint / np.where(total > 0, total, np.nan)
        belief = posterior @ model.transitions  # P(sₜ₊₁ | x₁ … xₜ)
        predictions.append(belief @ model.emissions)
    return np.stack(predictions)


def baum_welch(
    codes: Any,
    states: int,
    vocabulary_size: int,
    *,
    lengths: Any = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
    pseudocount: float = 0.0,
    seed: int = 0,
) -> HiddenMarkovFit:
    """Fits a hidden Markov model by expectation maximisation, from random parameters.

    No iteration lowers the likelihood (Baum, Petrie, Soules & Weiss 1970), but the maximum that is
    reached depends on the start.

    >>> import numpy as np
    >>> codes = np.arange(12)[:, None] % 2
    >>> fit = baum_welch(codes, states=2, vocabulary_size=2)
    >>> fit.model.transitions.round(2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]

    Args:
        codes: symbols ``[T, B]``.
        states: N.
        vocabulary_size: V.
        lengths: ``[B]``, in 1..T; None where all sequences have T steps.
        iterations: maximum number of iterations.
        tolerance: the gain of the whole log-likelihood, in nats, below which the fit ends; at least
            0.
        pseudocount: added to the expected counts of each transition, emission and first state, so
            that nothing becomes impossible; the likelihood may then fall. At least 0.
        seed: of the random start.

    Raises:
        ValueError: for sizes below 1, a negative or infinite tolerance or pseudocount, and symbols
            outside of the vocabulary.
        ImportError: where hmmlearn is not installed.
    """
    states = _check.positive_int("states", states)
    size = _check.positive_int("vocabulary_size", vocabulary_size)
    iterations = _check.positive_int("iterations", iterations)
    _check_not_negative("tolerance", tolerance)
    _check_not_negative("pseudocount", pseudocount)
    sequences = _sequences(codes, size, lengths)
    prior = 1.0 + pseudocount
    estimator = _estimator()(
        n_components=states,
        n_features=size,
        startprob_prior=prior,
        transmat_prior=prior,
        emissionprob_prior=prior,
        n_iter=iterations,
        tol=tolerance,
        random_state=seed,
        implementation="scaling",
    )
    with _silent():
        estimator.fit(np.concatenate(sequences), list(map(len, sequences)))
    model = HiddenMarkov(
        start=estimator.startprob_,
        transitions=_distributions(estimator.transmat_),
        emissions=_distributions(estimator.emissionprob_),
    )
    return HiddenMarkovFit(model, np.array(estimator.monitor_.history))


def _check_not_negative(name: str, value: float) -> None:
    """ValueError unless ``value`` is a finite number of at least 0."""
    _check.number(name, value)
    if value < 0:
        raise ValueError(f"{name} is {value}; it must be at least 0")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without hmmlearn's remarks on small data and on states that are never left."""
    logger = logging.getLogger("hmmlearn")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _distributions(rows: np.ndarray) -> np.ndarray:
    """The rows, uniform where all entries are 0: such a state was never left, or never visited."""
    is_empty = rows.sum(axis=1, keepdims=True) == 0
    return np.where(is_empty, 1 / rows.shape[1], rows)


def _estimator() -> Any:
    """The class of hmmlearn; ImportError where it is not installed."""
    try:
        from hmmlearn.hmm import CategoricalHMM
    except ImportError:
        raise ImportError(
            "hidden Markov models are computed by hmmlearn, which is not installed; run "
            "pip install hmmlearn"
        ) from None
    return CategoricalHMM


def _prepared(model: HiddenMarkov, codes: Any, lengths: Any) -> tuple[Any, list[np.ndarray]]:
    """hmmlearn's estimator with these parameters, and the sequences as it takes them."""
    model = _checked(model)
    states, size = model.emissions.shape
    sequences = _sequences(codes, size, lengths)
    estimator = _estimator()(n_components=states, n_features=size)
    estimator.startprob_ = model.start
    estimator.transmat_ = model.transitions
    estimator.emissionprob_ = model.emissions
    return estimator, sequences


def _sequences(codes: Any, size: int, lengths: Any) -> list[np.ndarray]:
    """Each sequence without its padding, ``[steps, 1]``."""
    if lengths is None:
        return list(_codes(codes, size).T[..., None])
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise ValueError(f"codes has shape {codes.shape}; symbols must be [T, B], time first")
    steps, batch = codes.shape
    lengths = np.asarray(_check.lengths(lengths, steps, (batch,), least=1))
    columns = zip(codes.T, lengths, strict=True)
    return [_codes(column[:length, None], size) for column, length in columns]


def _codes(codes: Any, size: int) -> np.ndarray:
    """``codes`` as ``[T, B]``; ValueError unless all are symbols of the vocabulary."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or not codes.size:
        raise ValueError(f"codes has shape {codes.shape}; symbols must be [T, B], time first")
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes are {codes.dtype}; they must be whole numbers, so cast them")
    if codes.min() < 0 or codes.max() >= size:
        raise ValueError(
            f"codes run from {codes.min()} to {codes.max()}; they must lie in 0..{size - 1}, the "
            "vocabulary of the model"
        )
    return codes


def _checked(model: Any) -> HiddenMarkov:
    """The model with arrays of floats; ValueError unless shapes fit and rows are distributions."""
    if not isinstance(model, HiddenMarkov):
        raise ValueError(
            f"model is {_check.brief(model)}; give HiddenMarkov(start, transitions, emissions)"
        )
    shapes = [np.shape(array) for array in model]
    states = shapes[0][0] if len(shapes[0]) == 1 else 0
    if shapes[1] != (states, states) or len(shapes[2]) != 2 or shapes[2][0] != states:
        raise ValueError(
            f"start, transitions and emissions have the shapes {', '.join(map(str, shapes))}; give "
            "[N], [N, N] and [N, V]"
        )
    arrays = [np.asarray(array, float) for array in model]
    for name, rows in zip(model._fields, arrays, strict=True):
        if (rows < 0).any() or not np.allclose(rows.sum(axis=-1), 1):
            raise ValueError(
                f"{name} has a row that is not a distribution; its entries must be at least 0 and "
                "sum to 1"
            )
    return HiddenMarkov(*arrays)
