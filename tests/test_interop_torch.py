"""Weights from and to PyTorch: values and gradients against PyTorch and stored vectors."""

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import interop
from rnnlab.interop.torch import to_arrays
from tests.reference import one_sentence

REFERENCE = Path(__file__).parent / "reference"
TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-10}
KINDS = ("tanh", "relu", "lstm", "gru")


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; pip install 'rnnlab[peers]'"
    )
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def record(torch):  # noqa: ARG001
    return runpy.run_path(str(REFERENCE / "make_torch_vectors.py"))["record"]


def stored():
    """Case → group → name → array, of the file beside the script that made it."""
    cases = {}
    with np.load(REFERENCE / "torch_vectors.npz") as file:
        for key, value in file.items():
            case, group, name = key.split("/")
            cases.setdefault(case, {}).setdefault(group, {})[name] = value
    return cases


STORED = stored()


def make(torch, kind, dtype, *sizes, **options):
    """A PyTorch module; ``kind`` is also the nonlinearity where it is an RNN's."""
    torch.manual_seed(0)
    if kind in ("tanh", "relu"):
        options["nonlinearity"] = kind
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, torch.nn.RNN)
    return module(*sizes, dtype=getattr(torch, dtype), **options)


def probe(out):
    """Σ_k out_k cos k, as in the script."""
    return jnp.sum(out.ravel() * jnp.cos(jnp.arange(out.size, dtype=out.dtype)))


def ours(cell, params, inputs):
    """Outputs and gradients of rnnlab in PyTorch's words."""
    form = jax.tree.structure(cell.initial_state((inputs["x"].shape[1],)))
    names = [
        name for name in ("c_0", "h_0") if name in inputs
    ]  # the order of the fields of LSTMState

    def loss(params, inputs):
        each = [[inputs[name][k] for name in names] for k in range(len(inputs["h_0"]))]
        state = jax.tree.unflatten(form, [leaf for leaves in each for leaf in leaves])
        final, y = rnnlab.unroll(cell, params, inputs["x"], state)
        leaves = jax.tree.leaves(final)
        outputs = {"y": y, "h_n": jnp.stack(leaves[len(names) - 1 :: len(names)])}
        if len(names) == 2:
            outputs["c_n"] = jnp.stack(leaves[::2])
        return sum(map(probe, outputs.values())), outputs

    inputs = {name: jnp.asarray(value) for name, value in inputs.items()}
    differentiate = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, outputs), (gradients, input_gradients) = differentiate(params, inputs)
    return {
        "outputs": outputs,
        "gradients": to_arrays(cell, gradients),
        "input_gradients": input_gradients,
    }


def compare(groups, activation):
    """Everything that PyTorch has recorded, against rnnlab."""
    options = {"activation": activation} if activation in ("tanh", "relu") else {}
    cell, params = interop.from_torch(groups["weights"], **options)
    dtype = groups["inputs"]["x"].dtype
    for group, mine in ours(cell, params, groups["inputs"]).items():
        assert mine.keys() == groups[group].keys()
        for name, value in mine.items():
            assert value.dtype == dtype
            tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
            np.testing.assert_allclose(
                value, groups[group][name], err_msg=f"{group} {name}", **tolerance
            )


def identical(mine, theirs):
    """Bitwise, names and their order included."""
    assert list(mine) == list(theirs)
    for name, value in mine.items():
        other = np.asarray(theirs[name])
        assert np.asarray(value).dtype == other.dtype
        assert np.asarray(value).tobytes() == other.tobytes(), name


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_pytorch(
    torch, record, kind, layers, both_ways, bias, dtype
):
    module = make(torch, kind, dtype, 3, 5, num_layers=layers, bidirectional=both_ways, bias=bias)
    compare(record(module, 4, 2), kind)


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("steps", "batch", "inputs", "size"),
    [(1, 1, 7, 1), (1, 3, 1, 4), (6, 1, 1, 3)],
    ids=["T1-B1-H1", "T1", "B1"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_sizes_one_step_and_one_example(torch, record, kind, steps, batch, inputs, size, dtype):
    module = make(torch, kind, dtype, inputs, size, bidirectional=True)
    compare(record(module, steps, batch), kind)


@pytest.mark.combinations
@pytest.mark.parametrize("case", STORED)
def test_values_and_gradients_are_those_stored(case):
    compare(STORED[case], "relu" if "relu" in case else "tanh" if "rnn" in case else "")


@pytest.mark.parametrize("case", STORED)
def test_stored_weights_come_back_bit_for_bit(case):
    cell, params = interop.from_torch(STORED[case]["weights"])
    identical(to_arrays(cell, params), STORED[case]["weights"])


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_comes_back_bit_for_bit_and_loads(torch, kind, dtype):
    for options in ({}, {"bias": False}, {"num_layers": 2, "bidirectional": True}):
        module = make(torch, kind, dtype, 3, 5, **options)
        activation = {"activation": kind} if kind == "relu" else {}
        cell, params = interop.from_torch(module.state_dict(), **activation)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        back = interop.to_torch(cell, params)
        other = make(torch, kind, dtype, 3, 5, **options)
        for weight in other.parameters():
            torch.nn.init.zeros_(weight)
        other.load_state_dict(back)
        assert list(back) == list(module.state_dict())
        for mine, theirs in zip(
            other.state_dict().values(), module.state_dict().values(), strict=True
        ):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs)


CELLS = {
    "rnn": rnnlab.RNN(5),
    "rnn-relu": rnnlab.RNN(5, activation="relu"),
    "lstm": rnnlab.LSTM(5),
    "lstm-projected": rnnlab.LSTM(5, proj_size=2),
    "lstm-no-bias": rnnlab.LSTM(5, bias=False),
    "lstm-two-biases": rnnlab.LSTM(5, recurrent_bias=True),
    "gru": rnnlab.GRU(5),
    "gru-no-bias": rnnlab.GRU(5, bias=False),
    "gru-two-biases": rnnlab.GRU(5, recurrent_bias=True, param_dtype=jnp.float64),
    "two ways": rnnlab.bidirectional(rnnlab.LSTM(5)),
    "layers": rnnlab.stack([rnnlab.GRU(5)] * 3),
    "layers two ways": rnnlab.stack([rnnlab.bidirectional(rnnlab.RNN(5))] * 2),
    "one bias, then two": rnnlab.stack([rnnlab.LSTM(5), rnnlab.LSTM(5, recurrent_bias=True)]),
}


def filled(cell):
    """Parameters without a zero."""
    draw = np.random.default_rng(0).normal
    shapes = jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.array(draw(size=leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize("name", CELLS)
def test_cells_come_back_bit_for_bit(name):
    cell = CELLS[name]
    params = filled(cell)
    activation = {"activation": "relu"} if name == "rnn-relu" else {}
    back, same = interop.from_torch(to_arrays(cell, params), **activation)
    assert back == cell
    assert hash(back) == hash(cell)
    assert jax.tree.structure(same) == jax.tree.structure(params)
    for mine, theirs in zip(jax.tree.leaves(same), jax.tree.leaves(params), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_a_stack_of_one_layer_comes_back_bare_and_dropout_stays_behind():
    cell = rnnlab.stack([rnnlab.GRU(5)], dropout=0.5)
    back, params = interop.from_torch(to_arrays(cell, filled(cell)))
    assert back == rnnlab.GRU(5)
    jax.tree.map(np.testing.assert_array_equal, params, filled(cell).layers[0])


def test_a_second_bias_of_zero_is_left_out_unless_its_sign_would_be_lost():
    weights = dict(STORED["lstm-3-layers"]["weights"])
    weights["bias_hh_l1"] = np.zeros_like(weights["bias_hh_l1"])
    weights["bias_hh_l2"] = -np.zeros_like(weights["bias_hh_l2"])
    cell, params = interop.from_torch(weights)
    assert [layer.recurrent_bias for layer in cell.cells] == [True, False, True]
    identical(to_arrays(cell, params), weights)

    weights = dict(STORED["gru-one-step-one-example"]["weights"])
    weights["bias_hh_l0"] = np.concatenate([np.zeros(10), np.arange(5.0)])
    cell, params = interop.from_torch(weights)
    assert cell == rnnlab.GRU(5, param_dtype=jnp.float64)
    np.testing.assert_array_equal(params.c, np.arange(5.0))
    identical(to_arrays(cell, params), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_single_cells_prefixes_and_arrays_of_any_library_are_understood(torch, kind):
    module = make(torch, kind, "float64", 3, 5)
    single = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}.get(kind, torch.nn.RNNCell)(
        3, 5, dtype=torch.float64
    )
    single.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in module.state_dict().items()}
    )
    model = torch.nn.ModuleDict({"rnn": module})
    wanted = interop.from_torch(module.state_dict())
    given = [single.state_dict(), model.state_dict(), dict(module.named_parameters())]
    given += [
        {name: to(value.numpy()) for name, value in module.state_dict().items()}
        for to in (np.array, jnp.array)
    ]
    for weights in given:
        cell, params = interop.from_torch(weights)
        assert cell == wanted[0]
        jax.tree.map(np.testing.assert_array_equal, params, wanted[1])


def test_neither_side_sees_what_the_other_later_does(torch):
    module = make(torch, "lstm", "float32", 3, 5)
    cell, params = interop.from_torch(module.state_dict())
    before = jax.tree.map(np.array, params)
    back = interop.to_torch(cell, params)
    with torch.no_grad():
        for tensor in (*module.parameters(), *back.values()):
            tensor.fill_(7.0)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_the_textbooks_one_matrix_on_h_and_x_is_the_same_lstm():
    cell = rnnlab.LSTM(5, param_dtype=jnp.float64)
    params = filled(cell)
    xs = np.random.default_rng(1).normal(size=(6, 2, 3))
    w = np.concatenate([params.w_h, params.w_x])  # [H + I, 4H]
    c = h = np.zeros((2, 5))
    ys = []
    for x in xs:
        i, f, g, o = np.split(np.concatenate([h, x], axis=-1) @ w + params.b, 4, axis=-1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        ys.append(h)
    np.testing.assert_allclose(rnnlab.unroll(cell, params, xs)[1], ys, rtol=1e-12)


LSTM, GRU, RNN = rnnlab.LSTM(5), rnnlab.GRU(5), rnnlab.RNN(5)
REFUSED = {
    "peephole": (rnnlab.LSTM(5, peephole=True), "peephole=True"),
    "layer norm": (rnnlab.GRU(5, layer_norm=True), "layer_norm=True"),
    "reset before": (rnnlab.GRU(5, reset="before"), "reset='before'"),
    "leaky": (rnnlab.LeakyRNN(5), "LeakyRNN"),
    "jordan": (rnnlab.JordanRNN(5), "JordanRNN"),
    "form": (rnnlab.RNN(5, form="output-state"), "form='output-state'"),
    "activation": (rnnlab.RNN(5, activation="sigmoid"), "sigmoid"),
    "readout": (rnnlab.stack([LSTM, rnnlab.Readout(2)]), "nn.Linear"),
    "residual": (rnnlab.stack([LSTM, LSTM], residual=True), "residual"),
    "kinds": (rnnlab.stack([LSTM, GRU]), "one kind"),
    "sizes": (rnnlab.stack([LSTM, rnnlab.LSTM(4)]), "size"),
    "activations": (rnnlab.stack([RNN, rnnlab.RNN(5, activation="relu")]), "one kind"),
    "directions": (rnnlab.stack([rnnlab.bidirectional(LSTM), LSTM]), "directions"),
    "directions unlike": (rnnlab.bidirectional(LSTM, GRU), "one kind"),
    "directions of layers": (
        rnnlab.bidirectional(rnnlab.stack([LSTM, LSTM])),
        "bidirectional cells",
    ),
    "a stack in a stack": (rnnlab.stack([rnnlab.stack([LSTM, LSTM])]), "stack inside"),
    "second bias alone": (rnnlab.LSTM(5, bias=False, recurrent_bias=True), "two biases"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_pytorch_cannot_express_is_refused(name):
    cell, words = REFUSED[name]
    one_sentence(lambda: to_arrays(cell, filled(cell)), words)


def test_foreign_cells_and_foreign_parameters_are_refused():
    step = rnnlab.Step(lambda params, state, x: (state, x @ params), jnp.zeros(5))
    one_sentence(lambda: to_arrays(step, jnp.eye(5)), "Step")
    one_sentence(lambda: to_arrays(LSTM, filled(GRU)), "LSTMParams", "cell.init")
    one_sentence(lambda: to_arrays(rnnlab.stack([LSTM, LSTM]), filled(LSTM)), "StackParams")
    one_sentence(lambda: to_arrays(LSTM, None), "LSTMParams")


def changed(**changes):
    weights = {**STORED["gru-2-layers-both-ways"]["weights"], **changes}
    return {name: value for name, value in weights.items() if value is not None}


UNREADABLE = {
    "empty": ({}, "module.state_dict()"),
    "no dictionary": ([1.0], "module.state_dict()"),
    "another layer's": (changed(**{"fc.weight": np.ones((2, 10))}), "fc.weight"),
    "two modules": (changed(**{"decoder.weight_ih_l0": np.ones((15, 3))}), "decoder."),
    "projection of a GRU": (
        changed(weight_hr_l0=np.ones((2, 5)), weight_hh_l0=np.ones((15, 2))),
        "only an LSTM",
    ),
    "stray projection": (changed(weight_hr_l0=np.ones((5, 5))), "stray weight_hr_l0"),
    "no recurrent weights": (changed(weight_hh_l0=None), "weight_hh_l0"),
    "shape": (changed(weight_hh_l0=np.ones((10, 5))), "[4H, H]"),
    "lacks a layer's weights": (changed(weight_hh_l1=None), "lacks weight_hh_l1"),
    "lacks a bias": (changed(bias_hh_l0_reverse=None), "lacks bias_hh_l0_reverse"),
    "stray": (
        changed(weight_ih_l2=np.ones((15, 10)), weight_hh_l2=np.ones((15, 5))),
        "lacks bias_hh_l2",
    ),
    "sizes unlike": (changed(weight_ih_l1=np.ones((15, 5))), "weight_ih_l1", "(15, 10)"),
    "dtypes unlike": (
        changed(bias_ih_l0=np.ones(15, np.float32)),
        "float32 (bias_ih_l0)",
        "one dtype",
    ),
    "whole numbers": ({name: value.astype(int) for name, value in changed().items()}, "float32"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_recurrent_modules_state_dict_is_refused(name):
    weights, *words = UNREADABLE[name]
    one_sentence(lambda: interop.from_torch(weights), *words)


def test_activations_that_pytorch_does_not_have_are_refused():
    one_sentence(
        lambda: interop.from_torch(STORED["rnn-tanh"]["weights"], activation="sigmoid"), "sigmoid"
    )
    one_sentence(lambda: interop.from_torch(changed(), activation="relu"), "GRU", "leave it out")
    assert (
        interop.from_torch(STORED["rnn-tanh"]["weights"], activation=jnp.tanh)[0].activation
        == "tanh"
    )


@pytest.mark.combinations
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_with_a_projection_is_that_of_pytorch(torch, record, layers, both_ways, bias):
    options = {"num_layers": layers, "bidirectional": both_ways, "bias": bias, "proj_size": 2}
    module = make(torch, "lstm", "float64", 3, 5, **options)
    compare(record(module, 4, 2), "lstm")
    cell, params = interop.from_torch(module)
    back = interop.to_torch(cell, params)
    assert list(back) == list(module.state_dict())
    make(torch, "lstm", "float64", 3, 5, **options).load_state_dict(back)


def test_float64_is_never_truncated():
    with jax.enable_x64(False):
        one_sentence(
            lambda: interop.from_torch(changed()), 'jax.config.update("jax_enable_x64", True)'
        )
        single = {name: value.astype(np.float32) for name, value in changed().items()}
        cell, _ = interop.from_torch(single)
    assert cell.cells[0].forward.param_dtype == jnp.float32


def test_without_pytorch_to_torch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    one_sentence(lambda: interop.to_torch(LSTM, filled(LSTM)), "pip install torch")


def test_options_that_are_no_weights_do_not_stand_in_the_way():
    cell = dataclasses.replace(LSTM, forget_bias=0.0, dtype=jnp.bfloat16)
    assert interop.from_torch(to_arrays(cell, filled(cell)))[0] == LSTM


def test_neither_pytorch_nor_flax_is_imported_before_it_is_needed():
    code = (
        "import sys, numpy, rnnlab\n"
        "rnnlab.interop.from_torch({'weight_ih': numpy.ones((4, 1), 'f4'), "
        "'weight_hh': numpy.ones((4, 1), 'f4')})\n"
        "assert not {'torch', 'flax'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# Modules, whole models and files


def test_a_module_brings_its_nonlinearity_and_dropout(torch):
    module = torch.nn.RNN(3, 4, num_layers=2, nonlinearity="relu", dropout=0.3)
    cell, params = interop.from_torch(module)
    assert cell.dropout == 0.3
    assert [layer.activation for layer in cell.cells] == ["relu", "relu"]
    expected = interop.from_torch(module.state_dict(), activation="relu")[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    single, _ = interop.from_torch(torch.nn.GRU(3, 4))
    assert single == rnnlab.GRU(4, recurrent_bias=True)


class Model:
    """Names and weights of a whole model, with its recurrent module in it."""

    def __init__(self, torch):
        self.encoder = torch.nn.Module()
        self.encoder.rnn = torch.nn.RNN(3, 4, nonlinearity="relu")
        self.embedding = torch.nn.Embedding(5, 3)

    def state_dict(self):
        inner = self.encoder.rnn.state_dict()
        return {"embedding.weight": self.embedding.weight.data} | {
            f"encoder.rnn.{name}": value for name, value in inner.items()
        }


def test_a_prefix_picks_the_recurrent_module_of_a_whole_model(torch):
    model = Model(torch)
    expected = interop.from_torch(model.encoder.rnn)
    for source, options in ((model, {}), (model.state_dict(), {"activation": "relu"})):
        cell, params = interop.from_torch(source, prefix="encoder.rnn.", **options)
        assert cell == expected[0]
        jax.tree.map(np.testing.assert_array_equal, params, expected[1])


def test_a_whole_model_without_a_prefix_is_told_which_there_are(torch):
    model = Model(torch)
    one_sentence(
        lambda: interop.from_torch(model), "embedding.weight", "give prefix='encoder.rnn.'"
    )
    one_sentence(lambda: interop.from_torch(model, prefix="decoder."), "use one of 'encoder.rnn.'")
    one_sentence(lambda: interop.from_torch({"w": np.ones(2)}, prefix="a."), "no recurrent module")


def test_a_safetensors_file(torch, tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    model = Model(torch)
    path = tmp_path / "model.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    cell, params = interop.from_torch(path, prefix="encoder.rnn.", activation="relu")
    jax.tree.map(np.testing.assert_array_equal, params, interop.from_torch(model.encoder.rnn)[1])
    assert cell.hidden_size == 4
    path.write_bytes(b"not a file of that kind")
    one_sentence(lambda: interop.from_torch(str(path)), "cannot be read as a safetensors file")
    one_sentence(lambda: interop.from_torch(tmp_path / "absent"), "cannot be read")
