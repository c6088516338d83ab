"""How far back a gradient reaches: for every loss and example, and the sentence about it."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import _wording, diagnostics, training
from rnnlab._functions import ByValue
from rnnlab.cells import GRU, LSTM, RNN, Step
from rnnlab.diagnostics import decay_per_step, horizon
from rnnlab.diagnostics.gradient import reach
from rnnlab.training.losses import cross_entropy
from tests.reference import close, one_sentence, watch

F64 = {"param_dtype": jnp.float64}
T, B, I, H = 12, 5, 3, 4


def noise(*shape, seed=1, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def linear(diagonal, **options):
    """A linear network of independent units."""
    cell = RNN(len(diagonal), activation="identity", bias=False, **options)
    params = cell.init(jax.random.key(0), 1)
    return cell, params._replace(w_h=jnp.diag(jnp.asarray(diagonal, params.w_h.dtype)))


# Half-life and horizon belong together


@pytest.mark.long
def test_the_decay_is_fitted_where_it_counts():
    """Fast to 1/1000, then slow; seen as "halves every 8.49 steps; nothing earlier than 37"."""
    cell, params = linear([0.83, 0.95], **F64)
    weights = jnp.array([1.0, 1e-5])
    flow = rnnlab.gradient_flow(
        cell, params, noise(300, 2, 1), lambda ys, w: (ys[-1] * w).sum(), weights
    )
    lags = np.arange(300)
    exact = 0.5 * np.log(0.83 ** (2 * lags) + (1e-5 * 0.95**lags) ** 2)
    np.testing.assert_allclose(flow.log_norm_by_lag, exact - exact[0], atol=1e-9)
    assert flow.horizon == math.ceil(math.log(1000) / -math.log(0.83)) == 38
    np.testing.assert_allclose(flow.decay_per_step, -math.log(0.83), rtol=1e-3)
    late = -np.polyfit(lags[38:], exact[38:], 1)[0]
    np.testing.assert_allclose(flow.late_decay_per_step, late, rtol=1e-6)
    assert late < flow.decay_per_step / 2
    assert 2 ** -(float(flow.horizon) * flow.decay_per_step / math.log(2)) == pytest.approx(
        1 / 1000, rel=0.2
    )


@pytest.mark.parametrize("rate", [0.5, 0.05, -0.3, 0.0])
def test_a_straight_line_is_its_own_decay(rate):
    line = -rate * jnp.arange(200.0)
    np.testing.assert_allclose(decay_per_step(line), rate, atol=1e-6)
    expected = math.floor(math.log(1000) / rate) + 1 if rate > 0 else 200
    assert horizon(line) == expected


# One example does not decide


def dying(count, steps=50, examples=32):
    """An IRNN, and inputs that kill its units half-way in ``count`` of the examples only."""
    cell = RNN(H, activation="relu", recurrent_init=rnnlab.initializers.identity())
    params = cell.init(jax.random.key(0), 1)
    params = params._replace(w_x=jnp.ones_like(params.w_x))
    xs = jnp.full((steps, examples, 1), 0.1)
    xs = xs.at[steps // 2, :count].set(-100.0)
    return cell, params, xs


@pytest.mark.parametrize("count", [0, 1, 15, 17, 32])
def test_the_median_example_decides(count):
    """Seen as a horizon of 14 where 31 of 32 examples had not decayed at all."""
    cell, params, xs = dying(count)
    flow = rnnlab.gradient_flow(cell, params, xs, lambda ys: ys[-1].sum())
    alive = count <= 15
    assert bool(flow.vanishes) != alive
    assert flow.horizon == (50 if alive else 25)
    np.testing.assert_allclose(flow.zero_share, count / 32)
    assert flow.examples.horizon.tolist() == [25] * count + [50] * (32 - count)
    np.testing.assert_allclose(flow.decay_per_step, 0, atol=1e-6)
    sentence = flow.finding()
    assert ("exactly zero" in sentence) == (count > 0)
    if 0 < count < 32:
        assert "25 to the whole sequence over 32 examples" in sentence
    if count == 1:
        assert "3.12 % of the examples" in sentence


# Losses at many steps


def last(ys):
    return (ys[-1] ** 2).mean()


LOSSES = {
    "mean over all steps": lambda ys: (ys**2).mean(),
    "steps 10 and 100": lambda ys: (ys[10] ** 2).mean() + (ys[100] ** 2).mean(),
    "step 50": lambda ys: (ys[50] ** 2).mean(),
    "steps 10 and 100 by index": lambda ys: (ys[jnp.array([10, 100])] ** 2).mean(),
}


@pytest.mark.long
@pytest.mark.combinations
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_network_that_vanishes_does_so_for_every_loss(loss):
    """Seen as "reaches everywhere" for an RNN(64) that vanishes in 15 steps."""
    cell = RNN(64)
    params = cell.init(jax.random.key(0), 8)
    xs = noise(120, 16, 8, dtype=jnp.float32)
    expected = rnnlab.gradient_flow(cell, params, xs, last)
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    assert bool(flow.vanishes)
    assert abs(int(flow.horizon) - int(expected.horizon)) <= 2
    np.testing.assert_allclose(flow.decay_per_step, expected.decay_per_step, rtol=0.1)


@pytest.mark.long
def test_a_linear_network_decays_alike_for_every_loss():
    cell, params = linear([0.8] * 3, **F64)
    for loss in (last, *LOSSES.values()):
        flow = rnnlab.gradient_flow(cell, params, noise(120, 4, 1), loss)
        assert flow.horizon == 31
        np.testing.assert_allclose(flow.decay_per_step, -math.log(0.8), rtol=1e-9)


def test_horizon_and_decay_of_two_examples_are_those_of_one():
    log_norm = np.arange(100.0)[:, None] * np.array([-0.5, -0.1])
    steps, lags = np.full(2, 99, np.int32), np.full(2, 100, np.int32)
    found = reach.over_examples(reach.example_reach(log_norm, steps, np.ones_like(steps), lags))
    assert found.horizon == 14
    np.testing.assert_allclose(found.decay_per_step, 0.5)


STACK = rnnlab.stack([GRU(H, **F64), LSTM(H, **F64)], residual=True)
CELLS = {
    "lstm": LSTM(H, **F64),
    "no maps": LSTM(H, layer_norm=True, **F64),
    "foreign": Step(lambda p, s, x: (jnp.tanh(s @ p[0] + x @ p[1]),) * 2, jnp.zeros(H)),
    "stack": STACK,
    "bidirectional": rnnlab.bidirectional(GRU(H, **F64)),
}
COURSES = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": jnp.array([12, 5, 1, 9, 0])},
    "resets": {"resets": jnp.zeros((T, B), bool).at[4].set(True).at[7, 2].set(True)},
    "mask": {"mask": jnp.ones((T, B), bool).at[0].set(False).at[5].set(False)},
    "all": {
        "reverse": True,
        "lengths": jnp.array([12, 5, 1, 9, 0]),
        "resets": jnp.zeros((T, B), bool).at[4].set(True),
    },
}


def draw(name, cell):
    if name == "foreign":
        return [0.5 * noise(H, H, seed=2), noise(I, H, seed=3)]
    return cell.init(jax.random.key(7), I)


@pytest.mark.long
@pytest.mark.combinations
@pytest.mark.parametrize(
    ("name", "how"),
    # Every cell with all options together, and each option alone with one of the cells.
    [*((name, "all") for name in CELLS), *zip(CELLS, list(COURSES)[:-1], strict=True)],
)
def test_each_example_is_followed_from_its_own_loss_step(name, how):
    """Against the flow of a loss at that one step of that one example."""
    cell, course = CELLS[name], COURSES[how]
    params, xs = draw(name, cell), noise(T, B, I)

    def everywhere(ys, weights):
        return (jnp.sin(ys) * weights).sum()

    def at_one(ys, weights):
        return everywhere(ys, weights)

    ones = jnp.ones((T, B, 1))
    flow = rnnlab.gradient_flow(cell, params, xs, everywhere, ones, **course)
    layered = flow.horizon.ndim == 1
    examples = flow.examples if layered else jax.tree.map(lambda leaf: leaf[None], flow.examples)
    lengths = np.asarray(course.get("lengths", np.full(B, T)))
    valid = np.asarray(course.get("mask", np.ones((T, B), bool)))
    for b in range(B):
        step = int(examples.loss_step[0, b])
        if lengths[b] == 0:
            assert step == -1
            assert (examples.lags[:, b] == 0).all()
            continue
        assert 0 <= step < lengths[b]
        assert examples.loss_steps[0, b] == valid[: lengths[b], b].sum()
        single = jnp.zeros((T, B, 1)).at[step, b].set(1.0)
        alone = rnnlab.gradient_flow(cell, params, xs, at_one, single, **course)
        joint = alone.log_norm_state if layered else alone.log_norm_state[None]
        backwards = [False, True] if name == "bidirectional" else [False] * len(joint)
        for layer, turned in enumerate(backwards):
            lags = int(examples.lags[layer, b])
            direction = 1 if turned != bool(course.get("reverse")) else -1
            by_lag = [joint[layer, step + direction * lag, b] for lag in range(lags)]
            np.testing.assert_allclose(examples.log_norm[layer, :lags, b], by_lag, rtol=1e-9)
            assert np.isneginf(examples.log_norm[layer, lags:, b]).all()
            beyond = step + direction * lags
            # There the sequence starts, after a reset.
            if "mask" not in course and 0 <= beyond < lengths[b]:
                assert np.isneginf(joint[layer, beyond, b])


@pytest.mark.long
def test_one_loss_step_needs_no_second_pass_and_gives_the_same():
    """Told by its program, or found when it runs."""
    cell = LSTM(H, **F64)
    params, xs = cell.init(jax.random.key(0), I), noise(T, B, I)
    shown = rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.sin(ys[-1]).sum())
    hidden = rnnlab.gradient_flow(
        cell, params, xs, lambda ys, i: jnp.sin(jnp.take(ys, i, axis=0)).sum(), T - 1
    )
    sound = jnp.ones(())
    close(shown._replace(finite=sound), hidden._replace(finite=sound))


@pytest.mark.long
def test_the_matrix_of_contributions_agrees():
    """The rows of the matrix are the adjoints of one loss step each."""
    cell = GRU(H, **F64)
    params, xs = cell.init(jax.random.key(0), I), noise(T, 1, I)
    loss = lambda ys: (ys**2).sum()  # noqa: E731
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    matrix = diagnostics.bptt_contributions(cell, params, xs, loss, rows=T).log_norm_state
    step = int(flow.examples.loss_step[0])
    np.testing.assert_allclose(flow.log_norm_by_lag[: step + 1], matrix[step, step::-1], rtol=1e-9)


@pytest.mark.long
def test_a_loss_of_nothing_and_a_loss_at_the_first_step():
    cell = GRU(H, **F64)
    params, xs = cell.init(jax.random.key(0), I), noise(T, B, I)
    nothing = rnnlab.gradient_flow(cell, params, xs, lambda ys: 0.0 * ys.sum())
    assert (nothing.horizon, nothing.lags, bool(nothing.vanishes)) == (0, 0, False)
    assert "no gradient flows back" in nothing.finding()
    first = rnnlab.gradient_flow(cell, params, xs, lambda ys: (ys[0] ** 2).sum())
    assert (first.horizon, first.lags, bool(first.vanishes)) == (1, 1, False)
    assert "no step to go back to" in first.finding()


def test_an_lstms_gradient_reaches_through_its_cell():
    """Without recurrent weights nothing flows through h, and c decays by the forget gate alone."""
    cell = LSTM(H, forget_bias=2.0, **F64)
    params = cell.init(jax.random.key(0), I)
    params = params._replace(w_h=0 * params.w_h, w_x=0 * params.w_x)
    flow = rnnlab.gradient_flow(cell, params, noise(300, 2, I), lambda ys: ys[-1].sum())
    rate = -math.log(1 / (1 + math.exp(-2.0)))
    falls = np.diff(flow.log_norm_by_lag)[1:]  # c receives its first part from h at lag 1
    np.testing.assert_allclose(falls, -rate, rtol=1e-9)
    assert flow.vanishes
    assert flow.horizon < math.log(1000) / rate + 1
    np.testing.assert_allclose(flow.late_decay_per_step, rate, rtol=1e-9)


# What comes back beside it


@pytest.mark.long
def test_the_gradient_of_the_inputs():
    cell = STACK
    params, xs = cell.init(jax.random.key(0), I), noise(T, B, I)
    loss = lambda ys: jnp.sin(ys).sum()  # noqa: E731
    flow = rnnlab.gradient_flow(cell, params, xs, loss)
    exact = jax.grad(lambda xs: loss(rnnlab.unroll(cell, params, xs)[1]))(xs)
    close(flow.input_gradient, exact, 1e-9)
    np.testing.assert_allclose(
        flow.log_norm_input, np.log(np.linalg.norm(exact, axis=-1)), rtol=1e-9
    )


def sequence_loss(ys, weights, labels):
    return cross_entropy(ys @ weights["w"] + weights["b"], labels)


def labelled():
    cell = LSTM(H, **F64)
    params, xs = cell.init(jax.random.key(0), I), noise(T, B, I)
    weights = {"w": noise(H, 6, seed=4), "b": noise(6, seed=5)}
    labels = jax.random.randint(jax.random.key(6), (T, B), 0, 6)
    return cell, params, xs, weights, labels


WITH_LOSS = {
    "gradient_flow": rnnlab.gradient_flow,
    "bptt_contributions": diagnostics.bptt_contributions,
    "truncation_bias": lambda *given, **named: diagnostics.truncation_bias(
        *given, steps=[3, T], **named
    ),
}


@pytest.mark.long
@pytest.mark.combinations
@pytest.mark.parametrize("instrument", WITH_LOSS.values(), ids=WITH_LOSS.keys())
def test_gradients_of_the_loss_args_on_request(instrument):
    cell, params, xs, weights, labels = labelled()
    found = instrument(
        cell, params, xs, sequence_loss, weights, labels, differentiate_loss_args=True
    )

    def plainly(params, weights):
        return sequence_loss(rnnlab.unroll(cell, params, xs)[1], weights, labels)

    exact = jax.grad(plainly, (0, 1))(params, weights)
    close((found.gradient, found.loss_args_gradient[0]), exact, 1e-9)
    assert found.loss_args_gradient[1] is None
    plain = instrument(cell, params, xs, sequence_loss, weights, labels)
    assert plain.loss_args_gradient is None


@pytest.mark.combinations
@pytest.mark.parametrize(
    "instrument",
    [*WITH_LOSS.values(), training.pascanu_omega],
    ids=[*WITH_LOSS.keys(), "pascanu_omega"],
)
def test_new_labels_and_a_loss_written_again_compile_nothing(instrument):
    cell, params, xs, weights, labels = labelled()

    def ask(labels):
        return instrument(
            cell, params, xs, lambda ys, w, labels: sequence_loss(ys, w, labels), weights, labels
        )

    def size(found):
        return np.linalg.norm(jax.tree.leaves(getattr(found, "gradient", found))[0])

    others = (labels + 1) % 6
    first = ask(labels)
    with watch() as work:
        second = ask(others)
    assert work.compiled == []
    assert not np.isclose(size(first), size(second))


@pytest.mark.long
def test_a_phase_diagram_takes_arguments_of_its_loss():
    cell, params, xs, weights, labels = labelled()

    def loss(last, w, labels):
        return cross_entropy(last @ w["w"] + w["b"], jnp.broadcast_to(labels, last.shape[:-1]))

    def ask(labels):
        return diagnostics.phase_diagram(
            cell, params, xs, [0.5, 1.0], [4, T], loss=loss, loss_args=(weights, labels)
        )

    first = ask(labels[-1])
    with watch() as work:
        second = ask((labels[-1] + 1) % 6)
    assert "_diagram" not in work.compiled
    assert not np.allclose(first.decay_per_step, second.decay_per_step)


# Functions that compare by what they do


def scaled(factor):
    return lambda ys: factor * ys.sum()


def double(ys):
    return 2 * ys


def test_functions_written_again_are_equal():
    again = [ByValue(lambda ys: (ys[-1] ** 2).mean()) for _ in range(2)]
    assert again[0] == again[1]
    assert hash(again[0]) == hash(again[1])
    weights = jnp.ones(3)
    for value in (2.0, "mean", None, (1, 2), weights, jnp.tanh, double, RNN(3)):
        one, two = ByValue(scaled(value)), ByValue(scaled(value))
        assert one == two
        assert hash(one) == hash(two)


def test_functions_that_may_differ_are_not():
    assert ByValue(scaled(2.0)) != ByValue(scaled(3.0))
    assert ByValue(scaled(1)) != ByValue(scaled(1.0))
    assert ByValue(scaled(1)) != ByValue(scaled(True))
    assert ByValue(scaled(jnp.ones(3))) != ByValue(scaled(jnp.ones(3)))
    changeable = np.ones(3), [1.0], {"a": 1}, ByValue
    for value in changeable[:3]:
        assert ByValue(scaled(value)) != ByValue(scaled(value))
        own = scaled(value)
        assert ByValue(own) == ByValue(own)


FACTOR = 1.0


def test_a_changed_global_is_another_function():
    global FACTOR

    def helper(ys):
        return FACTOR * ys.sum()

    def made():
        return ByValue(lambda ys: helper(ys))

    first = made()
    FACTOR = 2.0
    try:
        assert made() != first
    finally:
        FACTOR = 1.0
    assert made() == first


@pytest.mark.long
def test_results_follow_what_a_loss_closes_over():
    cell, params, xs, *_ = labelled()
    losses = []
    for factor in (1.0, 2.0, 3.0):
        weights = np.full(H, factor)
        flow = rnnlab.gradient_flow(
            cell,
            params,
            xs,
            lambda ys: (ys * weights).sum() * factor,  # noqa: B023
        )
        losses.append(float(flow.loss))
    np.testing.assert_allclose(losses, losses[0] * np.array([1.0, 4.0, 9.0]), rtol=1e-12)


# Words

STILL = "is still above 1/1000 at the first step, 99 steps back"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((37, True, 0.187, 100),
         "the gradient halves every 3.71 steps and is below 1/1000 after 37 steps"),
        ((1, True, math.inf, 100), "the gradient is below 1/1000 after 1 step"),
        ((100, False, 0.0, 100), f"the gradient keeps its norm and {STILL}"),
        ((100, False, -math.log(2), 100), f"the gradient doubles every 1 step and {STILL}"),
        ((1, False, 0.0, 1),
         "the loss is taken at the first step, so there is no step to go back to"),
        ((0, True, 0.0, 10), "no gradient flows back: it is zero where the loss is taken"),
    ],
)  # fmt: skip
def test_sentences(given, expected):
    assert _wording.reach(*given) == expected


def test_the_range_and_the_zeros_stand_in_the_sentence():
    said = _wording.reach(
        52, True, 0.13, 1000, horizon_range=(28, 102), over="5 seeds", zero_share=0.03125
    )
    assert "after 52 steps (28 to 102 over 5 seeds)" in said
    assert said.endswith("beyond some lag it is exactly zero in 3.12 % of the examples")


def test_a_flow_prints_as_a_short_table():
    cell, params, xs, weights, labels = labelled()
    flow = rnnlab.gradient_flow(cell, params, xs, sequence_loss, weights, labels)
    lines = str(flow).splitlines()
    assert len(lines) < 32
    assert max(map(len, lines)) < 240
    assert "The loss is taken at 12 steps. Each example follows one of them" in str(flow)
    for name in flow._fields:
        assert any(line.startswith(f"  {name} ") for line in lines)
    traced = []
    jax.jit(lambda p: traced.append(str(rnnlab.gradient_flow(cell, p, xs, last))) or 0)(params)
    assert "log_norm_h" in traced[0]


def results():
    return [
        kind
        for kind in vars(diagnostics).values()
        if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    ]


@pytest.mark.parametrize("kind", results(), ids=lambda kind: kind.__name__)
def test_every_field_of_a_result_is_explained(kind):
    for name in kind._fields:
        assert f"    {name}: " in inspect.getdoc(kind)
        assert "Alias for field" not in getattr(kind, name).__doc__
        assert len(getattr(kind, name).__doc__) > 5


@pytest.mark.parametrize(
    "name", [n for n in diagnostics.__all__ if n.islower() and callable(getattr(diagnostics, n))]
)
def test_every_instrument_says_what_it_returns(name):
    doc = getattr(diagnostics, name).__doc__
    assert "Returns:" in doc or "``" in doc.splitlines()[0]


def test_a_loss_that_takes_something_else_is_refused():
    cell, params, xs, weights, _ = labelled()
    one_sentence(
        lambda: rnnlab.gradient_flow(cell, params, xs, sequence_loss, weights), "loss(ys, weights"
    )
    one_sentence(lambda: rnnlab.gradient_flow(cell, params, xs, 3.0), "loss is 3.0")


# Examples that are cut off before their gradient has fallen


def over(horizons, lags):
    """The median over examples whose gradients end at these lags, where they have so many."""
    steps = np.arange(max(lags))[:, None]
    log_norm = np.where(steps < np.asarray(horizons), -0.001 * steps, -50.0)
    log_norm = np.where(steps < np.asarray(lags), log_norm, -np.inf)
    ones = np.ones(len(lags), np.int32)
    lags = np.asarray(lags, np.int32)
    return reach.over_examples(reach.example_reach(log_norm, ones, ones, lags))


def product_limit(horizons, lags):
    """The slow twin: the share of examples that reach on, one lag after the other."""
    share = 1.0
    for lag in range(max(lags)):
        there = [h for h, n in zip(horizons, lags, strict=True) if n > lag and h >= lag]
        falls = sum(h == lag for h in there)
        share *= 1 - falls / max(len(there), 1)
        if share <= 0.5 + 1e-9:
            return lag, True
    return max(lags), False


def test_two_of_sixteen_examples_do_not_decide():
    """Where four examples have so many lags, two falls would be half: a horizon of 105."""
    lags = np.linspace(64, 120, 16).round().astype(int)
    horizons = np.full(16, 999)
    horizons[[8, 15]] = 65, 105
    found = over(horizons, lags)
    assert (found.horizon, found.vanishes) == (120, False)
    assert (found.horizon_range[0], found.horizon_range[1]) == (65, 120)


@pytest.mark.parametrize("seed", range(20))
def test_the_median_counts_examples_as_long_as_they_last(seed):
    random = np.random.default_rng(seed)
    lags = random.integers(2, 40, random.integers(1, 12))
    horizons = random.integers(1, 50, len(lags))
    found = over(horizons, lags)
    assert (found.horizon, found.vanishes) == product_limit(horizons, lags)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 33])
def test_without_a_cut_it_is_the_plain_median(count):
    horizons = np.random.default_rng(count).integers(1, 30, count)
    found = over(horizons, [40] * count)
    assert found.horizon == np.sort(horizons)[(count - 1) // 2]


def test_the_sentence_says_how_few_lags_an_example_has():
    said = _wording.reach(120, False, 0.0, 120, least_lags=64)
    assert said.endswith("at the first step, 63 to 119 steps back")


# What a user of PyTorch gives


@pytest.mark.long
def test_tensors_are_what_a_loss_may_be_given():
    torch = pytest.importorskip("torch")
    cell = RNN(H, **F64)
    params, xs = cell.init(jax.random.key(0), I), noise(T, B, I)
    weights, labels = np.asarray(noise(H, 3)), np.zeros((T, B), int)

    def loss(ys, given):
        return cross_entropy(ys @ given["weights"], given["labels"])

    given = {
        "weights": torch.nn.Parameter(torch.from_numpy(weights.copy())),
        "labels": torch.from_numpy(labels),
    }
    found = rnnlab.gradient_flow(cell, params, torch.from_numpy(np.array(xs)), loss, given)
    plain = rnnlab.gradient_flow(cell, params, xs, loss, {"weights": weights, "labels": labels})
    close(found.gradient, plain.gradient)


@pytest.mark.long
@pytest.mark.parametrize("inside", ["readout", "labels"])
def test_a_loss_that_mixes_frameworks_is_refused_in_one_sentence(inside):
    torch = pytest.importorskip("torch")
    readout, labels = torch.nn.Linear(H, 3), torch.zeros(T, B, H)
    losses = {
        "readout": lambda ys: readout(ys).sum(),
        "labels": lambda ys: (ys * labels).sum(),
    }
    cell = RNN(H)
    params = cell.init(jax.random.key(0), I)
    one_sentence(
        lambda: rnnlab.gradient_flow(cell, params, noise(T, B, I), losses[inside]),
        "mixes JAX's arrays with PyTorch's",
        "arguments after the loss",
    )
