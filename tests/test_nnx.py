"""The NNX modules against Flax's own, in float64, and under Flax's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rnnlab
from rnnlab.nnx import RNN, Bidirectional, Stacked
from tests.reference import close, one_sentence
from tests.reference.cells import draw_params

B, T, I, H = 3, 5, 2, 4
LENGTHS = np.array([5, 2, 3])
F64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def flax_cell(name, inputs=I, seed=0):
    """One of Flax's cells, with noise for weights: its biases would start at zero."""
    cell = getattr(nnx, name)(inputs, H, rngs=nnx.Rngs(seed), **F64)
    state = nnx.state(cell, nnx.Param)
    leaves, tree = jax.tree.flatten(state)
    drawn = [noise(*leaf.shape, seed=seed + n) / 2 for n, leaf in enumerate(leaves)]
    nnx.update(cell, jax.tree.unflatten(tree, drawn))
    return cell


def score(outputs):
    """A scalar that weighs every number differently."""
    leaves = jax.tree.leaves(outputs)
    return sum(
        jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)) for leaf in leaves
    )


def without_padding(ys, lengths, axis):
    """Zeros beyond the lengths, where Flax's modules go on with the padding."""
    if lengths is None:
        return ys
    counts = np.arange(T) < lengths[:, None]
    return ys * (counts if axis else counts.T)[..., None]


def result(model, xs, carry, **options):
    """Outputs and carry, and their gradients of parameters, inputs and initial carry."""
    axis = 0 if options.get("time_major") else 1

    def loss(model, xs, carry):
        out = model(xs, initial_carry=carry, **options)
        final, ys = out if options.get("return_carry") else (None, out)
        outputs = final, without_padding(ys, options.get("seq_lengths"), axis)
        return score(outputs), outputs

    gradient = nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (value, outputs), (of_model, *others) = gradient(model, xs, carry)
    return value, outputs, nnx.to_pure_dict(of_model), others


def carry_of(name, seed=7):
    carry = noise(B, H, seed=seed)
    return (carry, noise(B, H, seed=seed + 1)) if "LSTM" in name else carry


CALLS = {
    "everything": {
        "seq_lengths": LENGTHS,
        "return_carry": True,
        "reverse": True,
        "keep_order": True,
    },
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS, "return_carry": True},
    "in the order of computation": {"seq_lengths": LENGTHS, "reverse": True},
    "reverse": {"reverse": True, "return_carry": True},
    "time first": {"time_major": True, "return_carry": True},
}
NAMES = ("LSTMCell", "GRUCell", "SimpleCell", "OptimizedLSTMCell")


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, "everything") for name in NAMES),
        *(("LSTMCell", call) for call in CALLS if call != "everything"),
    ],
)
def test_values_and_gradients_are_those_of_flax(name, call):
    """Also the names of the parameters, and the form of the carry."""
    options = CALLS[call]
    xs = noise(T, B, I) if options.get("time_major") else noise(B, T, I)
    ours, flaxs = RNN(flax_cell(name)), nnx.RNN(flax_cell(name))
    close(*(result(model, xs, carry_of(name), **options) for model in (ours, flaxs)))


def test_options_of_the_module_are_those_of_the_call():
    cell = flax_cell("GRUCell")
    options = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    xs = noise(T, B, I)
    close(RNN(cell, **options)(xs), RNN(cell)(xs, **options))
    close(RNN(cell, **options)(xs, return_carry=False), RNN(cell)(xs, **options)[1])


def test_two_directions_are_those_of_flax():
    def build(rnn, both):
        return both(rnn(flax_cell("GRUCell")), rnn(flax_cell("GRUCell", seed=9)))

    ours, flaxs = build(RNN, Bidirectional), build(nnx.RNN, nnx.Bidirectional)
    options = {"seq_lengths": LENGTHS, "return_carry": True}
    carry = carry_of("GRUCell"), carry_of("GRUCell", 8)
    close(*(result(model, noise(B, T, I), carry, **options) for model in (ours, flaxs)))
    xs = noise(T, B, I)
    merged = Bidirectional(ours.forward_rnn, ours.backward_rnn, merge_fn=jnp.add, time_major=True)
    close(merged(xs), sum(jnp.split(ours(xs, time_major=True), 2, axis=-1)))
    mixed = Bidirectional(flaxs.forward_rnn, ours.backward_rnn)
    close(mixed(noise(B, T, I)), ours(noise(B, T, I)))


def test_a_drawn_carry_is_that_of_flax():
    def build(kind):
        with pytest.warns(UserWarning, match="carry_init"):
            cell = nnx.LSTMCell(I, H, carry_init=nnx.initializers.normal(), rngs=nnx.Rngs(0), **F64)
        return kind(cell, rngs=nnx.Rngs(5))

    ours, flaxs = build(RNN), build(nnx.RNN)
    for _ in range(2):  # and the next call draws another one
        close(ours(noise(B, T, I)), flaxs(noise(B, T, I)))


# rnnlab's cells


def test_an_rnnlab_cell_is_unroll_with_the_batch_first():
    cell = rnnlab.LSTM(H, param_dtype=jnp.float64)
    model = RNN(cell, I, params=draw_params(cell, I), return_carry=True)
    xs, start = noise(B, T, I), cell.initial_state((B,))._replace(h=noise(B, H, seed=1))
    mask, resets = (np.random.default_rng(n).random((B, T)) < 0.4 for n in (1, 2))
    final, ys = model(
        xs, initial_carry=start, mask=mask, resets=resets, reverse=True, keep_order=True
    )
    expected = rnnlab.unroll(
        *model.cell_and_params(),
        jnp.swapaxes(xs, 0, 1),
        start,
        mask=mask.T,
        resets=resets.T,
        reverse=True,
    )
    close((final, jnp.swapaxes(ys, 0, 1)), expected)
    close(model(xs, initial_carry=tuple(start)), model(xs, initial_carry=start))


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_any_number_of_batch_axes(batch):
    model = RNN(rnnlab.GRU(H), I, return_carry=True, rngs=nnx.Rngs(0))
    carry, ys = model(jnp.ones((*batch, T, I)))
    assert ys.shape == (*batch, T, H)
    assert carry.h.shape == (*batch, H)


def test_parameters_are_drawn_by_the_cell():
    model = RNN(rnnlab.LSTM(H), I, rngs=nnx.Rngs(3))
    close(model.cell_and_params()[1], rnnlab.LSTM(H).init(nnx.Rngs(3).params(), I))
    assert all(type(leaf) is nnx.Param for leaf in (model.params.w_x, model.params.b))


def test_two_directions_reset_both_ways_as_the_cell_does():
    cell = rnnlab.bidirectional(rnnlab.GRU(H))
    params = draw_params(cell, I)
    whole = RNN(cell, I, params=params)
    parts = Bidirectional(
        RNN(cell.forward, I, params=params.forward), RNN(cell.backward, I, params=params.backward)
    )
    resets = np.random.default_rng(1).random((B, T)) < 0.4
    # Just beyond a length, which says nothing about where the other direction begins.
    resets[np.arange(B), np.minimum(LENGTHS, T - 1)] = True
    marks = {"resets": resets, "seq_lengths": LENGTHS}
    marks["initial_carry"] = noise(B, H, seed=2), noise(B, H, seed=3)
    close(parts(noise(B, T, I), **marks), whole(noise(B, T, I), **marks))


def test_a_foreign_step_brings_its_parameters():
    step = rnnlab.Step(lambda w, h, x: (w * h + x, w * h + x), jnp.zeros(1))
    model = RNN(step, 1, params=0.5, return_carry=True)
    _, ys = model(jnp.ones((3, 1)))
    close(ys[:, 0], jnp.array([1.0, 1.5, 1.75]))
    gradient = nnx.grad(lambda model: model(jnp.ones((3, 1)))[1][-1, 0])(model)
    close(gradient["params"][...], jnp.asarray(2.0))


@pytest.mark.long
def test_layers_of_modules_are_a_stack():
    cell = rnnlab.stack([rnnlab.GRU(H), rnnlab.LSTM(H), rnnlab.GRU(H)], residual=True)
    params = draw_params(cell, I)
    layers = [
        RNN(inner, size, params=own)
        for inner, size, own in zip(cell.cells, (I, H, H), params.layers, strict=True)
    ]
    modules, whole = Stacked(layers, residual=True), RNN(cell, I, params=params)
    for options in ({}, {"seq_lengths": LENGTHS, "reverse": True}, {"return_carry": True}):
        found, expected = (model(noise(B, T, I), **options) for model in (modules, whole))
        if options.get("return_carry"):
            expected = expected[0].layers, expected[1]
        close(found, expected)
    carries, _ = modules(noise(B, T, I), return_carry=True)
    again = modules(noise(B, T, I), initial_carry=carries)
    close(again, whole(noise(B, T, I), initial_carry=carries))


# Dropout


def dropping(kind, **options):
    """Two layers with dropout between them, as one cell or as two modules."""
    rngs = nnx.Rngs(0)
    if kind == "cell":
        cell = rnnlab.stack([rnnlab.GRU(H), rnnlab.GRU(H)], dropout=0.5)
        return RNN(cell, I, rngs=rngs, **options)
    layers = [RNN(nnx.GRUCell(size, H, rngs=rngs)) for size in (I, H)]
    return Stacked(layers, dropout=0.5, rngs=rngs, **options)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["cell", "modules"])
def test_dropout_is_drawn_anew_at_each_call_and_off_in_evaluation(kind):
    model, xs = dropping(kind), jnp.ones((B, T, I))
    first, second = model(xs), model(xs)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(dropping(kind)(xs), first)
    call = nnx.jit(lambda model, xs: model(xs))
    again = dropping(kind)
    np.testing.assert_allclose(call(again, xs), first, rtol=1e-6)
    np.testing.assert_allclose(call(again, xs), second, rtol=1e-6)
    quiet = model(xs, deterministic=True)
    np.testing.assert_array_equal(model(xs, deterministic=True), quiet)
    np.testing.assert_array_equal(nnx.view(model, deterministic=True)(xs), quiet)
    model.eval()
    np.testing.assert_array_equal(model(xs), quiet)
    model.train()
    assert not np.array_equal(model(xs), quiet)
    keys = jax.random.key(1), nnx.Rngs(1), nnx.Rngs(dropout=1)
    given = [model(xs, rngs=rngs) for rngs in keys]
    np.testing.assert_array_equal(given[1], given[2])
    np.testing.assert_array_equal(model(xs, rngs=jax.random.key(1)), given[0])


@pytest.mark.parametrize(
    "cell",
    [
        rnnlab.GRU(H),
        rnnlab.stack([rnnlab.GRU(H), rnnlab.bidirectional(rnnlab.GRU(H))]),
        rnnlab.layers.variational_dropout(rnnlab.GRU(H)),
    ],
    ids=["plain", "stack", "rate 0"],
)
def test_a_module_without_dropout_has_no_random_state(cell):
    """So that a call changes nothing, and transformations need not be told of it."""
    model = RNN(cell, I, rngs=nnx.Rngs(0))
    assert not model.has_dropout
    assert not jax.tree.leaves(nnx.state(model, nnx.RngState))


@pytest.mark.parametrize(
    "cell",
    [
        rnnlab.layers.variational_dropout(rnnlab.GRU(H), state=0.2),
        rnnlab.layers.weight_dropout(rnnlab.GRU(H), 0.2),
        rnnlab.layers.zoneout(rnnlab.GRU(H), 0.2),
        rnnlab.bidirectional(rnnlab.stack([rnnlab.GRU(H)] * 2, dropout=0.2)),
    ],
    ids=["variational", "weights", "zoneout", "inside"],
)
def test_every_kind_of_dropout_is_noticed(cell):
    model = RNN(cell, I, rngs=nnx.Rngs(0))
    assert model.has_dropout
    assert not np.array_equal(model(jnp.ones((B, T, I))), model(jnp.ones((B, T, I))))


# Flax's transformations


def test_an_optimiser_updates_the_parameters():
    model = RNN(rnnlab.GRU(H), I, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    cell, before = model.cell_and_params()
    xs = jnp.ones((B, T, I), jnp.float32)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: jnp.mean(model(xs) ** 2))(model)
        optimizer.update(model, gradient)

    step(model, optimizer)
    by_hand = jax.grad(lambda p: jnp.mean(rnnlab.unroll(cell, p, xs, time_major=False)[1] ** 2))
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before, by_hand(before))
    close(model.cell_and_params()[1], expected, 1e-5)


def test_an_ensemble_by_vmap():
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def build(rngs):
        return RNN(rnnlab.GRU(H), I, rngs=rngs)

    models, xs = build(nnx.Rngs(0)), jnp.ones((B, T, I), jnp.float32)
    ys = nnx.vmap(lambda model, xs: model(xs), in_axes=(0, None))(models, xs)
    cell, params = models.cell_and_params()
    assert params.w_x.shape == (2, I, 3 * H)
    for index in range(2):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], params)
        close(ys[index], rnnlab.unroll(cell, own, xs, time_major=False)[1], 1e-6)


def test_split_and_merge_and_shapes_alone():
    model = dropping("cell")
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    assert hash(graph) == hash(nnx.split(dropping("cell"), nnx.Param, ...)[0])
    xs = jnp.ones((B, T, I))
    np.testing.assert_array_equal(nnx.merge(graph, params, rest)(xs), dropping("cell")(xs))
    shapes = nnx.eval_shape(lambda: dropping("cell"))
    assert jax.tree.map(jnp.shape, nnx.state(shapes)) == jax.tree.map(jnp.shape, nnx.state(model))


def test_instruments_read_the_module():
    model = RNN(flax_cell("GRUCell"))
    flow = rnnlab.gradient_flow(*model.cell_and_params(), noise(T, B, I), lambda ys: ys[-1].sum())
    assert bool(flow.finite)


# What does not fit


def test_what_does_not_fit_is_refused():
    cell = rnnlab.GRU(H)
    params = draw_params(cell, I)
    one_sentence(lambda: RNN(cell, rngs=nnx.Rngs(0)), "in_features")
    one_sentence(lambda: RNN(cell, I), "rngs", "params")
    wide = f"in_features is {I + 1}, but params were made for {I}"
    one_sentence(lambda: RNN(cell, I + 1, params=params), wide)
    more = jnp.ones((B, T, I + 1))
    made = f"{I + 1} features, but the module was made for {I}"
    one_sentence(lambda: RNN(cell, I, params=params)(more), made, f"RNN(GRU(...), {I + 1}, ...)")
    one_sentence(lambda: RNN(flax_cell("GRUCell"))(more), made, f"nnx.GRUCell({I + 1}, ...)")
    one_sentence(lambda: RNN(5, I, rngs=nnx.Rngs(0)), "not a cell")
    one_sentence(lambda: RNN(nnx.Linear(I, H, rngs=nnx.Rngs(0))), "Linear", "bare cell")
    one_sentence(lambda: RNN(flax_cell("GRUCell"), params=params), "own parameters")
    one_sentence(lambda: RNN(flax_cell("GRUCell"), I + 1), "in_features")
    one_sentence(lambda: RNN(cell, I, params=params, engine="warp"), "warp")
    one_sentence(lambda: RNN(cell, I, params=params)(jnp.ones(3)), "inputs", "time_major")
    one_sentence(
        lambda: RNN(cell, I, params=params)(jnp.ones((B, T, I)), initial_carry=(1.0, 2.0)),
        "initial_state",
    )
    one_sentence(lambda: Stacked([]), "layers")
    one_sentence(lambda: Stacked(RNN(cell, I, params=params)), "layers", "list")
    one_sentence(lambda: Stacked([cell]), "layers[0]", "rnnlab.nnx.RNN")
    one_sentence(lambda: Bidirectional(flax_cell("GRUCell"), cell), "forward_rnn", "RNN")
    one_sentence(lambda: Stacked([RNN(cell, I, params=params)], dropout=1.0), "dropout")
    one_sentence(
        lambda: Stacked([RNN(cell, I, params=params)])(jnp.ones((B, T, I)), initial_carry=()),
        "initial_carry",
    )
    wider = rnnlab.GRU(H + 1)
    layers = [RNN(cell, I, params=params), RNN(wider, H, params=draw_params(wider, H))]
    one_sentence(
        lambda: Stacked(layers, residual=True)(jnp.ones((B, T, I))), "layers[1]", "residual=True"
    )
    both = Bidirectional(layers[0], layers[0])
    for carry in (5, (None,)):
        one_sentence(
            lambda carry=carry: both(jnp.ones((B, T, I)), initial_carry=carry), "initial_carry"
        )
    one_sentence(lambda: both(jnp.ones((B, T, I)), mask="none"), "mask", "array")
    one_sentence(lambda: both(jnp.ones((B, T, I)), mask=True), "mask has shape ()")
    stack = rnnlab.stack([cell, cell], dropout=0.5)
    silent = RNN(stack, I, params=draw_params(stack, I))
    one_sentence(lambda: silent(jnp.ones((B, T, I))), "dropout", "deterministic=True")
    assert silent(jnp.ones((B, T, I)), deterministic=True).shape == (B, T, H)
