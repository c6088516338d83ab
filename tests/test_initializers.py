"""Initial weights: what each initialiser draws, and that equal ones make equal cells."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import initializers, unroll
from rnnlab.cells import GRU, LSTM, RNN, JordanRNN, LeakyRNN, RNNState
from rnnlab.cells.registry import INITS, REGISTRY, make_cell
from tests.reference import close, one_sentence

KEY = jax.random.key(0)


# Equal arguments, equal initialisers


FACTORIES = [
    ("orthogonal", (), {"scale": 1.0}),
    ("lecun_normal", (), {}),
    ("glorot_uniform", (), {}),
    ("hidden_uniform", (), {}),
    ("all_gates", (initializers.orthogonal(),), {"init": initializers.orthogonal()}),
    ("normal", (0.1,), {"stddev": 0.1}),
    ("uniform", (0.1,), {"scale": 0.1}),
    ("constant", (0.5,), {"value": 0.5}),
    ("identity", (0.5,), {"scale": 0.5}),
    ("gaussian_gain", (1.5,), {"gain": 1.5}),
    ("spectral_radius", (0.9,), {"radius": 0.9}),
    ("logistic", (), {}),
    ("chrono", (100.0,), {"max_lag": 100.0}),
]


@pytest.mark.parametrize(("name", "args", "named"), FACTORIES)
def test_equal_arguments_give_equal_cells(name, args, named):
    """By position, by name or by default; so one compiled program serves two cells built alike."""
    factory = getattr(initializers, name)
    one, two = LSTM(3, recurrent_init=factory(*args)), LSTM(3, recurrent_init=factory(**named))
    assert one == two
    assert hash(one) == hash(two)


CALLS = pytest.mark.parametrize(("name", "args"), [call[:2] for call in FACTORIES])


@CALLS
def test_an_initialiser_prints_as_the_call_that_makes_it(name, args):
    made = getattr(initializers, name)(*args)
    assert eval(repr(made), vars(initializers)) == made


@CALLS
def test_an_initialiser_can_be_pickled_and_copied(name, args):
    made = getattr(initializers, name)(*args)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_a_whole_number_is_its_float():
    assert initializers.chrono(100) == initializers.chrono(100.0)
    assert RNN(3, recurrent_init=initializers.identity(1)) == RNN(
        3, recurrent_init=initializers.identity()
    )


def test_other_arguments_make_another_cell():
    assert initializers.identity(0.5) != initializers.identity(0.6)
    assert RNN(3, recurrent_init=initializers.identity(0.5)) != RNN(
        3, recurrent_init=initializers.identity(0.6)
    )


# What cells ask for


@pytest.mark.parametrize("kind", [RNN, LeakyRNN, LSTM, GRU, JordanRNN])
def test_recurrent_weights_start_orthogonal_gate_by_gate(kind):
    w = np.asarray(kind(8, param_dtype=jnp.float64).init(KEY, 3).w_h)
    blocks = np.split(w, w.shape[1] // 8, axis=1)
    for block in blocks:
        close(block.T @ block, np.eye(8))
    assert len({block.tobytes() for block in blocks}) == len(blocks)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_input_weights_start_as_lecuns(kind):
    """Variance 1/I whatever H is, mean 0; five standard errors on either side."""
    w = np.asarray(kind(200, recurrent_init=initializers.constant(0.0)).init(KEY, 50).w_x)
    assert abs(w.mean() * np.sqrt(50)) < 5 / np.sqrt(w.size)
    assert abs(w.var() * 50 - 1) < 5 * np.sqrt(2 / w.size)


def test_biases_start_at_zero():
    for cell in (
        RNN(3, recurrent_bias=True),
        GRU(3),
        LSTM(3, forget_bias=0.0, recurrent_bias=True),
        JordanRNN(3),
    ):
        biases = {
            name: leaf
            for name, leaf in cell.init(KEY, 2)._asdict().items()
            if name in ("b", "c", "b_y")
        }
        assert not any(leaf.any() for leaf in biases.values() if leaf is not None)


def test_fields_choose_the_initialiser():
    """Each gate asks for its own matrix, and biases are asked for gate by row."""
    sevens, halves = initializers.constant(7.0), initializers.constant(0.5)
    params = GRU(
        3, kernel_init=sevens, recurrent_init=initializers.identity(2.0), bias_init=halves
    ).init(KEY, 2)
    assert (params.w_x == 7).all()
    close(np.asarray(params.w_h), np.tile(2 * np.eye(3, dtype=np.float32), 3))
    assert (params.b == 0.5).all()

    def numbered(_key, shape, dtype):
        return jnp.broadcast_to(jnp.arange(shape[0], dtype=dtype)[:, None], shape)

    for kind, gates in ((RNN, 1), (LSTM, 4), (GRU, 3)):
        b = kind(2, bias_init=numbered).init(KEY, 2).b
        close(np.asarray(b), np.repeat(np.arange(gates, dtype=np.float32), 2))


# What each one draws


def draw(initializer, *shape):
    return np.asarray(initializer(KEY, shape, jnp.float64))


def test_identity():
    close(draw(initializers.identity(), 4, 4), np.eye(4))
    close(draw(initializers.identity(0.3), 4, 4), 0.3 * np.eye(4))


def test_identity_recurrence_keeps_a_relu_networks_state():
    """The IRNN: W = I, ReLU and no bias copy a state for ever where no input comes."""
    cell = RNN(
        4, activation="relu", recurrent_init=initializers.identity(), param_dtype=jnp.float64
    )
    state = RNNState(jnp.arange(4.0))
    final, _ = unroll(cell, cell.init(KEY, 2), jnp.zeros((100, 2)), state)
    close(final, state)


def test_orthogonal_recurrence_keeps_the_norm_of_a_gradient():
    """‖∂h_T/∂h₀‖ = 1 for a linear network, in every direction."""
    cell = RNN(4, activation="identity", param_dtype=jnp.float64)
    params = cell.init(KEY, 2)
    jacobian = jax.jacobian(lambda h: unroll(cell, params, jnp.ones((50, 2)), RNNState(h))[0].h)(
        jnp.ones(4)
    )
    close(np.linalg.svd(jacobian, compute_uv=False), np.ones(4))


@pytest.mark.parametrize("size", [1, 2, 30])
@pytest.mark.parametrize("radius", [0.5, 1.0, 1.3])
def test_spectral_radius_is_exact(radius, size):
    w = draw(initializers.spectral_radius(radius), size, size)
    close(np.abs(np.linalg.eigvals(w)).max(), np.float64(radius))


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (initializers.gaussian_gain(1.5), 1.5 / np.sqrt(300)),
        (initializers.logistic(), 3.6 / np.sqrt(300)),
    ],
    ids=["gaussian_gain", "logistic"],
)
def test_gaussians(initializer, deviation):
    """Mean, variance and kurtosis within five standard errors; N is the fan-in."""
    w = draw(initializer, 300, 200) / deviation
    assert abs(w.mean()) < 5 / np.sqrt(w.size)
    assert abs(w.var() - 1) < 5 * np.sqrt(2 / w.size)
    assert abs((w**4).mean() - 3) < 5 * np.sqrt(96 / w.size)


def test_a_gaussians_spectral_radius_is_its_gain():
    """About g, and the largest singular value about 2g, as N grows (Girko; Marchenko & Pastur)."""
    w = draw(initializers.gaussian_gain(0.8), 250, 250)
    assert abs(np.abs(np.linalg.eigvals(w)).max() / 0.8 - 1) < 0.1
    assert abs(np.linalg.norm(w, 2) / 1.6 - 1) < 0.1


@pytest.mark.parametrize("max_lag", [3, 100, 784.0])
def test_chrono_for_an_lstm(max_lag):
    """b_f = ln U[1, T − 1], b_i = −b_f, all else 0: time constants 1/(1 − σ(b_f)) of 2 … T."""
    size = 2000
    cell = LSTM(
        size, bias_init=initializers.chrono(max_lag), recurrent_init=initializers.constant(0.0)
    )
    b_i, b_f, b_g, b_o = np.split(np.asarray(cell.init(KEY, 1).b, np.float64), 4)
    close(b_i, -b_f)
    assert not b_g.any()
    assert not b_o.any()
    assert b_f.min() >= 0
    assert np.exp(b_f).max() <= (max_lag - 1) * (1 + 1e-6)
    spread = (max_lag - 2) / np.sqrt(12)
    assert abs(np.exp(b_f).mean() - max_lag / 2) < 5 * spread / np.sqrt(size)
    assert abs(np.exp(b_f).std() - spread) < 5 * spread / np.sqrt(size)


def test_chrono_for_a_gru():
    """z keeps the old state, so its bias is what an LSTM's forget gate has."""
    cell = GRU(50, bias_init=initializers.chrono(100))
    b_r, b_z, b_n = np.split(np.asarray(cell.init(KEY, 1).b), 3)
    assert not b_r.any()
    assert not b_n.any()
    assert b_z.min() >= 0
    assert b_z.max() <= np.log(99) + 1e-6
    assert len(np.unique(b_z)) == 50


# Initial weights by name


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_pytorch_draws_all_weights_and_both_biases_alike(name):
    """U(−1/√H, 1/√H): mean and variance within five standard errors, as for PyTorch's module."""
    torch = pytest.importorskip("torch")
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name](50, 100)
    params = make_cell(name, 100, init="pytorch").init(KEY, 50)
    own = dict(zip(("w_x", "w_h", "b", "c"), module.state_dict().values(), strict=True))
    assert {name for name, leaf in params._asdict().items() if leaf is not None} == own.keys()
    for field, tensor in own.items():
        leaf = np.asarray(getattr(params, field), np.float64)
        assert leaf.size == tensor.numel()
        for values in (leaf, tensor.numpy().astype(np.float64)):
            assert np.abs(values).max() <= 0.1
            assert abs(values.mean()) < 5 * 0.1 / np.sqrt(3 * values.size)
            assert abs(values.var() - 0.01 / 3) < 5 * 0.01 * np.sqrt(4 / 45 / values.size)
    if name != "rnn":
        assert not np.array_equal(params.b, params.c)


def test_keras_draws_one_orthogonal_matrix_for_all_gates():
    params = make_cell("lstm", 64, init="keras", param_dtype="float64").init(KEY, 10)
    close(np.asarray(params.w_h @ params.w_h.T), np.eye(64))
    limit = np.sqrt(6 / (10 + 256))
    assert 0.95 * limit < np.abs(params.w_x).max() <= limit
    np.testing.assert_array_equal(params.b.reshape(4, 64)[1], 1)
    # A block of it has singular values well below 1, where a gate of its own would have all at 1.
    blocks = np.split(np.asarray(params.w_h), 4, axis=1)
    assert max(np.abs(np.linalg.eigvals(block)).max() for block in blocks) < 0.7


def test_other_initial_weights_by_name():
    lstm = make_cell("lstm", 8, init="flax").init(KEY, 3)
    assert not lstm.b.any()
    rnn = make_cell("rnn", 8, init="identity").init(KEY, 3)
    np.testing.assert_array_equal(rnn.w_h, np.eye(8))
    gru = make_cell("gru", 8, init="chrono", max_lag=50).init(KEY, 3)
    assert gru.b.reshape(3, 8)[1].min() >= 0
    assert make_cell("rnn", 8, init="chrono") == RNN(8)
    assert make_cell("irnn", 8, init="pytorch").recurrent_init == initializers.identity()


@pytest.mark.combinations
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", REGISTRY)
def test_every_cell_takes_every_initial_weights(name, init):
    cell = make_cell(name, 4, init=init)
    assert hash(cell) == hash(make_cell(name, 4, init=init))
    params = cell.init(KEY, 3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_second_bias_is_drawn_only_where_there_is_one():
    one_sentence(
        lambda: LSTM(3, recurrent_bias_init=initializers.zeros),
        "recurrent_bias_init",
        "recurrent_bias=True",
    )


@pytest.mark.parametrize("init", [initializers.orthogonal(), initializers.spectral_radius(0.9)])
def test_vmap_decomposes_one_matrix_after_the_other(init):
    # Two decompositions of several matrices in one program can wait for each other for ever.
    keys = jax.random.split(jax.random.key(0), 3)

    def draw(key):
        return init(key, (6, 6), jnp.float64)

    traced = jax.make_jaxpr(jax.vmap(draw))(keys)
    assert [equation.primitive.name for equation in traced.eqns] == ["scan"]
    np.testing.assert_allclose(jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys]))
