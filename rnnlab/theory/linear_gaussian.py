"""Linear dynamical systems with Gaussian noise: filter and smoother by statsmodels, and EM.

    zₜ₊₁ = A zₜ + wₜ,    yₜ = C zₜ + vₜ,    wₜ ~ N(0, Q),  vₜ ~ N(0, R),  z₁ ~ N(m, P)

with S states and O outputs. All distributions stay Gaussian, so the Kalman filter is the exact
posterior of the state, and its prediction of the next output has the least squared error of all
functions of the past.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from rnnlab import _check
from rnnlab._results import result

LEAST_NOISE = 1e-8
"""EM ends where the noise of an output falls below this share of its variance."""


@result
class LinearGaussian(NamedTuple):
    """The parameters of a linear dynamical system.

    Attributes:
        transition: A, ``[S, S]``.
        state_covariance: Q, the covariance of wₜ, ``[S, S]``.
        readout: C, ``[O, S]``.
        output_covariance: R, the covariance of vₜ, ``[O, O]``.
        start_mean: m, ``[S]``.
        start_covariance: P, ``[S, S]``.
    """

    transition: np.ndarray
    state_covariance: np.ndarray
    readout: np.ndarray
    output_covariance: np.ndarray
    start_mean: np.ndarray
    start_covariance: np.ndarray


@result
class Filtered(NamedTuple):
    """The result of :func:`kalman_filter`.

    Attributes:
        predictions: E[yₜ | y₁ … yₜ₋₁], ``[T, B, O]``.
        prediction_covariances: Cov(yₜ | y₁ … yₜ₋₁), the same for all data, ``[T, O, O]``.
        states: E[zₜ | y₁ … yₜ], ``[T, B, S]``.
        log_likelihood: ln p(y₁ … y_T), in nats, ``[B]``.
    """

    predictions: np.ndarray
    prediction_covariances: np.ndarray
    states: np.ndarray
    log_likelihood: np.ndarray


@result
class Smoothed(NamedTuple):
    """The result of :func:`kalman_smoother`: the states given all outputs.

    Attributes:
        states: E[zₜ | y₁ … y_T], ``[T, B, S]``.
        covariances: Cov(zₜ | y₁ … y_T), ``[T, S, S]``.
        lag_covariances: Cov(zₜ₊₁, zₜ | y₁ … y_T), ``[T − 1, S, S]``.
        log_likelihood: ln p(y₁ … y_T), in nats, ``[B]``.
    """

    states: np.ndarray
    covariances: np.ndarray
    lag_covariances: np.ndarray
    log_likelihood: np.ndarray


@result
class LinearGaussianFit(NamedTuple):
    """The result of :func:`em`.

    Attributes:
        model: the fitted :class:`LinearGaussian`.
        log_likelihoods: ln p of all sequences before each iteration, in nats, ``[iterations]``.
    """

    model: LinearGaussian
    log_likelihoods: np.ndarray


def stationary_covariance(transition: Any, state_covariance: Any) -> np.ndarray:
    """P = A P Aᵀ + Q ``[S, S]``: the covariance of a state that has long been running.

    >>> stationary_covariance([[0.5]], [[3.0]])
    array([[4.]])

    Raises:
        ValueError: for a system that does not decay, and a Q that is not a covariance.
    """
    transition = np.asarray(transition, float)
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1]:
        raise ValueError(f"transition has shape {transition.shape}; it must be [S, S]")
    _check.finite("transition", transition)
    state_covariance = _covariance("state_covariance", state_covariance)
    radius = np.abs(np.linalg.eigvals(transition)).max()
    if radius >= 1:
        raise ValueError(
            f"the spectral radius of transition is {radius:.3g}, so that no covariance is "
            "stationary; it must be below 1"
        )
    return scipy.linalg.solve_discrete_lyapunov(transition, state_covariance)


def kalman_filter(model: LinearGaussian, ys: Any) -> Filtered:
    """Predictions of each output from those before it, for outputs ``[T, B, O]``.

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> walk = LinearGaussian(one, one, one, one, np.zeros(1), one)
    >>> filtered = kalman_filter(walk, np.ones((2, 1, 1)))
    >>> filtered.predictions.ravel(), filtered.prediction_covariances.ravel()
    (array([0. , 0.5]), array([2. , 2.5]))

    Raises:
        ValueError: for shapes that do not fit, matrices that are not covariances, and numbers that
            are not finite.
        ImportError: where statsmodels is not installed.
    """
    ys = _outputs(ys)
    model = _checked(model, ys.shape[-1])
    predictions, states, values = [], [], []
    covariances = np.zeros(0)
    scales = _scales(model)
    for system in _systems(model, ys, scales):
        found = system.filter()
        predictions.append(found.forecasts.T * scales)
        states.append(found.filtered_state.T)
        values.append(found.llf)
        covariances = np.moveaxis(found.forecasts_error_cov, -1, 0) * np.outer(scales, scales)
    return Filtered(
        predictions=np.stack(predictions, axis=1),
        prediction_covariances=covariances,
        states=np.stack(states, axis=1),
        log_likelihood=np.array(values) - len(ys) * np.log(scales).sum(),
    )


def kalman_smoother(model: LinearGaussian, ys: Any) -> Smoothed:
    """The states given all outputs ``[T, B, O]``; raises as :func:`kalman_filter`."""
    ys = _outputs(ys)
    return _smoothed(_checked(model, ys.shape[-1]), ys)


def _smoothed(model: LinearGaussian, ys: np.ndarray) -> Smoothed:
    states, values = [], []
    covariances = lag_covariances = np.zeros(0)
    scales = _scales(model)
    for system in _systems(model, ys, scales):
        found = system.smooth()
        states.append(found.smoothed_state.T)
        values.append(found.llf)
        covariances = np.moveaxis(found.smoothed_state_cov, -1, 0)
        # statsmodels has one more, between the last state and the one after it.
        lag_covariances = np.moveaxis(found.smoothed_state_autocov, -1, 0)[:-1]
    return Smoothed(
        states=np.stack(states, axis=1),
        covariances=covariances,
        lag_covariances=lag_covariances,
        log_likelihood=np.array(values) - len(ys) * np.log(scales).sum(),
    )


def em(ys: Any, states: int, *, iterations: int = 100, seed: int = 0) -> LinearGaussianFit:
    """Fits a linear dynamical system by expectation maximisation, from random parameters.

    The smoother gives the moments of the states, and the parameters that are most likely with these
    have a closed form (Shumway & Stoffer 1982, J. Time Series Analysis 3; Ghahramani & Hinton 1996,
    "Parameter estimation for linear dynamical systems"). No iteration lowers the likelihood, but
    the maximum that is reached depends on the start. Without noise in an output the likelihood has
    no maximum: the fit ends where the noise falls below 1e-8 of the variance of the output.

    >>> import numpy as np
    >>> ys = np.sin(np.arange(50) / 3)[:, None, None]
    >>> fit = em(ys, states=2)
    >>> bool(np.all(np.diff(fit.log_likelihoods) > 0))
    True

    Args:
        ys: outputs ``[T, B, O]``, T at least 2.
        states: S.
        iterations: maximum number of iterations.
        seed: of the random start.

    Raises:
        ValueError: for sizes below 1, shapes that do not fit, and outputs that are constant or not
            finite.
        ImportError: where statsmodels is not installed.
    """
    states = _check.positive_int("states", states)
    ys = _outputs(ys)
    if len(ys) < 2:
        raise ValueError("ys has one step; give at least two, since a transition is to be fitted")
    variances = ys.var(axis=(0, 1))
    if not variances.all():
        raise ValueError(
            f"output {int(np.argmin(variances))} of ys is constant; leave it out, since it tells "
            "nothing"
        )
    model = _random(ys, states, seed)
    values = []
    for _ in range(_check.positive_int("iterations", iterations)):
        smoothed = _smoothed(model, ys)
        values.append(smoothed.log_likelihood.sum())
        new = _maximised(ys, smoothed)
        if (np.diag(new.output_covariance) < LEAST_NOISE * variances).any():
            break
        model = new
    return LinearGaussianFit(model, np.array(values))


def _random(ys: np.ndarray, states: int, seed: int) -> LinearGaussian:
    """A random rotation that decays slowly, and a random readout at the scale of the outputs."""
    rng = np.random.default_rng(seed)
    speeds = rng.normal(size=(states, states))
    # Antisymmetric, so that the states turn: from a reflection EM does not find oscillations.
    rotation = scipy.linalg.expm(np.tril(speeds, -1) - np.tril(speeds, -1).T)
    outputs = ys.shape[-1]
    scale = ys.std(axis=(0, 1))
    return LinearGaussian(
        transition=0.9 * rotation,
        state_covariance=0.2 * np.eye(states),
        readout=scale[:, None] * rng.normal(size=(outputs, states)) / np.sqrt(states),
        output_covariance=np.diag(scale**2) / 2,
        start_mean=np.zeros(states),
        start_covariance=np.eye(states),
    )


def _maximised(ys: np.ndarray, smoothed: Smoothed) -> LinearGaussian:
    """The most likely parameters for these moments of the states."""
    steps, batch = ys.shape[:2]
    z = smoothed.states
    # Sums over steps and sequences of E[zₜ zₜᵀ], E[zₜ₊₁ zₜᵀ] and yₜ E[zₜ]ᵀ.
    squares = np.einsum("tbi,tbj->tij", z, z) + batch * smoothed.covariances
    lagged = np.einsum("tbi,tbj->ij", z[1:], z[:-1]) + batch * smoothed.lag_covariances.sum(axis=0)
    outputs = np.einsum("tbo,tbs->os", ys, z)
    before, after = squares[:-1].sum(axis=0), squares[1:].sum(axis=0)
    transition = np.linalg.solve(before, lagged.T).T  # A = Σ E[zₜ₊₁ zₜᵀ] (Σ E[zₜ zₜᵀ])⁻¹
    readout = np.linalg.solve(squares.sum(axis=0), outputs.T).T  # C = Σ y E[z]ᵀ (Σ E[z zᵀ])⁻¹
    state_covariance = (after - transition @ lagged.T) / (batch * (steps - 1))
    output_covariance = (np.einsum("tbo,tbp->op", ys, ys) - readout @ outputs.T) / (batch * steps)
    mean = z[0].mean(axis=0)
    return LinearGaussian(
        transition=transition,
        state_covariance=_symmetric(state_covariance),
        readout=readout,
        output_covariance=_symmetric(output_covariance),
        start_mean=mean,
        start_covariance=_symmetric(squares[0] / batch - np.outer(mean, mean)),
    )


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    """A covariance without the asymmetry of rounding."""
    return (matrix + matrix.T) / 2


def _scales(model: LinearGaussian) -> np.ndarray:
    """The standard deviations of the first outputs ``[O]``; 1 for a constant."""
    of_states = model.readout @ model.start_covariance @ model.readout.T
    variances = np.diag(of_states + model.output_covariance)
    return np.sqrt(np.where(variances > 0, variances, 1))


def _systems(model: LinearGaussian, ys: np.ndarray, scales: np.ndarray) -> Iterator[Any]:
    """The system as statsmodels takes it, with each of the sequences ``[T, B, O]``.

    The outputs are divided by ``scales``: statsmodels takes variances below 1e-13 for zero.
    """
    try:
        from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother
    except ImportError:
        raise ImportError(
            "linear dynamical systems are computed by statsmodels, which is not installed; run "
            "pip install statsmodels"
        ) from None
    states = len(model.start_mean)
    for sequence in np.moveaxis(ys, 1, 0):
        # A new system for each, since one that has run keeps the data of its first run. Tolerance
        # 0: the exact recursion to the end, where statsmodels would stop at convergence.
        system = KalmanSmoother(ys.shape[-1], states, k_posdef=states, tolerance=0)
        system["transition"] = model.transition
        system["selection"] = np.eye(states)
        system["state_cov"] = model.state_covariance
        system["design"] = model.readout / scales[:, None]
        system["obs_cov"] = model.output_covariance / np.outer(scales, scales)
        system.initialize_known(np.asarray(model.start_mean), np.asarray(model.start_covariance))
        system.bind(np.ascontiguousarray(sequence / scales))
        yield system


def _outputs(ys: Any) -> np.ndarray:
    """``ys`` as finite floats ``[T, B, O]``."""
    ys = np.asarray(ys, float)
    if ys.ndim != 3 or not ys.size:
        raise ValueError(f"ys has shape {ys.shape}; outputs must be [T, B, O], time first")
    _check.finite("ys", ys)
    return ys


def _checked(model: Any, outputs: int) -> LinearGaussian:
    """The model with arrays of floats; ValueError for shapes and values that cannot be."""
    if not isinstance(model, LinearGaussian):
        raise ValueError(f"model is {_check.brief(model)}; give a LinearGaussian")
    states = np.shape(model.start_mean)[0] if np.ndim(model.start_mean) == 1 else 0
    if not states:
        raise ValueError(
            f"start_mean has shape {np.shape(model.start_mean)}; it must be [S], with one state at "
            "least"
        )
    square = states, states
    wanted = square, square, (outputs, states), (outputs, outputs), (states,), square
    arrays = []
    for name, value, shape in zip(model._fields, model, wanted, strict=True):
        array = np.asarray(value, float)
        if array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape}, but {shape} is needed for {states} states and "
                f"{outputs} outputs; give all parameters one size"
            )
        _check.finite(name, array)
        arrays.append(_covariance(name, array) if name.endswith("covariance") else array)
    return LinearGaussian(*arrays)


def _covariance(name: str, value: Any) -> np.ndarray:
    """``value`` as floats; ValueError unless it is symmetric without negative eigenvalues."""
    matrix = np.asarray(value, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} has shape {matrix.shape}; a covariance is a square matrix")
    _check.finite(name, matrix)
    rounding = 1e-9 * np.abs(matrix).max(initial=0.0)
    if np.abs(matrix - matrix.T).max(initial=0.0) > rounding:
        raise ValueError(f"{name} is not symmetric; a covariance is, so give (M + M.T) / 2")
    if np.linalg.eigvalsh(matrix).min(initial=0.0) < -rounding:
        raise ValueError(f"{name} has a negative eigenvalue; a covariance has none")
    return matrix
