"""A figure of every result in one call."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import rnnlab
from rnnlab import diagnostics, training
from rnnlab.report.figures import unfolded as figures_unfolded
from rnnlab.report.figures.style import COLOURS, grid_lines
from tests.reference import one_sentence

CELL = rnnlab.RNN(5, param_dtype=jnp.float64)
PARAMS = CELL.init(jax.random.key(0), 3)
XS = jax.random.normal(jax.random.key(1), (30, 4, 3), jnp.float64)
STARTS = jax.tree.map(lambda leaf: leaf + 0.1, CELL.initial_state((4,)))


def loss(ys):
    return (ys**2).mean()


def monitored():
    optimiser = optax.chain(training.monitor_gradients(every=1), optax.sgd(0.1))
    params, state = PARAMS, optimiser.init(PARAMS)
    for _ in range(3):
        gradient = jax.grad(lambda p: loss(rnnlab.unroll(CELL, p, XS)[1]))(params)
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return training.read_monitor(state)


RESULTS = {
    "flow": lambda: rnnlab.gradient_flow(CELL, PARAMS, XS, loss),
    "contributions": lambda: diagnostics.bptt_contributions(CELL, PARAMS, XS, loss),
    "truncation": lambda: diagnostics.truncation_bias(CELL, PARAMS, XS, loss, steps=(1, 5, 30)),
    "products": lambda: diagnostics.jacobian_products(CELL, PARAMS, XS),
    "bound": lambda: diagnostics.pascanu_bound(CELL, PARAMS, XS),
    "attractors": lambda: diagnostics.attractor_kind(
        jax.random.key(2), CELL, PARAMS, XS[0, 0], STARTS, steps=200
    ),
    "spectrum": lambda: diagnostics.lyapunov_spectrum(CELL, PARAMS, XS),
    "phase": lambda: diagnostics.phase_diagram(
        CELL, PARAMS, XS, jnp.array([0.5, 1.0, 2.0]), jnp.array([10, 30])
    ),
    "points": lambda: diagnostics.fixed_points(CELL, PARAMS, XS[0, 0], STARTS),
    "cycles": lambda: diagnostics.limit_cycles(CELL, PARAMS, XS[0, 0], STARTS, periods=(1,)),
    "monitor": monitored,
}


@pytest.mark.combinations
@pytest.mark.parametrize("name", RESULTS)
def test_every_result_has_a_figure(name, tmp_path):
    figure = rnnlab.report.plot(RESULTS[name]())
    assert all(axes.has_data() for axes in figure.axes)
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_grid_lines_are_behind_bars():
    axes = Figure().subplots()
    (bar,) = axes.bar(0, 1)
    grid_lines(axes)
    assert axes.yaxis.get_zorder() < bar.get_zorder()


def test_a_symbol_at_the_start_of_a_title_stays_what_it_is():
    params = diagnostics.recurrent_gain(PARAMS, 2.0)
    bound = diagnostics.pascanu_bound(CELL, params, XS)
    assert rnnlab.report.plot(bound).get_suptitle().startswith("γ σ_max = 2")
    assert rnnlab.report.plot(RESULTS["flow"]()).get_suptitle()[0].isupper()


def test_the_lines_of_a_flow_are_its_numbers():
    flow = RESULTS["flow"]()
    left, right = rnnlab.report.plot(flow).axes
    median = next(line for line in left.lines if line.get_label() == "median example")
    expected = np.asarray(flow.log_norm_by_lag - flow.log_norm_by_lag[0])
    np.testing.assert_allclose(
        median.get_ydata(), np.where(np.isfinite(expected), expected, np.nan)
    )
    by_name = {line.get_label(): line.get_ydata() for line in right.lines}
    # The first step starts from a state of zero, so it contributes nothing to W_h.
    np.testing.assert_allclose(by_name["w_h"][1:], flow.log_contributions.w_h[1:])
    assert np.isnan(by_name["w_h"][0])


@pytest.mark.long
def test_a_stack_has_a_line_for_each_layer():
    cell = rnnlab.stack([rnnlab.GRU(3), rnnlab.LSTM(4)])
    params = cell.init(jax.random.key(0), 3)
    flow = rnnlab.gradient_flow(cell, params, XS, loss, lengths=jnp.array([30, 3, 12, 1]))
    labels = {line.get_label() for line in rnnlab.report.plot(flow).axes[0].lines}
    assert {"layer 0", "layer 1", "1/1000"} <= labels


def drawn_widths(axes, colour):
    """The widths of the wide lines of a colour, relative to the widest."""
    lines = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata())]
    # A thin line of the same colour lies in the middle of that of a term.
    widths = [line.get_linewidth() for line in lines if line.get_linewidth() != 0.5]
    return np.array(widths) / figures_unfolded.WIDEST


def test_the_lines_of_the_unfolded_network_are_as_wide_as_the_terms():
    matrix = diagnostics.bptt_contributions(CELL, PARAMS, XS[:8], loss, rows=8)
    (axes,) = rnnlab.report.unfolded(matrix, row=6, steps=5).axes
    shown = slice(2, 7)  # steps 3 to 7
    states = np.asarray(matrix.log_norm_state)[6, shown]
    np.testing.assert_allclose(drawn_widths(axes, "0.55"), np.exp(states - states.max()))
    terms = np.stack([leaf[6, shown] for leaf in jax.tree.leaves(matrix.log_contributions)])
    expected = np.exp(terms - terms.max())
    for row, colour in zip(expected, COLOURS[1:], strict=False):
        np.testing.assert_allclose(drawn_widths(axes, colour), row)


def test_a_term_that_is_exactly_zero_has_no_width():
    # From h₀ = 0 the recurrent weights add nothing at the first step.
    matrix = diagnostics.bptt_contributions(CELL, PARAMS, XS[:3], loss, rows=3)
    (axes,) = rnnlab.report.unfolded(matrix).axes
    w_h = drawn_widths(axes, COLOURS[2])
    assert w_h[0] == 0
    assert (w_h[1:] > 0).all()


def test_an_unfolded_network_of_no_such_row_is_refused():
    matrix = diagnostics.bptt_contributions(CELL, PARAMS, XS[:3], loss, rows=3)
    one_sentence(lambda: rnnlab.report.unfolded(matrix, row=3), "row is 3", "3 rows")
    one_sentence(lambda: rnnlab.report.unfolded(matrix, steps=0), "steps")


def test_anything_else_is_refused():
    one_sentence(lambda: rnnlab.report.plot(3.0), "a float has no figure", "GradientFlow")
