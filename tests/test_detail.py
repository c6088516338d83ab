"""A closer look: its records against the instruments themselves, and its figures."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import diagnostics
from rnnlab.report.figures import closer_look as figures
from rnnlab.studies.closer_look import look_closer, spaced
from rnnlab.training.losses import cross_entropy

S, T, B, I, H, V = 2, 9, 3, 2, 4, 5


@pytest.fixture(scope="module")
def looked():
    network = rnnlab.stack(
        [rnnlab.LSTM(H, param_dtype=jnp.float64), rnnlab.Readout(V, param_dtype=jnp.float64)]
    )
    params = jax.vmap(lambda key: network.init(key, I))(jax.random.split(jax.random.key(0), S))
    xs = jax.random.normal(jax.random.key(1), (S, T, B, I), jnp.float64)
    labels = jax.random.randint(jax.random.key(2), (S, T, B), 0, V)
    return network, params, xs, labels, look_closer(network, params, xs, labels)


def of_seed(looked, seed):
    network, params, xs, labels, _ = looked
    cell, readout = network.cells
    weights, readout_weights = jax.tree.map(lambda leaf: leaf[seed], params.layers)
    return (
        cell,
        weights,
        xs[seed],
        lambda ys: cross_entropy(readout(readout_weights, ys), labels[seed]),
    )


@pytest.mark.long
def test_truncation_and_singular_values_are_those_of_each_seed(looked):
    records = looked[-1]
    for seed in range(S):
        cell, weights, xs, loss = of_seed(looked, seed)
        cuts = sorted({row["steps"] for row in records["truncation"]})
        assert cuts[-1] == T
        bias = diagnostics.truncation_bias(cell, weights, xs, loss, steps=cuts)
        mine = [row for row in records["truncation"] if row["seed"] == seed]
        np.testing.assert_allclose([row["cosine"] for row in mine], bias.cosine, rtol=1e-6)
        np.testing.assert_allclose(
            [row["relative_norm"] for row in mine], bias.relative_norm, rtol=1e-6
        )
        products = diagnostics.jacobian_products(cell, weights, xs[:, :1], pairs=[(T, 0)])
        values = [
            r["log_value"] for r in records["singular_values"] if (r["seed"], r["lag"]) == (seed, T)
        ]
        np.testing.assert_allclose(values, products.median_log_singular_values[0], rtol=1e-4)


def median(seeds):
    return np.quantile(np.stack(seeds), 0.5, axis=0, method="inverted_cdf")


@pytest.mark.long
def test_the_matrix_is_the_median_over_the_seeds(looked):
    records = looked[-1]["contributions"]
    assert {row["parameter"] for row in records} == {"w_x", "w_h", "b", "all"}
    assert all(row["k"] <= row["t"] for row in records)
    logs = []
    for seed in range(S):
        cell, weights, xs, loss = of_seed(looked, seed)
        logs.append(diagnostics.bptt_contributions(cell, weights, xs, loss).log_contributions)
    whole = [
        0.5 * np.logaddexp.reduce([2 * np.asarray(leaf) for leaf in jax.tree.leaves(log)])
        for log in logs
    ]
    for name, expected in {
        "w_h": median([log.w_h for log in logs]),
        "all": median(whole),
    }.items():
        for row in (row for row in records if row["parameter"] == name):
            at = expected[row["t"] - 1, row["k"] - 1]
            assert row["log_norm"] == (
                pytest.approx(float(at), rel=1e-6) if np.isfinite(at) else None
            )


def test_lags_are_whole_and_end_at_the_last():
    assert spaced(100, 5) == (1, 3, 10, 32, 100)
    assert spaced(1, 5) == (1,)


def test_figures_say_what_they_show(looked, tmp_path):
    where = {"cell": "lstm", "phase": "untrained", "length": T}
    records = {kind: [{**where, **row} for row in rows] for kind, rows in looked[-1].items()}
    figures.draw(records, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{form}"
        for name in ("singular_values", "contributions", "truncation")
        for form in ("png", "svg")
    }
    largest = [
        r["log_value"] for r in records["singular_values"] if (r["index"], r["lag"]) == (1, T)
    ]
    text = (tmp_path / "singular_values.svg").read_text()
    assert f"lstm\N{NO-BREAK SPACE}{math.exp(np.mean(largest)):.2g}" in text
    assert "range of 2" in text
    means = {
        cut: np.mean([r["cosine"] for r in records["truncation"] if r["steps"] == cut])
        for cut in sorted({r["steps"] for r in records["truncation"]})
    }
    needed = next(cut for cut, mean in means.items() if mean >= 0.99)
    text = (tmp_path / "truncation.svg").read_text()
    assert f"for a cosine of 0.99 (steps): lstm {needed}" in text
