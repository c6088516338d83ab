"""The step and the loop train the models of other libraries: Flax NNX, Equinox and Haiku."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rnnlab.training import fit, initial_state, train_step
from rnnlab.training.metrics import numbers
from rnnlab.training.trees import fingerprint
from tests.reference.programs import shared_programs

T, B, I, H = 5, 4, 2, 3
RANDOM = np.random.default_rng(0)
XS = RANDOM.standard_normal((40, T, B, I)).astype(np.float32)
DATA = [(xs, xs.sum(axis=(0, 2))) for xs in XS]
"""The target is the sum of all inputs."""

ADAM = optax.adam(0.05)


@pytest.fixture(autouse=True, scope="module")
def _equal_runs_share_a_program():
    with shared_programs():
        yield


def learns(params, predict, tmp_path):
    """A run in a directory, resumed in between; the first steps are those of the step by hand."""

    def loss(params, batch, key):
        del key
        xs, targets = batch
        return jnp.mean((predict(params, xs) - targets) ** 2), {}

    options = {"loss": loss, "params": params, "progress": False}
    out = tmp_path / "run"
    fit(None, DATA, ADAM, steps=2, out=out, **options)
    run = fit(None, DATA, ADAM, steps=40, out=out, resume=True, **options)
    losses = run.metrics["loss"]
    assert losses[-10:].mean() < 0.7 * losses[:10].mean()
    assert jax.tree.structure(run.params) == jax.tree.structure(params)
    _, key = jax.random.split(jax.random.key(0))
    state = initial_state(params, ADAM, key)
    step = jax.jit(train_step(loss, ADAM))
    for batch in DATA[:3]:
        state, metrics = step(state, batch)
    assert losses[2] == numbers(metrics)["loss"]
    assert fingerprint(fit(None, DATA, ADAM, steps=3, **options).state) == fingerprint(state)
    return run.params


def test_a_flax_nnx_model(tmp_path):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.rnn = nnx.RNN(nnx.GRUCell(I, H, rngs=rngs), time_major=True)
            self.readout = nnx.Linear(H, 1, rngs=rngs)

        def __call__(self, xs):
            return self.readout(self.rnn(xs)[-1])[:, 0]

    definition, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def predict(params, xs):
        # A copy of the cell's own random numbers, which each call changes.
        return nnx.merge(definition, params, rest, copy=True)(xs)

    trained = learns(params, predict, tmp_path)
    network = nnx.merge(definition, trained, rest)
    assert network(XS[0]).shape == (B,)


@pytest.mark.long
def test_an_equinox_model(tmp_path):
    eqx = pytest.importorskip(
        "equinox", reason="equinox is not installed; pip install 'rnnlab[peers]'"
    )
    k_cell, k_readout = jax.random.split(jax.random.key(0))
    float32 = {"dtype": jnp.float32}
    network = {
        "cell": eqx.nn.GRUCell(I, H, key=k_cell, **float32),
        "readout": eqx.nn.Linear(H, 1, key=k_readout, **float32),
    }
    params, rest = eqx.partition(network, eqx.is_inexact_array)

    def predict(params, xs):
        network = eqx.combine(params, rest)

        def one(xs):
            start = jnp.zeros(H, jnp.float32)
            state, _ = jax.lax.scan(lambda h, x: (network["cell"](x, h), None), start, xs)
            return network["readout"](state)[0]

        return jax.vmap(one, in_axes=1)(xs)

    learns(params, predict, tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:haiku")
def test_a_haiku_model(tmp_path):
    hk = pytest.importorskip(
        "haiku", reason="dm-haiku is not installed; pip install 'rnnlab[peers]'"
    )

    def forward(xs):
        cell = hk.GRU(H)
        ys, _ = hk.dynamic_unroll(cell, xs, jnp.zeros((B, H), jnp.float32))
        return hk.Linear(1)(ys[-1])[:, 0]

    network = hk.without_apply_rng(hk.transform(forward))
    params = network.init(jax.random.key(0), XS[0])
    learns(params, network.apply, tmp_path)
