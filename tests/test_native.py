"""The native engine: sizes, devices, threads and processes, exact values, and what it refuses.

The contract of all engines, in ``test_engines.py``, holds for it too.
"""

import concurrent.futures
import functools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import rnnlab
from rnnlab import unroll, unroll_states
from rnnlab.cells import GRU, LSTM, MGU, RNN, ConvLSTM, LeakyRNN
from rnnlab.engines.native import library as loading
from rnnlab.engines.native.engine import bytes_kept
from rnnlab.engines.sequence import EngineInput
from tests.reference import close, one_sentence
from tests.reference.cells import Twin, by_name, draw_params, draw_state
from tests.reference.native import NATIVE, ROOT, SETS, alone, needs_native, under
from tests.test_driver import INPUTS, Course, score
from tests.test_engines import COURSES, by_scan, first_order

KINDS = by_name("elman", "leaky", "lstm", "gru-after")
SCAN = {"engine": "scan"}


def of_size(kind, units, **options):
    return {"rnn": RNN, "leaky": LeakyRNN, "lstm": LSTM, "gru": GRU}[kind](units, **options)


def drawn(cell, steps, batch, inputs, dtype=np.float64):
    """Parameters, inputs, first state, and flags for valid steps and for resets."""
    rng = np.random.default_rng(steps + batch + inputs)
    given = draw_params(cell, inputs), rng.normal(size=(steps, batch, inputs)), None
    params, xs, state = jax.tree.map(dtype, (*given[:2], draw_state(cell, (batch,))))
    flags = rng.random((2, steps, batch)) < np.array([0.8, 0.3])[:, None, None]
    # Weights of this size keep sums of any length near 1.
    small = jax.tree.map(lambda leaf: leaf / np.sqrt(leaf.shape[0], dtype=dtype), params)
    return (small, xs, state), {"mask": flags[0], "resets": flags[1]}


def gradients(cell, inputs, marks, how, run=unroll):
    def loss(*inputs):
        out = run(cell, *inputs, **marks, **how)
        return score(*out), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)


# Values and derivatives


@needs_native
@pytest.mark.parametrize("twin", KINDS, ids=lambda twin: twin.name)
def test_each_kind_of_cell_is_that_of_scan(twin):
    """To the last digits: sums are added up in another order, and that is all."""
    for how in NATIVE.values():
        found = first_order(twin, COURSES["all"], how)
        close(found, by_scan(twin.name, COURSES["all"]), 1e-12)


@pytest.mark.combinations
@under(NATIVE)
@pytest.mark.parametrize("kind", [RNN, LeakyRNN, LSTM, GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("recurrent_bias", [True, False])
def test_biases(kind, bias, recurrent_bias, how):
    cell = kind(3, bias=bias, recurrent_bias=recurrent_bias)
    twin = Twin("", cell, None)
    course = Course(4, (2,), "initial resets")
    close(*(first_order(twin, course, engine) for engine in (how, SCAN)), 1e-12)


SIZES = (1, 3, 7, 8, 15, 16, 17, 31, 33, 64)


@pytest.mark.combinations
@needs_native
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "leaky"])
@pytest.mark.parametrize(
    ("units", "inputs"), [*zip(SIZES, SIZES[3:] + SIZES[:3], strict=True)], ids=str
)
def test_vectors_that_are_not_full(units, inputs, kind, dtype):
    cell = of_size(kind, units)
    given, marks = drawn(cell, 3, 5, inputs, dtype)
    found, expected = (
        gradients(cell, given, marks, how, unroll_states) for how in (NATIVE["native"], SCAN)
    )
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found[1]))
    close(found, expected, 1e-12 if dtype == np.float64 else 2e-5)


@pytest.mark.combinations
@under(NATIVE)
@pytest.mark.parametrize(("kind", "steps", "batch"), [
    ("gru", 7, 50), ("lstm", 3, 25), ("leaky", 300, 2), ("lstm", 200, 1), ("rnn", 2, 200),
])  # fmt: skip
def test_several_blocks_of_examples_and_chunks_of_steps(kind, steps, batch, how):
    """More than 24 examples are several blocks, more than 192 rows in a block several chunks."""
    cell = of_size(kind, 9)
    given, marks = drawn(cell, steps, batch, 4)
    marks["reverse"] = batch > 2
    close(*(gradients(cell, given, marks, engine) for engine in (how, SCAN)), 1e-11)


@needs_native
def test_the_result_is_the_same_to_the_bit():
    """Whichever threads were free: large enough for two of them."""
    cell = GRU(64)
    given, marks = drawn(cell, 30, 60, 32, np.float32)
    first = gradients(cell, given, marks, NATIVE["native"])
    for _ in range(5):
        again = gradients(cell, given, marks, NATIVE["native"])
        jax.tree.map(np.testing.assert_array_equal, again, first)


@pytest.mark.combinations
@needs_native
@pytest.mark.parametrize("kind", ["lstm", "gru", "leaky", "rnn"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_reaches_what_it_reaches_with_scan(kind, bad):
    cell = of_size(kind, 5)
    (params, xs, state), marks = drawn(cell, 6, 4, 3)
    xs[2, 1, 0] = bad
    given = params, xs, state
    found, expected = (gradients(cell, given, marks, how) for how in (NATIVE["native"], SCAN))
    close(found, expected, 1e-12)
    assert np.isnan(expected[1][0].w_x).any() or np.isfinite(expected[0][0])


@pytest.mark.combinations
@needs_native
@pytest.mark.parametrize("activation", ["relu", "identity", "sigmoid", "tanh"])
def test_infinite_states_of_an_rnn(activation):
    cell = RNN(2, activation=activation)
    (params, xs, state), _ = drawn(cell, 3, 3, 1)
    xs[1, :, 0] = np.inf, -np.inf, np.nan
    given = params, xs, state
    close(*(gradients(cell, given, {}, how) for how in (NATIVE["native"], SCAN)), 1e-12)


@needs_native
def test_a_step_that_does_not_count_may_hold_anything():
    cell = LSTM(5)
    (params, xs, state), marks = drawn(cell, 6, 4, 3)
    bad = np.where(marks["mask"][..., None], xs, np.nan)
    found, expected = (
        gradients(cell, (params, given, state), marks, NATIVE["native"]) for given in (bad, xs)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# Transformations


def losses(cell, steps=4, batch=3):
    """A loss of parameters and one batch, several networks, and several batches."""
    networks = [draw_params(cell, INPUTS, seed) for seed in (1, 2)]
    xs = np.random.default_rng(0).normal(size=(5, steps, batch, INPUTS))

    def loss(how, params, xs):
        return score(*unroll(cell, params, xs, lengths=np.arange(batch) + 2, **how))

    return loss, jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks), jnp.asarray(xs)


def by_network(function, networks, batches):
    """Every network on every batch, one vmap inside of the other."""
    return jax.vmap(lambda p: jax.vmap(lambda xs: function(p, xs))(batches))(networks)


def by_batch(function, networks, batches):
    return jax.vmap(lambda xs: jax.vmap(lambda p: function(p, xs))(networks))(batches)


def paired(function, networks, batches):
    return jax.vmap(function)(networks, batches[:2])


MAPS = {"by network": by_network, "by batch": by_batch, "paired": paired}


@pytest.mark.combinations
@under(NATIVE)
@pytest.mark.parametrize("mapped", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("twin", KINDS, ids=lambda twin: twin.name)
def test_networks_and_batches_under_vmap(twin, mapped, how):
    loss, networks, batches = losses(twin.cell)

    def both(how):
        """The gradients of each, and the gradient of their sum."""
        of_one = functools.partial(loss, how)
        gradient = jax.grad(of_one, argnums=(0, 1))
        total = jax.grad(lambda *given: mapped(of_one, *given).sum(), argnums=(0, 1))
        return mapped(gradient, networks, batches), total(networks, batches)

    close(*(jax.jit(functools.partial(both, engine))() for engine in (how, SCAN)), 1e-12)


@pytest.mark.long
@under(NATIVE)
def test_hessian_vector_products_of_several_networks(how):
    loss, networks, batches = losses(LSTM(2))

    def product(how, params, xs):
        gradient = jax.grad(functools.partial(loss, how))
        return jax.jvp(lambda p: gradient(p, xs), (params,), (jax.tree.map(jnp.cos, params),))[1]

    close(*(
        jax.jit(functools.partial(paired, functools.partial(product, engine)))(networks, batches)
        for engine in (how, SCAN)
    ))  # fmt: skip


@pytest.mark.long
@under(NATIVE)
def test_layers(how):
    """Both directions, resets and lengths, and another cell in the middle of a batch grid."""
    cell = rnnlab.stack([rnnlab.bidirectional(GRU(3)), LSTM(6), LeakyRNN(6)], residual=True)
    params = draw_params(cell, INPUTS)
    rng = np.random.default_rng(2)
    xs, marks = rng.normal(size=(6, 3, 2, INPUTS)), {"lengths": rng.integers(0, 7, (3, 2))}
    marks["resets"] = rng.random((6, 3, 2)) < 0.3
    start = cell.initial_state((3, 2))
    start = jax.tree.map(np.float64, start)
    close(*(gradients(cell, (params, xs, start), marks, engine) for engine in (how, SCAN)), 1e-12)


# Threads and processes


@needs_native
def test_two_threads_call_at_once():
    cells = LSTM(40), GRU(33)
    given = [drawn(cell, 20, 30, 17) for cell in cells]

    def several(index):
        cell, (inputs, marks) = cells[index], given[index]
        return [gradients(cell, inputs, marks, NATIVE["native"]) for _ in range(8)]

    expected = [several(index)[0] for index in range(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        together = [*pool.map(several, range(2))]
    for found, wanted in zip(together, expected, strict=True):
        for one in found:
            jax.tree.map(np.testing.assert_array_equal, one, wanted)


def sum_of_outputs(cell, engine):
    params = jax.tree.map(np.float32, draw_params(cell, INPUTS))
    xs = np.linspace(-1, 1, 5 * 3 * INPUTS, dtype=np.float32).reshape(5, 3, INPUTS)
    return float(unroll(cell, params, xs, engine=engine)[1].sum())


@pytest.mark.long
@needs_native
def test_it_runs_in_spawned_processes():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [pool.submit(sum_of_outputs, LSTM(3), "native") for _ in range(2)]
        there = [job.result(timeout=300) for job in jobs]
    assert there == pytest.approx([sum_of_outputs(LSTM(3), "scan")] * 2, rel=1e-6)


FORKS = """
import multiprocessing
from rnnlab import GRU
from tests.test_native import sum_of_outputs

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        forked = pool.starmap(sum_of_outputs, [(GRU(3), "native")] * 2)
    print(*forked, sum_of_outputs(GRU(3), "native"), sum_of_outputs(GRU(3), "scan"))
"""


@pytest.mark.long
@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_it_runs_in_processes_forked_before_jax_is_used():
    *found, expected = map(float, alone(FORKS).split())
    assert found == pytest.approx([expected] * 3, rel=1e-6)


ENDLESS = """
import jax, jax.numpy as jnp, rnnlab
cell = rnnlab.LSTM(256)
params = cell.init(jax.random.key(0), 64)
xs = jnp.ones((400, 32, 64))
loss = jax.jit(jax.grad(lambda p: rnnlab.unroll(cell, p, xs, engine="native")[1].sum()))
while True:
    jax.block_until_ready(loss(params))
    print("ran", flush=True)
"""


def shared_files(process):
    """What the process has open or mapped in the folders of temporary files and shared memory."""
    folder = Path("/proc", str(process.pid))
    open_files = [str(entry.readlink()) for entry in (folder / "fd").iterdir()]
    mapped = re.findall(r" (/\S+)$", (folder / "maps").read_text(), re.MULTILINE)
    return [name for name in open_files + mapped if name.startswith(("/dev/shm", "/memfd"))]


@pytest.mark.long
@needs_native
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
def test_a_process_killed_during_a_call_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENDLESS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ran\n"
        shared = shared_files(process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert shared == []
    assert [*tmp_path.iterdir()] == []


# Instruction sets


def compare_all_cells():
    """Every kind of cell with scan: in a process that chose its instruction set."""
    for kind in ("rnn", "leaky", "lstm", "gru"):
        for dtype, units, inputs in ((np.float64, 13, 5), (np.float32, 33, 17)):
            for how in NATIVE.values():
                cell = of_size(kind, units, recurrent_bias=True)
                given, marks = drawn(cell, 7, 26, inputs, dtype)
                marks["reverse"] = how == NATIVE["native"]
                found, expected = (gradients(cell, given, marks, h) for h in (how, SCAN))
                close(found, expected, 1e-12 if dtype == np.float64 else 2e-5)


def apply(activation, x):
    """An activation as the library computes it: an RNN of one unit and one step."""
    cell = RNN(1, activation=activation, bias=False)
    zero, one = np.zeros((1, 1), x.dtype), np.ones((1, 1), x.dtype)
    params = rnnlab.cells.RNNParams(w_x=one, w_h=zero)
    start = jax.tree.map(lambda leaf: leaf.astype(x.dtype), cell.initial_state((x.size,)))
    _, ys = unroll(cell, params, x[None, :, None], start, engine="native")
    return np.asarray(ys).ravel()


EXACT = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}


def points(dtype):
    """All magnitudes, the middle closely, and where eˣ leaves the range of the dtype."""
    end = 89 if dtype == np.float32 else 710
    sizes = [
        np.geomspace(np.finfo(dtype).tiny, 1e4, 30_000),
        np.linspace(0, 40, 30_000),
        np.linspace(0.1, 0.7, 60_000),
        np.linspace(0.98 * end, 1.01 * end, 10_000),
    ]
    x = np.concatenate(sizes).astype(dtype)
    return np.concatenate([x, -x])


def check_accuracy():
    """tanh and σ against extended precision; results too small for the dtype may be zero."""
    # Without fused multiplication and addition the remainder of a quotient is not exact; the
    # reference has the tanh of the C library, which is no more accurate.
    single = 2.0 if loading.library().instructions.startswith("avx") else 2.3
    for dtype, units, tiny in ((np.float32, single, 1e-37), (np.float64, 2.5, 1e-306)):
        x = points(dtype)
        for name, exact in EXACT.items():
            expected = exact(x.astype(np.longdouble))
            wrong = np.abs(apply(name, x) - expected)
            unit = np.spacing(np.abs(expected).astype(dtype))
            assert np.max(wrong[np.abs(expected) > tiny] / unit[np.abs(expected) > tiny]) < units
            assert np.max(wrong[np.abs(expected) <= tiny], initial=0) <= tiny
        special = np.array([0.0, np.inf, -np.inf, np.nan], dtype)
        np.testing.assert_array_equal(apply("tanh", special), special.clip(-1, 1))
        assert not np.signbit(apply("tanh", special)[0])
        np.testing.assert_array_equal(apply("sigmoid", special), np.array([0.5, 1, 0, np.nan]))


@pytest.mark.long
@pytest.mark.parametrize("name", SETS or [pytest.param("none", marks=needs_native)])
def test_every_instruction_set(name):
    """The choice is made once in a process."""
    script = """
import tests.conftest
from rnnlab.engines.native.library import library
from tests import test_native
test_native.compare_all_cells()
test_native.check_accuracy()
print(library().instructions)
"""
    assert alone(script, RNNLAB_NATIVE=name) == f"{name}\n"


@pytest.mark.long
def test_the_coefficients_are_those_of_the_program_that_computes_them():
    folder = Path(loading.__file__).parent
    command = [sys.executable, str(folder / "fit_coefficients.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = (folder / "vectors.h").read_text()
    for dtype, lines in zip(("float", "double"), printed.split("double:"), strict=True):
        numbers = re.findall(r"^  ([\d.e+-]+),$", lines, re.MULTILINE)
        (stored,) = re.findall(rf"constexpr {dtype} q\[\] = {{([^}}]*)}}", text)
        assert [*map(float, numbers)] == [float(n.strip(" \nf")) for n in stored.split(",")]
        logarithm = re.findall(r"ln 2 = (\S+) \+ (\S+)", lines)[0]
        wanted = re.findall(rf"constexpr {dtype} ln2 = (\S+?)f?, ln2_rest = (\S+?)f?;", text)[0]
        assert [*map(float, logarithm)] == [*map(float, wanted)]


# Which engine "auto" is

CHOICE = """
import jax, numpy as np, rnnlab
from rnnlab import GRU, LSTM, RNN, explain_engine

def show(cell, dtype="float32"):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.init(jax.random.key(0), 2))
    said = explain_engine(cell, params, np.ones((5, 3, 2), dtype))
    print(said.engine, said.why, said.refused.get("native", ""), sep="|")

show(GRU(3)), show(LSTM(3, peephole=True)), show(GRU(3), "float16")
"""


@needs_native
@pytest.mark.long
def test_auto_takes_it_where_it_can():
    plain, peephole, half = (line.split("|") for line in alone(CHOICE).splitlines())
    assert plain[0] == "native"
    assert "fastest" in plain[1]
    assert peephole[0] == half[0] == "fused"
    assert "'native'" not in peephole[1]
    assert "options of LSTM" in peephole[2]
    assert "'native' needs a single dtype, float32 or float64" in half[1]
    assert "float16" in half[2]


SCARCE = """
import jax, numpy as np, rnnlab
from rnnlab.engines import choose
cell = rnnlab.LSTM(9)
params, xs = cell.init(jax.random.key(0), 2), np.ones((5, 3, 2), np.float32)
kept = rnnlab.explain_engine(cell, params, xs).residual_bytes
gates, states = kept["native"], kept["native, states"]
for room in (gates, gates - 1, states, states - 1):
    choose.device_bytes = lambda: 4 * room
    print(rnnlab.explain_engine(cell, params, xs).engine)
"""


@needs_native
@pytest.mark.long
def test_auto_keeps_less_where_memory_is_scarce():
    found = alone(SCARCE).splitlines()
    assert found == ["native", "native, states", "native, states", "checkpointed"]


@needs_native
@pytest.mark.parametrize("kind", [RNN, LeakyRNN, LSTM, GRU])
def test_what_the_choice_counts_is_what_the_traced_program_keeps(kind):
    cell, xs = kind(9), np.ones((5, 3, 2), np.float32)
    kept = rnnlab.explain_engine(cell, cell.init(jax.random.key(0), 2), xs).residual_bytes
    sequence = EngineInput(xs, cell.initial_state((3,)))
    assert kept["native"] == bytes_kept(cell, sequence, gates=True)
    assert kept["native, states"] == bytes_kept(cell, sequence, gates=False)


@pytest.mark.long
def test_without_the_library_auto_is_fused_and_says_why():
    script = CHOICE + "\nfrom rnnlab import cli; cli.main(['--version'])"
    plain, *_, version = alone(script, RNNLAB_NATIVE="0").splitlines()
    assert plain.split("|")[0] == "fused"
    assert all("is turned off by RNNLAB_NATIVE=0" in text for text in plain.split("|")[1:])
    assert version == "no native engine: it is turned off by RNNLAB_NATIVE=0"


@pytest.fixture
def another(monkeypatch):
    """Another library than that of this process: its environment and its file may be changed."""
    monkeypatch.delenv("RNNLAB_NATIVE", raising=False)
    loading.library.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    loading.library.cache_clear()


def refused(*words):
    cell = GRU(2)
    params = cell.init(jax.random.key(0), 1)
    xs = np.ones((3, 1, 1), np.float32)
    one_sentence(lambda: unroll(cell, params, xs, engine="native"), *words)
    said = rnnlab.explain_engine(cell, params, xs)
    assert said.engine == "fused"
    assert all(word in said.why for word in words if word not in ("'native'", "'auto'"))


def test_a_library_that_was_not_built(another, tmp_path):
    another.setattr(loading, "library_path", lambda: tmp_path / "none.so")
    refused("'native'", "not built", "C++ compiler", "'auto'")


def test_a_library_that_does_not_load(another, tmp_path):
    (tmp_path / "bad.so").write_bytes(b"no library")
    another.setattr(loading, "library_path", lambda: tmp_path / "bad.so")
    refused("'native'", "does not load", "bad.so", "'auto'")


@needs_native
def test_a_library_of_a_newer_jaxlib(another):
    another.setattr(loading, "_interface_here", lambda: (0, 0))
    refused("'native'", "newer jaxlib", "from its source", "'auto'")


def test_an_unknown_value_of_the_variable_is_refused(another):
    another.setenv("RNNLAB_NATIVE", "avx")
    one_sentence(loading.library, "RNNLAB_NATIVE", "'avx'", "0", "avx2", "reference", "unset")


# What it refuses


def run(cell, dtype=np.float64, **options):
    params = jax.tree.map(dtype, draw_params(cell, INPUTS))
    return unroll(cell, params, np.ones((3, 2, INPUTS), dtype), engine="native", **options)


class Halving(LSTM):
    """A cell of a user."""

    def gate(self, params, state, z, a):
        state, y = super().gate(params, state, z, a)
        return state, y / 2


@needs_native
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (MGU(2), ("no code for MGU", "LSTM")),
        (Halving(2), ("no code for Halving", "LSTM")),
        (LSTM(2, peephole=True), ("options of LSTM",)),
        (LSTM(2, layer_norm=True), ("options of LSTM",)),
        (LSTM(2, proj_size=1), ("options of LSTM",)),
        (GRU(2, reset="before"), ("options of GRU",)),
        (GRU(2, layer_norm=True), ("options of GRU",)),
        (RNN(2, form="output-state"), ("options of RNN",)),
        (RNN(2, activation=jnp.sin), ("options of RNN",)),
        (LeakyRNN(2, activation=jnp.sin), ("options of LeakyRNN",)),
        (GRU(2, dtype=jnp.bfloat16), ("bfloat16",)),
        (GRU(2, dtype=jnp.float32), ("float32 and float64",)),
    ],
    ids=lambda value: repr(value)[:60] if not isinstance(value, tuple) else "",
)
def test_what_it_cannot_run_is_refused(cell, words):
    one_sentence(lambda: run(cell), "'native'", "'auto'", *words)


@needs_native
@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_short_floats_are_refused(dtype):
    one_sentence(lambda: run(GRU(2), jnp.dtype(dtype).type), "'native'", "float32", "'auto'")


@needs_native
def test_a_convolution_and_a_bare_step_are_refused():
    cell = ConvLSTM(2, shape=(4, 4))
    params = cell.init(jax.random.key(0), 4 * 4)
    images = np.ones((3, 2, 4 * 4), np.float32)
    one_sentence(lambda: unroll(cell, params, images, engine="native"), "ConvLSTM", "'auto'")
    step = rnnlab.Step(lambda params, h, x: (params * h + x, h), jnp.zeros(1))
    one_sentence(lambda: unroll(step, 1.0, np.ones((3, 1)), engine="native"), "Step", "'auto'")


@needs_native
def test_mixed_dtypes_are_refused():
    one_sentence(
        lambda: run(GRU(2), np.float32, initial_state=draw_state(GRU(2), (2,))),
        "float32 and float64",
        "'auto'",
    )


@needs_native
def test_symbolic_sizes_are_refused():
    cell = GRU(2)
    params = cell.init(jax.random.key(0), 1)
    form = jax.ShapeDtypeStruct((*export.symbolic_shape("t, b"), 1), jnp.float32)
    traced = jax.jit(lambda xs: unroll(cell, params, xs, engine="native")[1])
    one_sentence(lambda: export.export(traced)(form), "symbols", "'auto'")
