"""The driver against a plain loop, and what must stay true whatever it runs."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnnlab
from rnnlab import unroll, unroll_states
from rnnlab.cells import GRU, LSTM, RNN, RNNState
from tests.reference import close, loop, one_sentence
from tests.reference.cells import CELLS, by_name, draw, draw_params, draw_state

INPUTS = 2  # inputs


def each(twins):
    return pytest.mark.parametrize("twin", twins, ids=lambda twin: twin.name)


SOME = each(by_name("pascanu", "lstm", "gru-before"))
BOTH_WAYS = (
    pytest.mark.parametrize(  # a direction is the driver's business, so not every cell needs both
        ("twin", "reverse"),
        [*zip(by_name("pascanu", "lstm", "gru-before"), [True, False, True], strict=True)],
        ids=["pascanu-reverse", "lstm", "gru-before-reverse"],
    )
)


class Course(NamedTuple):
    """One way to run a sequence: its sizes, and which of the options are given."""

    steps: int
    batch: tuple[int, ...]
    options: str  # of "initial lengths mask resets reset reverse"

    def draw(self, cell: Any, seed: int = 5) -> tuple[Any, np.ndarray, dict[str, Any]]:
        """Parameters, inputs and options; padding holds garbage and may be reset, too."""
        rng = np.random.default_rng(seed)
        every = {
            "initial_state": draw_state(cell, self.batch),
            "lengths": rng.integers(1, self.steps + 1, self.batch),
            "mask": rng.random((self.steps, *self.batch)) < 0.7,
            "resets": rng.random((self.steps, *self.batch)) < 0.35,
            "reset_state": draw_state(cell, self.batch, seed=3),
            "reverse": True,
        }
        given = {
            name: value
            for name, value in every.items()
            if name.removesuffix("_state") in self.options.split()
        }
        return draw_params(cell, INPUTS), rng.normal(size=(self.steps, *self.batch, INPUTS)), given


def by_loop(twin, params, xs, initial_state=None, **options):
    if initial_state is None:
        initial_state = jax.tree.map(np.float64, twin.cell.initial_state(xs.shape[1:-1]))
    return loop.unroll(twin.step, params, xs, initial_state, **options)


def score(final, ys):
    """A scalar that weighs every output and every number of the final state differently."""
    leaves = [ys, *jax.tree.leaves(final)]
    return sum(
        jnp.sum(jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape) * leaf) for leaf in leaves
    )


# The oracle

COURSES = [
    Course(5, (), ""),
    Course(5, (3,), "initial lengths mask resets reset reverse"),
    Course(4, (2, 3), "lengths resets"),
    Course(6, (3,), "mask"),
    Course(1, (1,), "initial resets"),
]


@pytest.mark.combinations
@each([*CELLS, *by_name("readout")])
@pytest.mark.parametrize("course", COURSES, ids=str)
def test_unroll_is_the_loop(twin, course):
    params, xs, options = course.draw(twin.cell)
    expected = by_loop(twin, params, xs, **options)
    close(unroll(twin.cell, params, xs, **options, engine="scan"), (expected.final, expected.ys))


@each(CELLS)
def test_unroll_states_is_the_loop(twin):
    params, xs, options = Course(4, (3,), "initial lengths mask resets reset").draw(twin.cell)
    expected = by_loop(twin, params, xs, **options)
    close(
        unroll_states(twin.cell, params, xs, **options, engine="scan"),
        (expected.states, expected.ys),
    )


@pytest.mark.parametrize("run", [unroll, unroll_states])
def test_batch_first_is_time_first_with_two_axes_exchanged(run):
    (twin,) = by_name("lstm")
    params, xs, options = Course(5, (3, 2), "initial mask resets reset").draw(twin.cell)
    expected, ys = run(twin.cell, params, xs, **options)
    turned = {name: np.swapaxes(options[name], 0, 1) for name in ("mask", "resets")}
    found, zs = run(twin.cell, params, np.swapaxes(xs, 0, 1), time_major=False, **options | turned)
    if run is unroll_states:
        found = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), found)
    close((found, jnp.swapaxes(zs, 0, 1)), (expected, ys))


def test_batch_first_needs_a_batch_axis():
    params = LSTM(3).init(jax.random.key(0), 2)
    one_sentence(
        lambda: unroll(LSTM(3), params, np.zeros((5, 2)), time_major=False),
        "xs has shape",
        "[B, T, ...]",
    )


def test_flags_may_be_numbers():
    (twin,) = by_name("gru-after")
    params, xs, options = Course(5, (3,), "mask resets").draw(twin.cell)
    as_numbers = {name: flags.astype(np.float32) for name, flags in options.items()}
    expected = unroll(twin.cell, params, xs, **options)
    close(unroll(twin.cell, params, xs, **as_numbers), expected)
    compiled = jax.jit(lambda xs: unroll(twin.cell, params, xs, **as_numbers))
    close(compiled(xs), expected)


OPTIONS = ["initial", "lengths", "resets", "reverse"]


@pytest.mark.combinations
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    "options", [" ".join(o) for n in range(5) for o in itertools.combinations(OPTIONS, n)]
)
def test_every_combination_of_options(options, batch):
    (twin,) = by_name("elman")
    params, xs, given = Course(4, batch, options).draw(twin.cell)
    expected = by_loop(twin, params, xs, **given)
    close(unroll_states(twin.cell, params, xs, **given), (expected.states, expected.ys))


def test_the_course_of_an_example_by_hand():
    """hₜ = hₜ₋₁ + xₜ counts its inputs: plain numbers show resets, length and direction."""
    sums = rnnlab.Step(lambda params, h, x: (params * h + x, params * h + x), jnp.zeros(1))

    def run(**options):
        final, ys = unroll(sums, 1.0, np.array([[1.0], [2.0], [4.0], [8.0]]), **options)
        return ys.ravel().tolist(), final.item()

    resets = np.array([False, False, True, False])
    assert run() == ([1, 3, 7, 15], 15)
    assert run(lengths=3) == ([1, 3, 7, 0], 7)
    assert run(resets=resets) == ([1, 3, 4, 12], 12)
    assert run(reverse=True) == ([15, 14, 12, 8], 15)
    assert run(reverse=True, lengths=3) == ([7, 6, 4, 0], 7)
    assert run(reverse=True, resets=resets) == ([7, 6, 4, 8], 7)
    assert run(initial_state=np.array([100.0])) == ([101, 103, 107, 115], 115)
    assert run(initial_state=np.array([100.0]), resets=resets, lengths=3) == ([101, 103, 4, 0], 4)


# What the options mean


@SOME
def test_the_default_start_is_the_cells_own(twin):
    params, xs, _ = Course(4, (3,), "").draw(twin.cell)
    start = jax.tree.map(np.float64, twin.cell.initial_state((3,)))
    close(unroll(twin.cell, params, xs), unroll(twin.cell, params, xs, start))


@SOME
def test_one_step_is_the_step(twin):
    params, xs, options = Course(1, (1,), "initial").draw(twin.cell)
    after, y = twin.cell.step(params, options["initial_state"], xs[0])
    close(unroll(twin.cell, params, xs, **options), (after, y[None]))


@SOME
def test_a_batch_is_its_examples(twin):
    params, xs, options = Course(5, (3,), "initial resets lengths").draw(twin.cell)
    final, ys = unroll(twin.cell, params, xs, **options)
    for b in range(3):
        alone = unroll(
            twin.cell,
            params,
            xs[:, b],
            jax.tree.map(lambda leaf, b=b: leaf[b], options["initial_state"]),
            lengths=options["lengths"][b],
            resets=options["resets"][:, b],
        )
        close(alone, (jax.tree.map(lambda leaf, b=b: leaf[b], final), ys[:, b]))


@SOME
def test_prefix_then_suffix_is_the_whole(twin):
    params, xs, options = Course(6, (3,), "initial resets").draw(twin.cell)
    resets, start = options["resets"], options["initial_state"]
    whole, all_states = (
        run(twin.cell, params, xs, start, resets=resets) for run in (unroll, unroll_states)
    )
    middle, first = unroll(twin.cell, params, xs[:2], start, resets=resets[:2])
    last, second = unroll(twin.cell, params, xs[2:], middle, resets=resets[2:])
    close((last, jnp.concatenate([first, second])), whole)
    states, _ = all_states
    close(jax.tree.map(lambda leaf: leaf[1], states), middle)
    close(jax.tree.map(lambda leaf: leaf[-1], states), last)


@SOME
@pytest.mark.parametrize("lengths", [None, [4, 1, 6]], ids=["whole", "valid parts"])
def test_reverse_is_flip_run_flip(twin, lengths):
    params, xs, options = Course(6, (3,), "initial resets").draw(twin.cell)
    resets, start = options["resets"], options["initial_state"]

    def flip(sequence):
        """Each example's valid part turned round, its padding left alone."""
        turned = np.array(sequence)
        for b, length in enumerate(lengths or [6] * 3):
            turned[:length, b] = turned[:length, b][::-1]
        return turned

    final, ys = unroll(twin.cell, params, xs, start, resets=resets, lengths=lengths, reverse=True)
    there, back = unroll(twin.cell, params, flip(xs), start, resets=flip(resets), lengths=lengths)
    close((final, np.asarray(ys)), (there, flip(back)))


@pytest.mark.combinations
@BOTH_WAYS
def test_packed_sequences_are_separate_runs(twin, reverse):
    """Three sequences, each begun by a reset, have the outputs and gradients of separate runs."""
    cell, cuts = twin.cell, [0, 3, 5, 9]
    params, xs, options = Course(9, (2,), "initial").draw(cell)
    starts = cuts[1:] if reverse else cuts[:-1]
    resets = np.zeros((9, 2), bool)
    resets[np.array(starts) - int(reverse)] = True

    def packed(params, xs):
        return unroll(cell, params, xs, options["initial_state"], resets=resets, reverse=reverse)[1]

    def separate(params, xs):
        parts = itertools.pairwise(cuts)
        return jnp.concatenate(
            [unroll(cell, params, xs[a:b], reverse=reverse)[1] for a, b in parts]
        )

    def scored(run):
        def loss(params, xs):
            ys = run(params, xs)
            return score((), ys), ys

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, xs)

    close(scored(packed), scored(separate))


# Padding


@pytest.mark.combinations
@BOTH_WAYS
def test_padding_changes_nothing(twin, reverse):
    """Values and gradients of parameters, inputs and initial state are those without padding."""
    cell, lengths = twin.cell, [2, 5]
    params, xs, options = Course(5, (2,), "initial").draw(cell)
    start = options["initial_state"]
    valid = np.arange(5)[:, None, None] < np.array(lengths)[:, None]

    def together(params, xs, start):
        final, ys = unroll(cell, params, xs, start, lengths=lengths, reverse=reverse)
        return score(final, ys), (final, ys)

    def alone(params, xs, start):
        finals, outputs = [], []
        for b, length in enumerate(lengths):
            one = jax.tree.map(lambda leaf, b=b: leaf[b], start)
            final, ys = unroll(cell, params, xs[:length, b], one, reverse=reverse)
            finals.append(final)
            outputs.append(jnp.pad(ys, ((0, 5 - length), (0, 0))))
        final, ys = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *finals),
            jnp.stack(outputs, axis=1),
        )
        return score(final, ys), (final, ys)

    padded, expected = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True)) for f in (together, alone)
    )
    expected = expected(params, xs, start)
    for garbage in (0.0, 1e3, np.inf, np.nan):
        close(padded(params, np.where(valid, xs, garbage), start), expected)


@SOME
def test_the_state_rests_in_the_padding(twin):
    params, xs, options = Course(5, (2,), "initial").draw(twin.cell)
    for reverse in (False, True):
        final, _ = unroll(twin.cell, params, xs, **options, lengths=[2, 4], reverse=reverse)
        states, _ = unroll_states(twin.cell, params, xs, **options, lengths=[2, 4], reverse=reverse)
        rest = options["initial_state"] if reverse else final
        for b, length in enumerate([2, 4]):
            for t in range(length, 5):
                here = jax.tree.map(lambda leaf, t=t, b=b: np.asarray(leaf[t, b]), states)
                close(here, jax.tree.map(lambda leaf, b=b: np.asarray(leaf[b]), rest))


def test_full_lengths_are_no_lengths():
    params, xs, options = Course(5, (3,), "initial resets").draw(LSTM(3))
    close(
        unroll(LSTM(3), params, xs, **options),
        unroll(LSTM(3), params, xs, **options, lengths=[5, 5, 5]),
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_lengths_of_any_whole_dtype(dtype):
    """Also where T does not fit into it."""
    params, xs = draw_params(RNN(3), INPUTS), np.ones((300, 2, INPUTS))
    _, ys = unroll(RNN(3), params, xs, lengths=np.array([100, 7], dtype))
    assert (ys != 0).all(axis=-1).sum(axis=0).tolist() == [100, 7]


# Under JAX's transformations


def test_jit():
    params, xs, options = Course(5, (3,), "initial lengths resets").draw(GRU(3))
    direct = unroll(GRU(3), params, xs, **options)

    @jax.jit
    def run(params, xs, start, lengths, resets):
        return unroll(GRU(3), params, xs, start, lengths=lengths, resets=resets)

    close(
        run(params, xs, *(options[name] for name in ("initial_state", "lengths", "resets"))), direct
    )


def test_vmap_adds_a_batch_axis():
    params, xs, options = Course(5, (3,), "initial lengths resets").draw(GRU(3))

    def one(xs, start, lengths, resets):
        return unroll(GRU(3), params, xs, start, lengths=lengths, resets=resets)

    final, ys = jax.vmap(one, in_axes=(1, 0, 0, 1), out_axes=(0, 1))(
        xs, *(options[name] for name in ("initial_state", "lengths", "resets"))
    )
    close((final, ys), unroll(GRU(3), params, xs, **options))


def test_vmap_over_parameters_is_an_ensemble():
    xs = np.random.default_rng(6).normal(size=(4, 2, INPUTS))
    networks = [draw_params(GRU(3), INPUTS, seed) for seed in (1, 2)]
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    _, ys = jax.vmap(lambda params: unroll(GRU(3), params, xs))(both)
    close(ys, jnp.stack([unroll(GRU(3), params, xs)[1] for params in networks]))


@each(by_name("gru-before"))
def test_gradients_are_those_of_a_loop_of_steps(twin):
    """Differentiating Python's own loop gives the same gradients as differentiating the scan."""
    cell = twin.cell
    params, xs, options = Course(4, (2,), "initial lengths resets").draw(cell)
    lengths, resets = options["lengths"], options["resets"]

    def scanned(params, xs, start):
        return score(*unroll(cell, params, xs, start, lengths=lengths, resets=resets))

    def looped(params, xs, start):
        def where(flags, a, b):
            return jax.tree.map(lambda yes, no: jnp.where(flags[:, None], yes, no), a, b)

        state, ys = start, []
        for t in range(4):
            new, y = cell.step(
                params, where(resets[t], jax.tree.map(jnp.zeros_like, state), state), xs[t]
            )
            state = where(t < lengths, new, state)
            ys.append(jnp.where((t < lengths)[:, None], y, 0))
        return score(state, jnp.stack(ys))

    inputs = params, xs, options["initial_state"]
    close(*(jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(*inputs) for f in (scanned, looped)))


@pytest.mark.combinations
@each(CELLS)
def test_gradients_to_second_order(twin):
    """Finite differences of parameters, inputs and initial state, with a reset and padding."""
    params, xs, options = Course(3, (2,), "initial").draw(twin.cell)
    resets = np.array([[False, False], [False, True], [False, False]])

    def loss(params, xs, start):
        return score(
            *unroll(twin.cell, params, xs, start, lengths=[3, 2], resets=resets, engine="scan")
        )

    inputs = jax.tree.map(jnp.asarray, (params, xs, options["initial_state"]))
    check_grads(jax.jit(loss), inputs, order=2, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_reset_state_is_checked():
    (twin,) = by_name("lstm")
    params, xs, options = Course(4, (2,), "resets reset").draw(twin.cell)
    start = options["reset_state"]
    one_sentence(
        lambda: unroll(twin.cell, params, xs, reset_state=start), "without resets", "resets="
    )
    options["reset_state"] = start._replace(h=start.h[:1])
    one_sentence(lambda: unroll(twin.cell, params, xs, **options), "reset_state.h has shape")


def test_a_loop_carries_the_wider_of_both_states():
    cell = GRU(3)
    params = jax.tree.map(jnp.float16, cell.init(jax.random.key(0), 2))
    xs = jnp.ones((3, 2, 2), jnp.float16)
    start = cell.initial_state((2,))
    narrow, wide = jax.tree.map(jnp.float16, start), jax.tree.map(jnp.float64, start)
    for initial, reset in ((narrow, wide), (wide, narrow)):
        final, _ = unroll(cell, params, xs, initial, resets=np.zeros((3, 2)), reset_state=reset)
        assert final.h.dtype == jnp.float64


# Engines


def test_auto_is_the_engine_that_is_explained():
    params, xs, options = Course(4, (2,), "initial lengths resets reverse").draw(LSTM(3))
    taken = rnnlab.explain_engine(LSTM(3), params, xs, **options).engine
    assert taken in ("native", "fused")
    results = [unroll(LSTM(3), params, xs, **options, engine=engine) for engine in ("auto", taken)]
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), *results))


# Foreign cells


def test_a_step_of_ones_own():
    """A function with parameters, state and output of any form is run as our own cells are."""
    (twin,) = by_name("lstm")
    params, xs, options = Course(5, (3,), "lengths resets reverse").draw(twin.cell)

    def fn(params, state, x):
        after, y = twin.cell.step(params["cell"], twin.cell.initial_state()._replace(**state), x)
        return after._asdict(), y @ params["out"]

    out = draw(np.zeros((3, 4)), 7)
    expected = by_loop(twin, params, xs, **options)
    for start in (
        lambda batch: twin.cell.initial_state(batch)._asdict(),
        twin.cell.initial_state()._asdict(),
    ):
        final, ys = unroll(rnnlab.Step(fn, start), {"cell": params, "out": out}, xs, **options)
        close(final, expected.final._asdict())
        close(ys, jnp.asarray(expected.ys @ out))


def test_a_step_starts_afresh_from_its_own_state():
    """A reset returns to the state that the step was made with, not to zero."""
    step = rnnlab.Step(lambda _params, s, x: (s + x, s + x), np.array([10.0]))
    _, ys = unroll(
        step, None, np.ones((4, 1)), np.array([0.0]), resets=np.array([False, False, True, False])
    )
    assert ys.ravel().tolist() == [1, 2, 11, 12]


def test_a_state_may_count_in_whole_numbers():
    step = rnnlab.Step(
        lambda _params, s, x: ({"n": s["n"] + 1}, x * s["n"][..., None]), {"n": np.int32(0)}
    )
    final, ys = unroll(step, None, np.ones((4, 2, 1)), lengths=[4, 2])
    close(np.asarray(final["n"]), np.int32([4, 2]))
    assert ys[..., 0].T.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    "options", [{}, {"resets": np.array([[False, True]] * 4)}], ids=["plain", "resets"]
)
def test_a_narrower_initial_state(options):
    """It may be narrower than the cell's own: the state takes the dtype that the step returns."""
    params, xs = (
        jax.tree.map(jnp.bfloat16, draw_params(RNN(3), INPUTS)),
        jnp.ones((4, 2, INPUTS), jnp.bfloat16),
    )
    start = RNNState(jnp.ones((2, 3), jnp.bfloat16))
    final, ys = unroll(RNN(3, dtype=jnp.bfloat16), params, xs, start, **options)
    assert final.h.shape == (2, 3)
    assert ys.shape == (4, 2, 3)
    assert (final.h == ys[-1]).all()
