"""ConvLSTM and ConvGRU: slow twins, every engine, the gradient flow, and Flax's ConvLSTMCell."""

import copy
import functools
import pickle

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.cells import GRU, ConvGRU, ConvLSTM, LSTMState, conv
from tests.reference import close, loop, one_sentence
from tests.reference.cells import draw_params, draw_state
from tests.reference.images import IMAGES
from tests.test_driver import score
from tests.test_engines import LOOPS, under

pytestmark = pytest.mark.long

T, B = 5, 3
EACH = pytest.mark.parametrize("twin", IMAGES, ids=lambda twin: twin.name)


def noise(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def course(cell, steps=T):
    """Parameters, inputs, initial state, and marks of every kind."""
    rng = np.random.default_rng(5)
    marks = {
        "lengths": rng.integers(1, steps + 1, B),
        "resets": rng.random((steps, B)) < 0.3,
        "mask": rng.random((steps, B)) < 0.8,
        "reverse": True,
    }
    inputs = 2 * cell.pixels
    return draw_params(cell, inputs), noise(steps, B, inputs), draw_state(cell, (B,)), marks


@EACH
def test_unroll_is_the_loop(twin):
    params, xs, start, marks = course(twin.cell)
    expected = loop.unroll(twin.step, params, xs, start, **marks)
    found = rnnlab.unroll(twin.cell, params, xs, start, **marks, engine="scan")
    close(found, (expected.final, expected.ys))


@EACH
def test_a_single_image_needs_no_batch_axis(twin):
    params, xs, start, _ = course(twin.cell)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), start)
    state, y = twin.cell.step(params, start, xs[0])
    close(twin.cell.step(params, one, xs[0, 0]), jax.tree.map(lambda leaf: leaf[0], (state, y)))
    assert twin.cell.images(y).shape == (B, *twin.cell.shape, twin.cell.hidden_size)
    assert y.shape[-1] == twin.cell.output_size


def derivatives(cell, how, order):
    params, xs, start, marks = course(cell, 3 if order == 2 else T)

    def loss(params, xs, start):
        final, ys = rnnlab.unroll(cell, params, xs, start, **marks, **how)
        return score(final, ys), (final, ys)

    def slopes(*inputs):
        gradient = jax.grad(lambda *given: loss(*given)[0], argnums=(0, 1, 2))(*inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradient))

    inputs = jax.tree.map(jnp.asarray, (params, xs, start))
    if order == 2:
        return jax.jit(jax.grad(slopes, argnums=(0, 1, 2)))(*inputs)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)


@functools.cache
def by_scan(cell, order):
    return derivatives(cell, {"engine": "scan"}, order)


@pytest.mark.combinations
@pytest.mark.parametrize("order", [1, 2])
@under(LOOPS)
@EACH
def test_values_and_derivatives_are_those_of_scan(twin, how, order):
    close(derivatives(twin.cell, how, order), by_scan(twin.cell, order))


@pytest.mark.combinations
@EACH
def test_contributions_sum_to_the_gradient(twin):
    params, xs, _, marks = course(twin.cell)

    def loss(ys):
        return jnp.sum(jnp.sin(ys))

    flow = rnnlab.gradient_flow(twin.cell, params, xs, loss, keep_contributions=True, **marks)
    gradient = jax.grad(lambda p: loss(rnnlab.unroll(twin.cell, p, xs, **marks)[1]))(params)
    close(flow.gradient, gradient)
    close(jax.tree.map(lambda leaf: leaf.sum(axis=0), flow.contributions), gradient)


# Flax


def flax_variables(params):
    """Our weights as those of Flax's cell, whose gates are i, g, f, o and whose f has a 1 added."""

    def order(leaf):
        i, f, g, o = jnp.split(leaf, 4, axis=-1)
        return jnp.concatenate([i, g, f, o], axis=-1)

    size = params.b.shape[0] // 4
    b = params.b.at[size : 2 * size].add(-1.0)
    # Flax has two biases, of which only the sum counts.
    ih = {"kernel": order(params.w_x), "bias": order(b) / 4}
    hh = {"kernel": order(params.w_h), "bias": order(b) * 3 / 4}
    return {"params": {"ih": ih, "hh": hh}}


@pytest.mark.parametrize(
    ("shape", "kernel_size"), [((4,), (3,)), ((3, 4), (3, 2)), ((2, 2, 3), (2, 3, 1))], ids=str
)
def test_values_and_gradients_are_those_of_flax(shape, kernel_size):
    cell = ConvLSTM(2, shape=shape, kernel_size=kernel_size)
    module = linen.ConvLSTMCell(2, kernel_size, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.asarray, draw_params(cell, 3 * cell.pixels))
    images, c, h = noise(T, B, *shape, 3), noise(B, *shape, 2), noise(B, *shape, 2, seed=4)

    def flax(params, images, c, h):
        variables = flax_variables(params)
        final, ys = jax.lax.scan(lambda s, x: module.apply(variables, s, x), (c, h), images)
        return score(final, ys), (final, ys)

    def ours(params, images, c, h):
        start = LSTMState(c.reshape(B, -1), h.reshape(B, -1))
        final, ys = rnnlab.unroll(cell, params, images.reshape(T, B, -1), start)
        final, ys = jax.tree.map(cell.images, (tuple(final), ys))
        return score(final, ys), (final, ys)

    inputs = params, *map(jnp.asarray, (images, c, h))
    both = (jax.value_and_grad(f, argnums=(0, 1, 2, 3), has_aux=True) for f in (ours, flax))
    close(*(jax.jit(f)(*inputs) for f in both))


# One product in place of a convolution


@pytest.mark.parametrize("kernel_size", [(3,), (3, 2), (2, 1, 4), (5, 5)], ids=str)
def test_the_product_of_patches_is_the_convolution(kernel_size):
    shape = (4, 3, 5)[: len(kernel_size)]
    images, kernel = noise(2, *shape, 3), noise(*kernel_size, 3, 4, seed=4)

    def both(how):
        def slope(images, kernel):
            return jax.grad(lambda i, k: jnp.sum(jnp.sin(how(i, k))), argnums=(0, 1))(
                images, kernel
            )

        second = jax.jacfwd(lambda k: slope(images, k)[0].sum())(kernel)
        return how(images, kernel), slope(images, kernel), second

    close(both(conv._product), both(conv._convolution))


def test_a_gpu_gets_a_convolution_and_a_cpu_a_product():
    cell = ConvLSTM(2, shape=(4, 4))
    params = cell.init(jax.random.key(0), 16)
    traced = jax.jit(cell.step).trace(params, cell.initial_state(), jnp.ones(16))
    for platform, has_convolution in (("cpu", False), ("cuda", True)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == has_convolution


# Exact facts


def test_a_kernel_of_one_pixel_is_a_gru_for_each_pixel():
    cell = ConvGRU(3, shape=(2, 2), kernel_size=1)
    params, xs = draw_params(cell, 4 * 2), noise(T, B, 4 * 2)
    of_pixel = draw_params(GRU(3), 2)._replace(
        w_x=params.w_x[0, 0], w_h=params.w_h[0, 0], b=params.b, c=params.c
    )
    _, expected = rnnlab.unroll(GRU(3), of_pixel, xs.reshape(T, B, 4, 2))
    close(rnnlab.unroll(cell, params, xs)[1], expected.reshape(T, B, 12))


def test_one_pixel_reaches_one_pixel_further_at_each_step():
    """A kernel of three pixels sees one neighbour on each side, of h as of x."""
    cell = ConvLSTM(1, shape=(9,))
    params = draw_params(cell, 9)

    def last(x):
        xs = jnp.concatenate([x[None], jnp.zeros((2, 9))])
        return rnnlab.unroll(cell, params, xs)[1][-1]

    reached = np.asarray(jax.jacobian(last)(jnp.ones(9))[4]) != 0
    np.testing.assert_array_equal(reached, np.abs(np.arange(9) - 4) <= 3)


def test_initial_parameters():
    cell = ConvLSTM(2, shape=(4, 4), peephole=True)
    params = cell.init(jax.random.key(0), 16 * 3)
    assert params.w_x.shape == (3, 3, 3, 8)
    np.testing.assert_array_equal(params.b, [0.0, 0, 1, 1, 0, 0, 0, 0])
    assert not params.peephole.any()
    # Orthogonal for each gate, over all pixels and channels of the kernel.
    gate = np.asarray(params.w_h)[..., :2].reshape(18, 2)
    np.testing.assert_allclose(gate.T @ gate, np.eye(2), atol=1e-5)


@pytest.mark.parametrize("kind", [ConvLSTM, ConvGRU])
def test_a_cell_is_its_fields(kind):
    cell = kind(2, shape=[3, 4], kernel_size=[3, 3])
    assert cell == kind(2, shape=(3, 4)) == pickle.loads(pickle.dumps(cell)) == copy.copy(cell)
    assert hash(cell) == hash(kind(2, shape=(3, 4)))


@pytest.mark.parametrize("kind", [ConvLSTM, ConvGRU])
def test_half_precision_with_a_float32_state(kind):
    cell = kind(2, shape=(4,), dtype=jnp.bfloat16)
    params = cell.init(jax.random.key(0), 4)
    xs = jnp.ones((T, B, 4), jnp.float32)
    assert cell.project(params, xs).dtype == jnp.bfloat16
    final, ys = rnnlab.unroll(cell, params, xs)
    assert {leaf.dtype for leaf in (*final, ys)} == {jnp.dtype(jnp.float32)}


def test_layers_of_convolutions():
    cell = rnnlab.stack([ConvLSTM(3, shape=(2, 2)), ConvGRU(3, shape=(2, 2))], residual=True)
    params = cell.init(jax.random.key(0), 4 * 2)
    assert rnnlab.unroll(cell, params, jnp.ones((T, B, 8)))[1].shape == (T, B, 12)


def test_what_does_not_fit_is_refused():
    cell = ConvLSTM(2, shape=(2, 3))
    params = cell.init(jax.random.key(0), 6)
    one_sentence(lambda: cell.init(jax.random.key(0), 7), "(2, 3)", "6 pixels", "multiple")
    one_sentence(lambda: rnnlab.unroll(cell, params, jnp.ones((T, B, 7))), "6 pixels")
    one_sentence(lambda: rnnlab.unroll(cell, params, jnp.ones((T, B, 12))), "shape", "12")
    one_sentence(lambda: ConvLSTM(2, shape=(2, 0)), "shape", "at least 1")
    one_sentence(lambda: ConvLSTM(2, shape=5), "shape", "tuple")
    one_sentence(lambda: ConvLSTM(2, shape=(2, 3), kernel_size=(3,)), "kernel_size", "1 axes")
    one_sentence(lambda: ConvGRU(2, shape=(2,), kernel_size=0), "kernel_size", "at least 1")
    one_sentence(lambda: ConvGRU(2, shape=(2,), reset="late"), "reset")
    one_sentence(lambda: ConvGRU(2, shape=(2,), recurrent_bias=True), "ConvGRU", "one bias")
    one_sentence(lambda: ConvLSTM(2, shape=(2,), forget_bias=1.0, bias=False), "forget_bias")
