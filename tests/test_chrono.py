"""The experiment on chrono initial biases."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.chrono import run


def test_the_two_networks_differ_in_their_biases_alone():
    plan = run.QUICK
    one, chrono = (run.cell(init, plan).init(jax.random.key(0), 2) for init in run.INITS)
    np.testing.assert_array_equal(one.w_x, chrono.w_x)
    np.testing.assert_array_equal(one.w_h, chrono.w_h)
    i, f, g, o = jnp.split(one.b, 4)
    assert jnp.all(f == 1)
    assert not jnp.any(jnp.concatenate([i, g, o]))
    i, f, g, o = jnp.split(chrono.b, 4)
    assert jnp.all((f >= 0) & (f <= np.log(plan.length - 1)))
    np.testing.assert_array_equal(i, -f)
    assert not jnp.any(jnp.concatenate([g, o]))


def test_a_loss_counts_as_reached_when_it_stays_below():
    losses = [1.0, 0.4, 0.6, 0.3, 0.2]
    curve = [{"updates": 10 * i, "loss": loss} for i, loss in enumerate(losses)]
    assert run.first_below(curve, 0.5) == 30
    assert run.first_below(curve, 0.25) == 40
    assert run.first_below(curve, 0.1) is None
    assert run.first_below([*curve, {"updates": 50, "loss": float("nan")}], 0.5) is None
