"""JAX's switches and transformations: under each, a cell gives what "scan" gives alone."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnnlab
from rnnlab import diagnostics, training, unroll
from rnnlab.cells import GRU, LSTM, RNN, JordanRNN, LeakyRNN, Readout
from tests.reference import close
from tests.reference.cells import draw_params, draw_state
from tests.reference.native import needs_native

T, B, I = 3, 2, 2
ENGINES = {
    "scan": {"engine": "scan"},
    "fused": {"engine": "fused"},
    "fused, states": {"engine": "fused", "residuals": "states"},
    "checkpointed": {"engine": "checkpointed"},
    "native": {"engine": "native"},
}
STEP = rnnlab.Step(
    lambda w, h, x: (jnp.tanh(h @ w + x), h), lambda batch: jnp.zeros((*batch, I), jnp.float64)
)
CELLS = {
    "columns": LSTM(3, recurrent_bias=True),
    "lines": RNN(3),
    "rows": LSTM(3, peephole=True, layer_norm=True),
    "products in the gate": GRU(3, reset="before", layer_norm=True),
    "jordan": JordanRNN(3, feedback_size=2),
    "layers": rnnlab.stack([rnnlab.bidirectional(GRU(1)), RNN(2), Readout(2)], residual=True),
    "step": STEP,
}
LENGTHS = np.array([3, 0])
RESETS = np.array([[False, True], [True, False], [False, True]])


def inputs(name):
    """Parameters, inputs ``[T, B, I]`` and an initial state, in float64."""
    cell = CELLS[name]
    params = np.array([[0.5, -1.0], [0.3, 0.2]]) if cell is STEP else draw_params(cell, I)
    xs = np.random.default_rng(0).normal(size=(T, B, I))
    return jax.tree.map(jnp.asarray, (params, xs, draw_state(cell, (B,))))


def loss(name, how):
    """A function of parameters, inputs, state and marks: the sum of all results over examples."""

    def run(params, xs, start, lengths=LENGTHS, resets=RESETS):
        out = unroll(CELLS[name], params, xs, start, lengths=lengths, resets=resets, **how)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out))

    return run


def gradient(run):
    return jax.value_and_grad(run, argnums=(0, 1, 2))


@functools.cache
def expected(name):
    """Loss and gradients on "scan", with nothing set and nothing around."""
    return jax.jit(gradient(loss(name, ENGINES["scan"])))(*inputs(name))


def runs(engine, name):
    """Whether an engine runs a cell of CELLS."""
    if engine == "native":
        return name in ("columns", "lines", "layers")
    return name != "step" or not engine.startswith("fused")


def case(*values):
    """Values of a test of which the last is an engine."""
    return pytest.param(*values, marks=needs_native if values[-1] == "native" else ())


def cases(*cells):
    """Every engine with every one of ``cells`` that it can run."""
    listed = [case(cell, engine) for cell in cells for engine in ENGINES if runs(engine, cell)]
    return pytest.mark.parametrize(("name", "engine"), listed)


# Switches


@contextlib.contextmanager
def all_that_refuse():
    """Everything by which JAX can be told to refuse what it would let pass."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.debug_infs(True),
        jax.checking_leaks(),
    ):
        yield


@pytest.mark.combinations
@cases(*CELLS)
def test_no_switch_is_tripped(name, engine):
    wanted, given = expected(name), inputs(name)
    with all_that_refuse():
        found = gradient(loss(name, ENGINES[engine]))(*given)
    close(found, wanted)


HALF = {
    "lstm": LSTM(3, dtype=jnp.bfloat16),
    "peephole": LSTM(3, peephole=True, layer_norm=True, dtype=jnp.bfloat16),
    "gru": GRU(3, dtype=jnp.bfloat16),
    "gru-before": GRU(3, reset="before", dtype=jnp.bfloat16),
    "leaky": LeakyRNN(3, dtype=jnp.bfloat16),
}


@pytest.mark.combinations
@pytest.mark.parametrize("engine", ["scan", "fused"])
@pytest.mark.parametrize("cell", HALF.values(), ids=HALF)
def test_half_precision_is_no_promotion(cell, engine):
    """Computing in bfloat16 on float32 states and parameters is explicit, so it is accepted."""
    params = jax.eval_shape(lambda key: cell.init(key, I), jax.random.key(0))
    xs = jax.ShapeDtypeStruct((T, B, I), jnp.bfloat16)
    how = ENGINES[engine] | {"lengths": LENGTHS, "resets": RESETS}
    with jax.numpy_dtype_promotion("strict"):
        shapes = jax.eval_shape(
            jax.grad(lambda p, x: unroll(cell, p, x, **how)[0].h.sum()), params, xs
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("float32")}


@pytest.mark.combinations
@cases("columns", "rows")
def test_without_jit(name, engine):
    wanted, given = expected(name), inputs(name)
    with jax.disable_jit():
        found = gradient(loss(name, ENGINES[engine]))(*given)
    close(found, wanted)


@pytest.mark.combinations
@cases("columns", "layers")
def test_without_64_bits(name, engine):
    """All is float32 then, what the cell makes itself too."""
    with jax.enable_x64(False):
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), inputs(name))
        found = gradient(loss(name, ENGINES[engine]))(*given)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    close(jax.tree.map(jnp.float64, found), expected(name), 1e-5)


# Transformations: each gives the loss and its gradients, computed in another way

MARKS = jnp.asarray(LENGTHS), jnp.asarray(RESETS)
BY_EXAMPLE = None, 1, 0, 0, 1
"""Where parameters, inputs, state, lengths and resets have the axis of examples."""


def example(given, index):
    """One example of all that is given."""
    params, xs, start, lengths, resets = given
    one = jax.tree.map(lambda leaf: leaf[index], start)
    return params, xs[:, index], one, lengths[index], resets[:, index]


def under_jit(run, *given):
    return jax.jit(gradient(run))(*given)


def under_remat(run, *given):
    return gradient(jax.checkpoint(run))(*given)


def under_vmap(run, *given):
    def total(*shown):
        return jax.vmap(run, BY_EXAMPLE)(*shown, *MARKS).sum()

    return gradient(total)(*given)


def in_scan(run, *given):
    """One example after the other."""

    def total(*shown):
        def add(so_far, index):
            return so_far + run(*example((*shown, *MARKS), index)), None

        return lax.scan(add, 0.0, jnp.arange(B))[0]

    return gradient(total)(*given)


def in_cond(run, *given):
    def chosen(flag, *shown):
        return lax.cond(flag, run, lambda *_: 0.0, *shown)

    return jax.jit(jax.value_and_grad(chosen, argnums=(1, 2, 3)))(True, *given)


def exported(run, *given):
    """One program for any number of steps and examples."""
    t, b = export.symbolic_shape("t, b")

    def form(leaf, *axes):
        return jax.ShapeDtypeStruct((*axes, *leaf.shape[len(axes) :]), leaf.dtype)

    params, xs, start = given
    lengths, resets = MARKS
    states = jax.tree.map(lambda leaf: form(leaf, b), start)
    forms = params, form(xs, t, b), states, form(lengths, b), form(resets, t, b)
    return export.export(jax.jit(gradient(run)))(*forms).call(*given, *MARKS)


def specs(lead):
    """How parameters, inputs, state, lengths and resets are divided among two devices."""
    one, timed = PartitionSpec(lead), PartitionSpec(None, lead)
    return PartitionSpec(), timed, one, one, timed


def in_shard_map(run, *given):
    """Each device has its examples, and takes the gradient of the sum over all devices itself."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    divided = specs("batch")

    def local(*shown):
        *inputs, lengths, resets = shown

        def total(*inputs):
            return lax.psum(run(*inputs, lengths, resets), "batch")

        return gradient(total)(*inputs)

    outs = PartitionSpec(), divided[:3]
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=divided, out_specs=outs))(
        *given, *MARKS
    )


def around_shard_map(run, *given):
    """The gradient of a loss that is computed on two devices, with the same state on both."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))

    def local(*shown):
        return lax.psum(run(*shown), "batch")

    total = jax.shard_map(local, mesh=mesh, in_specs=specs("batch"), out_specs=PartitionSpec())
    return jax.jit(gradient(lambda *inputs: total(*inputs, *MARKS)))(*given)


def on_an_explicit_mesh(run, *given):
    mesh = jax.make_mesh((2,), ("batch",))

    def place(tree, spec):
        return jax.device_put(tree, NamedSharding(mesh, spec))

    placed = map(place, (*given, *MARKS), specs("batch"))
    return jax.jit(gradient(run))(*placed)


def under_pmap(run, *given):
    params, xs, start = given
    each = xs.swapaxes(0, 1), start, MARKS[0], MARKS[1].swapaxes(0, 1)

    def local(params, xs, start, *marks):
        value, (d_params, d_xs, d_start) = gradient(run)(params, xs, start, *marks)
        return lax.psum((value, d_params), "batch"), d_xs, d_start

    on_each = jax.pmap(local, axis_name="batch", in_axes=(None, 0, 0, 0, 0))
    shared, d_xs, d_start = on_each(params, *each)
    value, d_params = jax.tree.map(lambda leaf: leaf[0], shared)
    return value, (d_params, d_xs.swapaxes(0, 1), d_start)


TRANSFORMATIONS = {
    function.__name__: function
    for function in (
        under_jit,
        under_remat,
        under_vmap,
        in_scan,
        in_cond,
        exported,
        in_shard_map,
        around_shard_map,
        on_an_explicit_mesh,
        under_pmap,
    )
}


def of_each_kind():
    """Every transformation with every engine, and with cells on the engine that suits them."""
    others = itertools.cycle(("lines", "rows", "layers"))
    for transformation in TRANSFORMATIONS:
        for engine in ENGINES:
            # A library is no part of a program for any number of steps.
            if engine != "native" or transformation != "exported":
                yield case(transformation, "columns", engine)
        yield case(transformation, next(others), "fused")
        yield case(transformation, "step", "scan")


@pytest.mark.combinations
@pytest.mark.parametrize(("transformation", "name", "engine"), [*of_each_kind()])
def test_under_transformations(transformation, name, engine):
    found = TRANSFORMATIONS[transformation](loss(name, ENGINES[engine]), *inputs(name))
    close(jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, expected(name)))


def in_while(run, *given):
    """One example after the other, as long as there are any."""

    def total(*shown):
        def add(carry):
            index, so_far = carry
            return index + 1, so_far + run(*example((*shown, *MARKS), index))

        return lax.while_loop(lambda carry: carry[0] < B, add, (0, 0.0))[1]

    return total(*given)


def in_itself(run, *given):
    return run(*given)


@pytest.mark.combinations
@pytest.mark.parametrize("around", [in_itself, in_while])
@cases("columns", "layers", "step")
def test_forward_mode(name, engine, around):
    """A loop of unknown length has only forward-mode derivatives: the slope in a direction."""
    given = inputs(name)
    along = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), given)
    run = functools.partial(around, loss(name, ENGINES[engine]))
    value, gradients = expected(name)
    pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(along), strict=True)
    slope = sum(jnp.sum(a * b) for a, b in pairs)
    close(jax.jit(lambda *given: jax.jvp(run, given, along))(*given), (value, slope))


# Instruments

XS = np.random.default_rng(3).normal(size=(6, 2, 3)).astype("float32")
INSTRUMENTS = {
    "flow": lambda c, p: rnnlab.gradient_flow(c, p, XS, squares, lengths=np.array([3, 6])),
    "one step": lambda c, p: rnnlab.gradient_flow(c, p, XS, last, keep_contributions=True),
    "matrix": lambda c, p: diagnostics.bptt_contributions(c, p, XS, squares),
    "truncation": lambda c, p: diagnostics.truncation_bias(c, p, XS, squares, steps=[1, 2]),
    "spectrum": lambda c, p: diagnostics.lyapunov_spectrum(c, p, XS, count=2),
    "products": lambda c, p: diagnostics.jacobian_products(c, p, XS),
    "phases": lambda c, p: diagnostics.phase_diagram(c, p, XS, [0.5, 1.0], [3, 6]),
    "points": lambda c, p: diagnostics.fixed_points(c, p, XS[0, 0], c.initial_state((2,))),
    "attractor": lambda c, p: diagnostics.attractor_kind(
        jax.random.key(0),
        c,
        p,
        0 * XS[0, 0],
        c.initial_state((2,)),
        burn_in=20,
        steps=40,
        longest=9,
    ),
    "omega": lambda c, p: training.pascanu_omega(c, p, XS, squares),
    "flossing": lambda c, p: training.flossing_loss(c, p, XS, count=2),
}


def squares(ys):
    return (ys**2).mean()


def last(ys):
    return (ys[-1] ** 2).mean()


@pytest.mark.combinations
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_no_instrument_trips_a_switch(name):
    instrument = INSTRUMENTS[name]
    # One cell after the other: what an instrument does is the same for both.
    cell = (LSTM(4), GRU(4, reset="before"))[list(INSTRUMENTS).index(name) % 2]
    params = cell.init(jax.random.key(0), 3)
    expected = instrument(cell, params)
    with all_that_refuse(), jax.debug_infs(False):  # the log of zero is −inf
        found = instrument(cell, params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not isinstance(one, str):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
