"""Each model against its equations: NumPy formulas, Python loops and exact facts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import GRU, LSTM, RNN, bidirectional, stack, unroll
from rnnlab.cells import GRUState
from rnnlab.data import Batch
from rnnlab.layers import variational_dropout
from rnnlab.models import (
    LanguageModelParams,
    classifier,
    conditioned_decoder,
    encoder_decoder,
    forecaster,
    language_model,
    regressor,
    step_regressor,
    tagger,
)
from rnnlab.models.pooling import directions, pool, pooling_weights
from tests.reference import close
from tests.reference.cells import by_name, draw, draw_params
from tests.reference.models import (
    AFTER,
    AHEAD,
    CASES,
    CODES,
    LENGTHS,
    SHORT,
    STEP_NUMBERS,
    TAGS,
    VALID,
    VECTORS,
    WRITTEN,
    B,
    C,
    I,
    O,
    T,
    V,
    evaluation,
    float64_params,
)

(GRU_TWIN,) = by_name("gru-after")


def softmax(scores):
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


# Pooling

CELLS = {
    "one direction": (GRU(3), [(3, False)]),
    "two directions": (bidirectional(GRU(2), RNN(1)), [(2, False), (1, True)]),
    "two directions on top": (stack([RNN(4), bidirectional(RNN(2))]), [(2, False), (2, True)]),
    "two directions below": (stack([bidirectional(RNN(2)), RNN(3)]), [(3, False)]),
    "a wrapper": (variational_dropout(bidirectional(RNN(2))), [(2, False), (2, True)]),
    "directions turned twice": (
        bidirectional(RNN(1), bidirectional(RNN(2), RNN(3))),
        [(1, False), (2, True), (3, False)],
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_directions_of_the_features(name):
    cell, expected = CELLS[name]
    assert directions(cell) == expected
    assert sum(size for size, _ in expected) == cell.output_size


def test_the_last_outputs_are_those_of_the_final_states():
    """Of both directions: each has read the whole valid part."""
    cell = bidirectional(GRU(2), RNN(1))
    params = draw_params(cell, I)
    final, ys = unroll(cell, params, VECTORS, lengths=LENGTHS)
    expected = jnp.concatenate([final.forward.h, final.backward.h], axis=-1)
    close(pool("last", cell, None, ys, jnp.asarray(LENGTHS)), expected)
    # Without lengths all steps are valid.
    close(pool("last", cell, None, ys, None), pool("last", cell, None, ys, jnp.full(B, T)), 0)


@pytest.mark.combinations
@pytest.mark.parametrize("how", ["attention", "max", "mean", "last"])
def test_pooling_is_a_loop_over_valid_steps(how):
    model = classifier(GRU(3), C, pool=how)
    params = float64_params(model, Batch(VECTORS, TAGS[0]))
    lengths = np.array([3, 5, 0])
    _, ys = unroll(GRU(3), params.cell, VECTORS, lengths=lengths)
    expected = np.zeros((B, 3))
    for example, length in enumerate(lengths):
        valid = np.asarray(ys)[:length, example]
        if not length:
            continue
        if how == "attention":
            hidden, score = params.pooling
            scores = np.tanh(valid @ hidden.w + hidden.b) @ score.w
            expected[example] = softmax(scores[:, 0]) @ valid
        else:
            pools = {"last": valid[-1], "mean": valid.mean(0), "max": valid.max(0)}
            expected[example] = pools[how]
    logits = expected @ params.readout.w + params.readout.b
    batch = Batch(VECTORS, TAGS[0], lengths=lengths)
    close(jax.jit(model.apply)(params, batch), jnp.asarray(logits))
    _, gradient = evaluation(model)(params, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_weights_of_pooling_sum_to_one_over_valid_steps():
    model = classifier(GRU(3), C, pool="attention")
    params = float64_params(model, Batch(VECTORS, None))
    weights = jax.jit(pooling_weights)(
        params.pooling, jnp.asarray(AFTER @ np.ones((I, 3))), SHORT[..., None]
    )
    close(weights.sum(0), jnp.ones(B))
    assert not weights[~SHORT].any()


# Scores


def test_the_scores_of_a_tagger():
    model = tagger(GRU(3), C)
    mask = VALID & (TAGS != 1)
    batch = Batch(VECTORS, TAGS, mask, LENGTHS)
    params = float64_params(model, batch)
    logits = np.asarray(jax.jit(model.apply)(params, batch))
    losses, rights = [], []
    for t, b in np.argwhere(mask):
        losses.append(-np.log(softmax(logits[t, b])[TAGS[t, b]]))
        rights.append(logits[t, b].argmax() == TAGS[t, b])
    value, metrics = jax.jit(model.loss)(params, batch)
    close(value, jnp.asarray(np.mean(losses)))
    assert int(metrics.pop("count")) == len(losses)
    close(metrics, {"accuracy": jnp.asarray(np.mean(rights))})


def test_the_scores_of_a_regressor():
    """One output may come with targets [B]; it is not broadcast to [B, B]."""
    model = regressor(GRU(3), 1)
    numbers = np.array([0.5, np.nan, -1.0])
    batch = Batch(VECTORS, numbers, np.array([True, False, True]))
    params = float64_params(model, batch)
    errors = np.asarray(jax.jit(model.apply)(params, batch))[[0, 2], 0] - numbers[[0, 2]]
    value, metrics = jax.jit(model.loss)(params, batch)
    close(value, jnp.asarray((errors**2).mean()))
    assert int(metrics.pop("count")) == 2
    close(metrics, {"mae": jnp.asarray(np.abs(errors).mean())})


def test_the_scores_of_a_step_regressor():
    model = step_regressor(GRU(3), O)
    mask = VALID & (TAGS != 1)
    numbers = np.where(mask[..., None], STEP_NUMBERS, np.nan)
    batch = Batch(VECTORS, numbers, mask, LENGTHS)
    params = float64_params(model, batch)
    errors = (np.asarray(jax.jit(model.apply)(params, batch)) - numbers)[mask]
    value, metrics = jax.jit(model.loss)(params, batch)
    close(value, jnp.asarray((errors**2).mean()))
    assert int(metrics.pop("count")) == mask.sum() * O
    close(metrics, {"mae": jnp.asarray(np.abs(errors).mean())})


# The language model


def test_a_uniform_distribution_has_log2_v_bits():
    model, batch = CASES["language model"]
    zeros = jax.tree.map(np.zeros_like, float64_params(model, batch))
    (value, metrics), _ = evaluation(model)(zeros, batch)
    close(metrics["bits_per_symbol"], jnp.log2(jnp.asarray(float(V))))
    close(value, jnp.log(jnp.asarray(float(V))))


def test_a_state_is_carried_from_one_part_to_the_next():
    model, batch = CASES["language model"]
    params = float64_params(model, batch)
    resets = np.zeros((T, B), bool)
    resets[3, 1] = True
    run = jax.jit(model.run)
    final, logits = run(params, CODES, model.initial_state(B), resets=resets)
    state, first = run(params, CODES[:2], model.initial_state(B), resets=resets[:2])
    state, second = run(params, CODES[2:], state, resets=resets[2:])
    close((state, jnp.concatenate([first, second])), (final, logits))
    close(jax.jit(model.apply)(params, Batch(CODES, CODES, resets=resets)), logits)


def test_tied_weights_share_their_gradient():
    """∂L/∂E of the tied model is the sum of those of both uses in the untied one."""
    tied, batch = CASES["language model"]
    untied = language_model(tied.cell, V, embedding_size=tied.embedding_size)
    params = float64_params(tied, batch)
    readout = rnnlab.cells.ReadoutParams(params.embedding.T, params.readout.b)
    separate = LanguageModelParams(params.embedding, params.cell, readout)
    one, shared = evaluation(tied)(params, batch)
    two, apart = evaluation(untied)(separate, batch)
    close(one, two)
    close(shared.embedding, apart.embedding + apart.readout.w.T)
    close((shared.cell, shared.readout.b), (apart.cell, apart.readout.b))


# The forecaster


@pytest.fixture(scope="module")
def fed_back():
    model, batch = CASES["forecaster, fed back"]
    return model, batch, float64_params(model, batch)


def forecasts(params, batch, is_own):
    """A Python loop in NumPy; where ``is_own [AHEAD, B]`` is False the target is read."""
    outputs = np.zeros((AHEAD, B, I))
    for b in range(B):
        state = GRUState(np.zeros(3))
        for x in batch.xs[: LENGTHS[b], b]:
            state, y = GRU_TWIN.step(params.cell, state, x)
        for k in range(AHEAD):
            outputs[k, b] = y @ params.readout.w + params.readout.b
            x = outputs[k, b] if is_own[k, b] else batch.targets[k, b]
            state, y = GRU_TWIN.step(params.cell, state, x)
    return outputs


def forecast_loss(params, batch, is_own):
    errors = forecasts(params, batch, is_own) - batch.targets
    return (errors[batch.mask] ** 2).mean()


def test_a_forecast_is_the_next_input(fed_back):
    model, batch, params = fed_back
    is_own = np.ones((AHEAD, B), bool)
    close(jax.jit(model.apply)(params, batch), jnp.asarray(forecasts(params, batch, is_own)))
    value = evaluation(model)(params, batch)[0][0]
    close(value, jnp.asarray(forecast_loss(params, batch, is_own)))


def test_in_training_the_target_is_the_next_input(fed_back):
    model, batch, params = fed_back
    # A target that is missing may be NaN, although the next step would read it.
    missing = np.where(SHORT[..., None], AFTER, np.nan)
    gradient_of = jax.jit(jax.value_and_grad(model.loss, has_aux=True))
    (value, _), gradient = gradient_of(params, batch._replace(targets=missing), jax.random.key(0))
    close(value, jnp.asarray(forecast_loss(params, batch, np.zeros((AHEAD, B), bool))))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_scheduled_sampling_throws_a_coin_for_each_step_and_example(fed_back):
    """Three forecasts are read before a target that counts, so there are eight losses."""
    model, batch, params = fed_back
    keys = jax.random.split(jax.random.key(0), 16)
    losses = jax.jit(
        jax.vmap(
            lambda key, sampling: model.loss(params, batch, key, sampling=sampling)[0], (0, None)
        )
    )
    possible = []
    for coins in itertools.product([False, True], repeat=3):
        is_own = np.zeros((AHEAD, B), bool)
        is_own[[0, 1, 0], [0, 0, 2]] = coins
        possible.append(forecast_loss(params, batch, is_own))
    nearest = np.abs(np.asarray(losses(keys, 0.5))[:, None] - possible)
    assert (nearest.min(1) < 1e-10).all()
    assert len(set(nearest.argmin(1))) > 4
    np.testing.assert_allclose(losses(keys, 0.0), possible[0], rtol=1e-10)
    np.testing.assert_allclose(losses(keys, 1.0), possible[-1], rtol=1e-10)


def test_a_direct_forecast_reads_out_all_steps_at_once():
    model = forecaster(RNN(3), horizon=AHEAD, outputs=1)
    batch = Batch(VECTORS, AFTER[..., 0], lengths=LENGTHS)
    params = float64_params(model, batch)
    final, _ = unroll(RNN(3), params.cell, VECTORS, lengths=LENGTHS)
    expected = (final.h @ params.readout.w + params.readout.b).T
    close(jax.jit(model.apply)(params, batch), expected[..., None])
    close(model.loss(params, batch)[0], jnp.mean((expected - AFTER[..., 0]) ** 2))


def test_a_horizon_of_one_step():
    for feed_back in (False, True):
        model = forecaster(GRU(3), horizon=1, outputs=I, feed_back=feed_back)
        batch = Batch(VECTORS, AFTER[:1])
        params = float64_params(model, batch)
        value, _ = model.loss(params, batch)
        close(model.loss(params, batch, jax.random.key(0))[0], value)


# Decoders


def additive_by_hand(model, params, batch):
    """Logits and weights of the encoder–decoder with GRUs, one example and one step at a time."""
    logits = np.zeros((AHEAD, B, C))
    weights = np.zeros((AHEAD, B, T))
    for b in range(B):
        state = GRUState(np.zeros(3))
        hs = []
        for x in batch.xs[: LENGTHS[b], b]:
            state, h = GRU_TWIN.step(params.encoder, state, x)
            hs.append(h)
        hs = np.stack(hs)
        state = GRUState(state.h @ params.start.w + params.start.b)
        code = model.start
        for k in range(AHEAD):
            query, key, score = params.attention
            hidden = np.tanh(state.h @ query.w + hs @ key.w + key.b)
            weights[k, b, : len(hs)] = softmax((hidden @ score.w)[:, 0])
            c = weights[k, b, : len(hs)] @ hs
            x = np.concatenate([params.embedding[code], c])
            state, y = GRU_TWIN.step(params.decoder, state, x)
            logits[k, b] = np.concatenate([y, c]) @ params.readout.w + params.readout.b
            code = batch.targets[k, b]
    return jnp.asarray(logits), jnp.asarray(weights)


def test_additive_attention_is_bahdanaus():
    model = encoder_decoder(GRU(3), GRU(3), C, start=2, attention_size=4)
    batch = Batch(VECTORS, WRITTEN, SHORT, LENGTHS)
    params = float64_params(model, batch)
    logits, weights = additive_by_hand(model, params, batch)
    close(jax.jit(model.apply)(params, batch), logits)
    close(jax.jit(model.attend)(params, batch), weights)


def test_dot_attention_is_luongs():
    model, batch = CASES["encoder-decoder, dot"]
    params = float64_params(model, batch)
    final, hs = unroll(RNN(3), params.encoder, VECTORS, lengths=LENGTHS)
    start = GRUState(final.h @ params.start.w + params.start.b)
    xs = params.embedding[np.concatenate([np.zeros((1, B), int), WRITTEN[:-1]])]
    _, ss = unroll(GRU(4), params.decoder, xs, start)
    ss = np.asarray(ss)
    logits = np.zeros((AHEAD, B, C))
    weights = np.zeros((AHEAD, B, T))
    for k, b in np.ndindex(AHEAD, B):
        valid = np.asarray(hs)[: LENGTHS[b], b]
        alpha = softmax(valid @ params.attention.key.w @ ss[k, b] / np.sqrt(4))
        weights[k, b, : LENGTHS[b]] = alpha
        both = np.concatenate([alpha @ valid, ss[k, b]])
        attended = np.tanh(both @ params.attention.combine.w)
        logits[k, b] = attended @ params.readout.w + params.readout.b
    close(jax.jit(model.apply)(params, batch), jnp.asarray(logits))
    close(jax.jit(model.attend)(params, batch), jnp.asarray(weights))


@pytest.mark.parametrize("name", ["encoder-decoder", "encoder-decoder, dot"])
def test_the_weights_of_attention_are_a_distribution_over_the_source(name):
    """They sum to 1 over it and are exactly 0 in its padding; all are 0 for an empty source."""
    model, batch = CASES[name]
    params = float64_params(model, batch)
    lengths = np.array([3, 5, 0])
    attend = jax.jit(model.attend)
    weights = np.asarray(attend(params, batch._replace(lengths=lengths)))
    assert weights.shape == (AHEAD, B, T)
    assert (weights[:, 0, :3] > 0).all()
    np.testing.assert_allclose(weights.sum(-1), [[1, 1, 0]] * AHEAD, atol=1e-12)
    assert not weights[:, 0, 3:].any()
    assert not weights[:, 2].any()


DECODERS = [
    "conditioned decoder",
    "encoder-decoder",
    "encoder-decoder, dot",
    "encoder-decoder, none",
]


@pytest.mark.combinations
@pytest.mark.parametrize("name", ["encoder-decoder", *DECODERS])
def test_what_is_generated_is_most_likely_given_itself(name):
    """Greedy generation, step by step, is a fixed point of teacher forcing, all steps at once."""
    model, batch = CASES[name]
    params = float64_params(model, batch)
    codes = jax.jit(model.generate, static_argnums=2)(params, batch._replace(targets=None), 4)
    assert codes.shape == (4, B)
    again = Batch(batch.xs, np.asarray(codes), lengths=batch.lengths)
    logits = jax.jit(model.apply)(params, again)
    close(jnp.argmax(logits, -1).astype(jnp.int32), codes)


@pytest.mark.combinations
@pytest.mark.parametrize("name", DECODERS)
def test_scheduled_sampling(name):
    """At 0 it is teacher forcing; at 1 it reads what the model writes.

    Large logits make the draw from the distribution the most likely symbol.
    """
    model, batch = CASES[name]
    params = float64_params(model, batch)
    steep = jax.tree.map(lambda leaf: 1e4 * leaf, params.readout)
    params = params._replace(readout=steep)
    key = jax.random.key(0)
    sampled = jax.jit(lambda sampling: model.loss(params, batch, key, sampling=sampling)[0])
    close(sampled(0.0), evaluation(model)(params, batch)[0][0])
    codes = np.asarray(jax.jit(model.generate, static_argnums=2)(params, batch, AHEAD))
    logits = jax.jit(model.apply)(params, Batch(batch.xs, codes, lengths=batch.lengths))
    close(sampled(1.0), model.score(logits, batch)[0])


def test_the_vector_sets_the_state_and_enters_every_input():
    model = conditioned_decoder(GRU(3), C, every_input=True, start=3)
    vectors = VECTORS[0]
    batch = Batch(vectors, WRITTEN)
    params = float64_params(model, batch)
    expected = np.zeros((AHEAD, B, C))
    for b in range(B):
        state = GRUState(vectors[b] @ params.start.w + params.start.b)
        code = 3
        for k in range(AHEAD):
            x = params.embedding[code] + vectors[b] @ params.inputs.w
            state, y = GRU_TWIN.step(params.decoder, state, x)
            expected[k, b] = y @ params.readout.w + params.readout.b
            code = WRITTEN[k, b]
    close(jax.jit(model.apply)(params, batch), jnp.asarray(expected))
    lengths = np.array([1, 3, 2])
    counted = model.loss(params, batch._replace(lengths=lengths))
    masked = model.loss(params, batch._replace(mask=np.arange(AHEAD)[:, None] < lengths))
    close(counted, masked, 0)


def test_every_leaf_of_the_state_is_set():
    """Leaf after leaf: of an LSTM, c and h of each layer."""
    cell = stack([LSTM(3), GRU(2)])
    model = conditioned_decoder(cell, C)
    batch = Batch(VECTORS[0], WRITTEN)
    params = float64_params(model, batch)
    assert params.start.w.shape == (I, 3 + 3 + 2)
    _, state = model.begin(params, batch, None)
    columns = jnp.concatenate(jax.tree.leaves(state), axis=-1)
    close(columns, jnp.asarray(VECTORS[0] @ params.start.w + params.start.b))


@pytest.mark.long
@pytest.mark.parametrize(
    "cell",
    [GRU(3), LSTM(3), RNN(3), stack([LSTM(3), GRU(2)])],
    ids=["gru", "lstm", "rnn", "stack"],
)
@pytest.mark.parametrize("attention", ["dot", "additive", None])
def test_a_decoders_steps_are_its_whole(attention, cell):
    """All steps at once, where the equations allow it, and one after the other."""
    model = encoder_decoder(bidirectional(cell), cell, C, attention=attention)
    batch = Batch(VECTORS, WRITTEN, SHORT, LENGTHS)
    params = float64_params(model, batch)
    memory, state = model.begin(params, batch, None)
    steps = []
    for codes in model.previous(batch, state):
        x = model.embedding(params.embedding, codes)
        state, (features, _) = model.advance(params, memory, state, x, None)
        steps.append(model.readout(params.readout, features))
    close(jax.jit(model.apply)(params, batch), jnp.stack(steps))


def test_half_precision():
    """The parameters are those of the cells' dtype, and so are the logits."""
    cell = GRU(3, param_dtype=jnp.bfloat16)
    model = encoder_decoder(cell, cell, C)
    batch = Batch(VECTORS.astype(jnp.bfloat16), WRITTEN)
    params = draw(jax.eval_shape(lambda key: model.init(key, batch), jax.random.key(0)), 1)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    logits = jax.eval_shape(model.apply, params, batch)
    assert logits.dtype == jnp.bfloat16
