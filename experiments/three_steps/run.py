"""Backpropagation through three steps, every term in numbers, drawn on the unfolded network.

    python -m experiments.three_steps.run

s_t = Φ(x_t W_x + s_{t−1} W_s), y_t = s_t W_y and E₃ = (d₃ − y₃)², with Φ = tanh. By the chain rule

    ∂E₃/∂W_y = ∂E₃/∂y₃ · ∂y₃/∂W_y
    ∂E₃/∂W_s = Σᵢ ∂E₃/∂y₃ · ∂y₃/∂s₃ · ∂s₃/∂sᵢ · ∂⁺sᵢ/∂W_s,   i = 1, 2, 3

and the same sum for W_x, where ∂⁺sᵢ/∂W is the derivative of step i alone, with sᵢ₋₁ held constant.
The terms are computed by these formulas in NumPy, and compared with ``jax.grad`` and with the terms
of ``bptt_contributions``. The same comparison is then made for random networks and more steps.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment
from rnnlab.cells import RNNParams, RNNState
from rnnlab.diagnostics import BpttContributions, bptt_contributions
from rnnlab.report.figures.style import COLOURS, drawing, title

WIDEST = 12.0


class Network(NamedTuple):
    """The weights, row vectors of inputs and of the first state, and the desired last output."""

    w_x: np.ndarray
    w_s: np.ndarray
    w_y: np.ndarray
    xs: np.ndarray
    s_0: np.ndarray
    d: np.ndarray


# A first state of zero would make the term of W_s at step 1 zero.
EXAMPLE = Network(
    w_x=np.array([[0.5, -0.4], [0.3, 0.8]]),
    w_s=np.array([[0.7, -0.5], [0.4, 0.6]]),
    w_y=np.array([[1.0], [-0.5]]),
    xs=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
    s_0=np.array([0.5, -0.5]),
    d=np.array([1.0]),
)


class Terms(NamedTuple):
    """The factors and terms of the derivation; index 0 is step 1."""

    d_y: np.ndarray  # ∂E/∂y_T, [O]
    # ∂s_T/∂sᵢ, [T, H, H]: row a, column b is the derivative of s_T[b] with respect to sᵢ[a].
    to_last: np.ndarray
    slopes: np.ndarray  # Φ′ of each step, [T, H]
    w_x: np.ndarray  # the terms of ∂E/∂W_x, [T, I, H]
    w_s: np.ndarray  # the terms of ∂E/∂W_s, [T, H, H]
    w_y: np.ndarray  # ∂E/∂W_y, [H, O]


def by_hand(net: Network) -> Terms:
    """The derivation, factor by factor."""
    states = [net.s_0]
    for x in net.xs:
        states.append(np.tanh(x @ net.w_x + states[-1] @ net.w_s))
    slopes = 1 - np.square(states[1:])
    d_y = -2 * (net.d - states[-1] @ net.w_y)
    d_last = net.w_y @ d_y  # ∂E/∂y · ∂y/∂s_T
    steps = len(net.xs)
    product = np.eye(len(net.s_0))
    to_last, terms_x, terms_s = [], [], []
    for i in range(steps - 1, -1, -1):
        to_last.append(product)
        delta = (product @ d_last) * slopes[i]  # ∂E/∂s_T · ∂s_T/∂sᵢ · Φ′
        terms_x.append(np.outer(net.xs[i], delta))
        terms_s.append(np.outer(states[i], delta))
        product = net.w_s * slopes[i] @ product  # ∂s_T/∂sᵢ₋₁ = ∂sᵢ/∂sᵢ₋₁ · ∂s_T/∂sᵢ
    return Terms(
        d_y=d_y,
        to_last=np.array(to_last[::-1]),
        slopes=slopes,
        w_x=np.array(terms_x[::-1]),
        w_s=np.array(terms_s[::-1]),
        w_y=np.outer(states[-1], d_y),
    )


def error(ys: jax.Array, w_y: jax.Array, d: jax.Array) -> jax.Array:
    """E = ‖d − y_T‖²."""
    return jnp.sum((d - ys[-1] @ w_y) ** 2)


@jax.jit
def gradients(net: Network) -> Network:
    """∂E/∂ of every array by ``jax.grad``."""

    def of_network(net: Network) -> jax.Array:
        cell, params, state = as_cell(net)
        xs, w_y, d = (jnp.asarray(leaf) for leaf in (net.xs, net.w_y, net.d))
        return error(rnnlab.unroll(cell, params, xs, state)[1], w_y, d)

    return jax.grad(of_network)(net)


def contributions(net: Network) -> BpttContributions:
    """The terms by rnnlab."""
    cell, params, state = as_cell(net)
    return bptt_contributions(
        cell,
        params,
        jnp.asarray(net.xs),
        error,
        jnp.asarray(net.w_y),
        jnp.asarray(net.d),
        initial_state=state,
        rows=len(net.xs),
        keep_contributions=True,
    )


def as_cell(net: Network) -> tuple[rnnlab.RNN, RNNParams, RNNState]:
    """The cell, its parameters and its first state."""
    cell = rnnlab.RNN(net.w_s.shape[0], bias=False, param_dtype=jnp.float64)
    params = RNNParams(w_x=jnp.asarray(net.w_x), w_h=jnp.asarray(net.w_s))
    return cell, params, RNNState(jnp.asarray(net.s_0))


def errors(net: Network) -> tuple[float, float]:
    """The largest difference of the sums from ``jax.grad``, and of the terms from rnnlab's."""
    terms = by_hand(net)
    exact = gradients(net)
    kept = contributions(net).contributions
    assert kept is not None
    of_sums = max(
        _difference(terms.w_x.sum(axis=0), exact.w_x),
        _difference(terms.w_s.sum(axis=0), exact.w_s),
        _difference(terms.w_y, exact.w_y),
    )
    of_terms = max(_difference(terms.w_x, kept.w_x[-1]), _difference(terms.w_s, kept.w_h[-1]))
    return of_sums, of_terms


def _difference(one: np.ndarray, other: Any) -> float:
    return float(np.abs(one - np.asarray(other)).max())


def random_network(seed: int, steps: int, hidden: int) -> Network:
    """A random network with two inputs and two outputs."""
    rng = np.random.default_rng(seed)
    return Network(
        w_x=rng.standard_normal((2, hidden)),
        w_s=rng.standard_normal((hidden, hidden)) / np.sqrt(hidden),
        w_y=rng.standard_normal((hidden, 2)),
        xs=rng.standard_normal((steps, 2)),
        s_0=rng.standard_normal(hidden),
        d=rng.standard_normal(2),
    )


def tell(terms: Terms) -> None:
    """Prints every factor and every term."""
    for name, value in (("∂E₃/∂y₃", terms.d_y), ("∂y₃/∂s₃ = W_y", EXAMPLE.w_y)):
        print(f"{name}\n{_indented(value)}")
    print(f"∂E₃/∂W_y = ∂E₃/∂y₃ · ∂y₃/∂W_y\n{_indented(terms.w_y)}")
    for i in range(len(terms.slopes)):
        print(f"\ni = {i + 1}\n  Φ′ of step {i + 1}\n{_indented(terms.slopes[i])}")
        print(f"  ∂s₃/∂s{_low(i)}\n{_indented(terms.to_last[i])}")
        for name, term in (("W_s", terms.w_s[i]), ("W_x", terms.w_x[i])):
            print(f"  the term of {name}, norm {np.linalg.norm(term):.6f}\n{_indented(term)}")
    print(f"\n∂E₃/∂W_s, the sum\n{_indented(terms.w_s.sum(axis=0))}")
    print(f"∂E₃/∂W_x, the sum\n{_indented(terms.w_x.sum(axis=0))}\n")


def _indented(value: np.ndarray) -> str:
    rows = np.atleast_2d(value) + 0.0  # no −0
    return "\n".join("    " + " ".join(f"{number:11.7f}" for number in row) for row in rows)


def _low(i: int) -> str:
    return "₁₂₃"[i]


def run(quick: bool) -> Record:
    """The terms of the example, and the errors of random networks."""
    lengths, seeds, hidden = ((3, 10), 2, 4) if quick else ((3, 10, 30, 100), 5, 16)
    with jax.enable_x64(True):
        terms = by_hand(EXAMPLE)
        tell(terms)
        of_sum, of_terms = errors(EXAMPLE)
        rows = []
        for steps in lengths:
            found = [errors(random_network(seed, steps, hidden)) for seed in range(seeds)]
            worst = np.max(found, axis=0)
            rows.append({"steps": steps, "sum": float(worst[0]), "terms": float(worst[1])})
            print(f"{steps:4} steps: sums within {worst[0]:.1e}, terms within {worst[1]:.1e}")
    norms_s = [float(np.linalg.norm(term)) for term in terms.w_s]
    norms_x = [float(np.linalg.norm(term)) for term in terms.w_x]
    largest = max(row["sum"] for row in rows)
    finding = (
        f"The terms of steps 1, 2 and 3 have the norms {_listed(norms_s)} for W_s and "
        f"{_listed(norms_x)} for W_x. Their sums agree with the gradients of jax.grad to within "
        f"{of_sum:.0e}, and to within {largest:.0e} for {seeds * len(rows)} random networks over "
        f"{lengths[0]} to {lengths[-1]} steps."
    )
    return {
        "finding": finding,
        "example": {name: value.tolist() for name, value in EXAMPLE._asdict().items()},
        "terms": {name: value.tolist() for name, value in terms._asdict().items()},
        "norms": {"W_s": norms_s, "W_x": norms_x, "W_y": float(np.linalg.norm(terms.w_y))},
        "error": {"sum": of_sum, "terms": of_terms},
        "random": {"hidden": hidden, "seeds": seeds, "rows": rows},
    }


def _listed(norms: list[float]) -> str:
    return f"{norms[0]:.3f}, {norms[1]:.3f} and {norms[2]:.3f}"


def draw(result: Record, path: Path) -> None:
    """The unfolded network of the example, and one of an LSTM over twelve steps."""
    with drawing(path, 1, 1, (9, 4.4)) as (figure, (axes,)):
        _unfolded(axes, result["norms"])
        shares = np.array(result["norms"]["W_s"]) / max(result["norms"]["W_s"])
        title(
            figure,
            "What each step adds to the gradient of E₃, as the width of the line: for W_s "
            f"{shares[0]:.0%}, {shares[1]:.0%} and {shares[2]:.0%} of the largest term",
            90,
        )
    _of_an_lstm(path.with_name("unfolded.png"))


def _unfolded(axes: Axes, norms: Record) -> None:
    widest = max(*norms["W_s"], *norms["W_x"], norms["W_y"])
    for i in range(3):
        step = i + 1
        _edge(axes, (step - 1, 1), (step, 1), norms["W_s"][i] / widest, 2)
        axes.text(step - 0.5, 1.13, f"$W_s$  {norms['W_s'][i]:.3f}", ha="center", color=COLOURS[2])
        _edge(axes, (step, 0), (step, 1), norms["W_x"][i] / widest, 1)
        axes.text(step + 0.08, 0.45, f"$W_x$  {norms['W_x'][i]:.3f}", color=COLOURS[1])
        _node(axes, step, 0, f"$x_{step}$")
    _edge(axes, (3, 1), (3, 2), norms["W_y"] / widest, 3)
    axes.text(3.08, 1.5, f"$W_y$  {norms['W_y']:.3f}", color=COLOURS[3])
    axes.annotate("", (3.55, 2), (3.12, 2), arrowprops={"arrowstyle": "->", "color": "0.4"})
    axes.text(3.6, 2, "$E_3 = (d_3 - y_3)^2$", va="center")
    for step in range(4):
        _node(axes, step, 1, f"$s_{step}$")
    _node(axes, 3, 2, "$y_3$")
    axes.set(xlim=(-0.3, 4.6), ylim=(-0.3, 2.3))
    axes.axis("off")


def _edge(
    axes: Axes, start: tuple[int, int], end: tuple[int, int], share: float, colour: int
) -> None:
    xs, ys = (start[0], end[0]), (start[1], end[1])
    axes.plot(
        xs, ys, color=COLOURS[colour], linewidth=WIDEST * share, solid_capstyle="butt", zorder=1
    )
    axes.plot(xs, ys, color=COLOURS[colour], linewidth=0.6, zorder=1)


def _node(axes: Axes, x: float, y: float, text: str) -> None:
    axes.scatter([x], [y], s=800, color="white", edgecolors="0.2", zorder=3)
    axes.text(x, y, text, ha="center", va="center", zorder=4)


def _of_an_lstm(path: Path) -> None:
    """The same picture for any cell and number of steps."""
    cell = rnnlab.LSTM(16)
    params = cell.init(jax.random.key(0), 4)
    xs = jax.random.normal(jax.random.key(1), (12, 4))
    matrix = bptt_contributions(cell, params, xs, lambda ys: jnp.sum(ys[-1] ** 2), rows=12)
    norms = np.asarray(matrix.log_norm_state)[-1]
    share = np.exp(norms[0] - norms[-1])
    figure = rnnlab.report.unfolded(matrix)
    text = (
        f"An LSTM of 16 units on noise: {share:.1%} of the gradient reaches the first of 12 states"
    )
    title(figure, text, 100)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
