"""Weights from and to Flax: values and gradients against live linen and NNX cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

import rnnlab
from rnnlab import interop
from tests.reference import one_sentence

NAMES = ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def draw(*shape, dtype="float64", seed=0):
    return jnp.array(np.random.default_rng(seed).normal(size=shape), dtype)


def noise(tree):
    """A tree like this one, without a zero."""
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.array(generator.normal(size=leaf.shape), leaf.dtype), tree)


def flax_cell(api, name, param_dtype="float64", **options):
    """Arguments of ``from_flax`` and ``(arrays, carry, x) -> (carry, y)``, for I = 3, H = 5."""
    if api == "linen":
        module = getattr(linen, name)(5, param_dtype=jnp.dtype(param_dtype), **options)
        carry = jax.eval_shape(lambda: module.initialize_carry(jax.random.key(0), (2, 3)))
        # Newer releases of JAX refuse Flax's orthogonal weights in half precision, so the shapes
        # are those of a module whose weights are drawn otherwise.
        drawn = module.clone(recurrent_kernel_init=linen.initializers.lecun_normal())
        shapes = jax.eval_shape(
            drawn.init, jax.random.key(0), carry, jax.ShapeDtypeStruct((2, 3), param_dtype)
        )
        return module, noise(shapes), module.apply
    options = {"dtype": None, **options}  # NNX's SimpleCell computes in float32 unless told
    make = getattr(nnx, name)

    def build(**drawing):
        given = options | drawing
        return nnx.eval_shape(
            lambda: make(3, 5, param_dtype=jnp.dtype(param_dtype), rngs=nnx.Rngs(0), **given)
        )

    try:
        module = build()
    except TypeError:  # as above
        module = build(recurrent_kernel_init=nnx.nn.linear.default_kernel_init)
    graphdef, state = nnx.split(module)
    return graphdef, noise(state), lambda state, carry, x: nnx.merge(graphdef, state)(carry, x)


def same(mine, theirs):
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def score(ys, final):
    return sum(
        jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))
        for out in (ys, *final)
    )


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_values_and_gradients_are_those_of_flax(api, name, dtype):
    module, variables, apply = flax_cell(api, name, dtype)
    cell, params = interop.from_flax(module, variables)
    xs = draw(7, 2, 3, dtype=dtype)
    start = tuple(draw(2, 5, dtype=dtype, seed=s) for s in range(1, 3 if "LSTM" in name else 2))

    @jax.jit
    def flax(variables, xs, start):
        def loss(variables, xs, start):
            carry = start if "LSTM" in name else start[0]
            final, ys = lax.scan(lambda carry, x: apply(variables, carry, x), carry, xs)
            final = final if "LSTM" in name else (final,)
            return score(ys, final), (ys, final)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(variables, xs, start)

    @jax.jit
    def ours(params, xs, start):
        def loss(params, xs, start):
            form = jax.tree.structure(cell.initial_state((2,)))  # (c, h) or (h), as in Flax
            final, ys = rnnlab.unroll(cell, params, xs, jax.tree.unflatten(form, start))
            return score(ys, final), (ys, tuple(final))

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, xs, start)

    value, (gradients, *rest) = ours(params, xs, start)
    if api == "nnx" and name == "GRUCell":
        gradients = gradients._replace(
            c=jnp.zeros(5, dtype)
        )  # that bias is not a parameter of Flax's
    _, gradients = interop.to_flax(cell, gradients, api=api, optimized="Optimized" in name)
    mine, theirs = (value, (gradients, *rest)), flax(variables, xs, start)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype == jnp.dtype(dtype)
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_flax_cells_come_back_bit_for_bit(api, name, dtype):
    options = {"activation_fn": jax.nn.relu, "dtype": jnp.float32} if name == "SimpleCell" else {}
    module, variables, _ = flax_cell(api, name, dtype, **options)
    back, arrays = interop.to_flax(
        *interop.from_flax(module, variables), api=api, optimized="Optimized" in name
    )
    assert back == module
    same(arrays, variables)


CELLS = {
    "rnn": rnnlab.RNN(5),
    "rnn-relu": rnnlab.RNN(5, activation="relu", dtype=jnp.bfloat16),
    "rnn-own-activation": rnnlab.RNN(5, activation=jnp.arctan),
    "lstm": rnnlab.LSTM(5),
    "gru": rnnlab.GRU(5, param_dtype=jnp.float64),
}


@pytest.mark.parametrize("api", ["linen", "nnx"])
@pytest.mark.parametrize("name", CELLS)
def test_cells_come_back_bit_for_bit(name, api):
    cell = CELLS[name]
    params = noise(jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0)))
    if name == "gru" and api == "nnx":
        params = params._replace(c=jnp.zeros_like(params.c))
    back, arrays = interop.from_flax(*interop.to_flax(cell, params, api=api))
    assert back == cell
    assert hash(back) == hash(cell)
    same(arrays, params)


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_bare_parameters_are_understood(name):
    graphdef, state, _ = flax_cell("nnx", name)
    cell, params = interop.from_flax(nnx.merge(graphdef, state))
    assert cell == interop.from_flax(graphdef, state)[0]
    same(params, interop.from_flax(graphdef, state)[1])
    module, variables, _ = flax_cell("linen", name)
    same(interop.from_flax(module, variables["params"])[1], interop.from_flax(module, variables)[1])


def test_what_to_flax_returns_is_ready_to_run():
    cell = rnnlab.LSTM(5)
    params = noise(jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0)))
    x = draw(2, 3, dtype="float32")
    state = cell.initial_state((2,))
    wanted, _ = cell.step(params, state, x)
    module, variables = interop.to_flax(cell, params)
    np.testing.assert_allclose(module.apply(variables, tuple(state), x)[1], wanted.h, rtol=1e-5)
    for optimized in (False, True):
        merged = nnx.merge(*interop.to_flax(cell, params, api="nnx", optimized=optimized))
        assert type(merged) is (nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell)
        np.testing.assert_allclose(merged(tuple(state), x)[1], wanted.h, rtol=1e-5)


def test_weights_pass_through_a_compiled_function():
    module, variables, _ = flax_cell("linen", "GRUCell")
    cell, params = interop.from_flax(module, variables)
    same(jax.jit(lambda variables: interop.from_flax(module, variables)[1])(variables), params)
    same(jax.jit(lambda params: interop.to_flax(cell, params)[1])(params), variables)


LSTM, GRU, RNN = rnnlab.LSTM(5), rnnlab.GRU(5), rnnlab.RNN(5)
REFUSED = {
    "peephole": (rnnlab.LSTM(5, peephole=True), "peephole=True"),
    "layer norm": (rnnlab.LSTM(5, layer_norm=True), "layer_norm=True"),
    "reset before": (rnnlab.GRU(5, reset="before"), "reset='before'"),
    "form": (rnnlab.RNN(5, form="output-state"), "form='output-state'"),
    "leaky": (rnnlab.LeakyRNN(5), "LeakyRNN"),
    "stack": (rnnlab.stack([LSTM]), "Stack"),
    "two ways": (rnnlab.bidirectional(LSTM), "Bidirectional"),
    "no bias": (rnnlab.LSTM(5, bias=False), "bias=True"),
    "second bias": (rnnlab.LSTM(5, recurrent_bias=True), "add params.c to params.b"),
    "second bias of a GRU": (rnnlab.GRU(5, recurrent_bias=True), "r and z rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_flax_cannot_express_is_refused(name):
    cell, words = REFUSED[name]
    params = noise(jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0)))
    one_sentence(lambda: interop.to_flax(cell, params), words)
    one_sentence(lambda: interop.to_flax(cell, params, api="nnx"), words)


def test_wrong_arguments_of_to_flax_are_refused():
    params = noise(jax.eval_shape(lambda key: GRU.init(key, 3), jax.random.key(0)))
    one_sentence(lambda: interop.to_flax(GRU, params, api="nnx"), "NNX GRUCell", 'api="linen"')
    one_sentence(lambda: interop.to_flax(GRU, params, api="haiku"), "haiku")
    one_sentence(lambda: interop.to_flax(GRU, params, optimized=True), "optimized")
    one_sentence(lambda: interop.to_flax(LSTM, params), "LSTMParams", "cell.init")
    one_sentence(
        lambda: interop.to_flax(GRU, params._replace(c=params.c.astype(jnp.float64))), "one dtype"
    )


OPTIONS = {
    "gate_fn": ("GRUCell", {"gate_fn": jax.nn.hard_sigmoid}),
    "activation_fn": ("LSTMCell", {"activation_fn": jax.nn.relu}),
    "residual": ("SimpleCell", {"residual": True}),
}


@pytest.mark.parametrize("api", ["linen", "nnx"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_flax_that_change_the_equations_are_refused(option, api):
    name, options = OPTIONS[option]
    module, variables, _ = flax_cell(api, name, **options)
    one_sentence(lambda: interop.from_flax(module, variables), option, name)


def test_other_promotion_of_dtypes_is_refused():
    module, variables, _ = flax_cell("nnx", "GRUCell", promote_dtype=lambda arrays, **_: arrays)
    one_sentence(lambda: interop.from_flax(module, variables), "promote_dtype")


class Own(linen.GRUCell):
    pass


def test_other_modules_are_refused():
    for module in (
        linen.MGUCell(5),
        linen.ConvLSTMCell(5, (3,)),
        linen.Dense(5),
        linen.RNN(linen.GRUCell(5)),
        Own(5),
    ):
        one_sentence(
            lambda module=module: interop.from_flax(module, {}), type(module).__name__, "bare cell"
        )
    graphdef, state, _ = flax_cell("nnx", "GRUCell")
    wrapped = nnx.RNN(nnx.merge(graphdef, state), rngs=False)
    one_sentence(lambda: interop.from_flax(wrapped), "RNN", "bare cell")
    one_sentence(lambda: interop.from_flax(5), "not a Flax module")


def test_variables_that_are_not_the_modules_are_refused():
    module, variables, _ = flax_cell("linen", "LSTMCell")
    one_sentence(lambda: interop.from_flax(module), "holds no arrays")
    one_sentence(lambda: interop.from_flax(module, {}), "structure", "LSTMCell")
    one_sentence(
        lambda: interop.from_flax(module, {"params": {"LSTMCell_0": variables["params"]}}),
        "structure",
    )
    one_sentence(lambda: interop.from_flax(linen.LSTMCell(4), variables), "shape")
    one_sentence(lambda: interop.from_flax(linen.GRUCell(5), variables), "structure")
    mixed = {**variables["params"], "ii": {"kernel": jnp.ones((3, 5), jnp.float32)}}
    one_sentence(
        lambda: interop.from_flax(module, mixed), "float32 (['ii']['kernel'])", "one dtype"
    )
    graphdef, state, _ = flax_cell("nnx", "LSTMCell")
    one_sentence(lambda: interop.from_flax(graphdef), "state")
    one_sentence(lambda: interop.from_flax(nnx.merge(graphdef, state), state), "own arrays")


def test_float64_is_never_truncated():
    module, variables, _ = flax_cell("linen", "LSTMCell")
    variables = jax.tree.map(np.asarray, variables)
    with jax.enable_x64(False):
        one_sentence(lambda: interop.from_flax(module, variables), "jax_enable_x64")
