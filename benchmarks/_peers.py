"""The programs that ``speed.py`` compares: rnnlab's engines and equivalent layers of its peers.

    python benchmarks/speed.py

Each program runs one layer over a batch of sequences in float32 and returns every output. There are
two passes: ``forward``, and ``forward + backward``, which is the gradient of Σ ys ⊙ ct with respect
to all parameters and the inputs, for a fixed random ct.

GRUs apply the reset gate after the recurrent product, the default of PyTorch, Flax, Equinox and
Keras; NNX's has no bias in that product. Haiku's applies it before the product: equal arithmetic,
but two dependent products instead of one. Equinox has no simple RNN cell. Keras takes the batch
axis first.
"""

import functools
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab

# Keras reads its variable on import. JAX reads its own when it creates the first array; without
# preallocation, PyTorch has room on a GPU.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

CELLS = {"rnn": rnnlab.RNN, "lstm": rnnlab.LSTM, "gru": rnnlab.GRU}
ENGINES: dict[str, dict[str, Any]] = {
    "auto": {"engine": "auto"},
    "scan": {"engine": "scan"},
    "fused": {"engine": "fused"},
    "fused states": {"engine": "fused", "residuals": "states"},
    "native": {"engine": "native"},
    "native states": {"engine": "native", "residuals": "states"},
    "checkpointed": {"engine": "checkpointed"},
    "cudnn": {"engine": "cudnn"},
}
"""Options of ``rnnlab.unroll``."""
PACKAGES = {
    "PyTorch": "torch",
    "Flax linen": "flax",
    "Flax NNX": "flax",
    "Haiku": "haiku",
    "Equinox": "equinox",
    "Keras": "keras",
}
JAX_PEERS = [name for name in PACKAGES if name != "PyTorch"]
ALL = (*ENGINES, *PACKAGES)
TOLERANCE = 1e-3
"""The largest difference between results with equal weights, relative to the largest entry of each
array. Rounding in float32 stays well below it even on long sequences; an error is well above it."""


class Work(NamedTuple):
    """A cell and its sizes: T steps, B sequences, I inputs, H hidden units."""

    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int


class Layer(NamedTuple):
    """``apply(params, xs) -> ys``, xs ``[T, B, I]``, or ``[B, T, I]`` with ``batch_first``.

    ``params`` may hold shapes only.
    """

    apply: Callable[[Any, jax.Array], Any]
    params: Any
    batch_first: bool = False


def _leaves(result: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)]


class Contender(NamedTuple):
    """A compiled program with its arguments.

    Attributes:
        name: as in tables and records.
        call: runs the program; returns when the result is ready.
        compile_seconds: tracing, lowering and compilation; for PyTorch, the first call.
        memory: bytes by kind.
        parameters: the number of parameters.
        arrays: the result as arrays.
        same_weights: whether results can be compared with those of other contenders.
    """

    name: str
    call: Callable[[], Any]
    compile_seconds: float
    memory: dict[str, int]
    parameters: int
    arrays: Callable[[Any], list[np.ndarray]] = _leaves
    same_weights: bool = False


def configure(threads: int) -> tuple[str, dict[str, str]]:
    """Gives all packages equal precision and threads.

    Returns:
        The precision, and the reason for each package that is missing.
    """
    # A program from the disk cache would have no compile time.
    jax.config.update("jax_enable_compilation_cache", False)
    gpu = jax.default_backend() == "gpu"
    if gpu:
        jax.config.update("jax_default_matmul_precision", "highest")
    missing = {}
    for name, package in PACKAGES.items():
        if not importlib.util.find_spec(package):
            missing[name] = "not installed"
    if "PyTorch" not in missing:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if jax.default_backend() not in ("cpu", "gpu") or (gpu and not torch.cuda.is_available()):
            missing["PyTorch"] = f"does not run on JAX's backend {jax.default_backend()}"
    return "float32, TensorFloat-32 off" if gpu else "float32", missing


def build(name: str, work: Work, backward: bool) -> Contender:
    """Compiles the program of one contender.

    Raises:
        ValueError: where it does not support the work.
    """
    if name == "PyTorch":
        return _torch(work, backward)
    layer = _layer(name, work)
    xs, ct = data(work)
    if layer.batch_first:
        xs, ct = (jnp.asarray(np.swapaxes(array, 0, 1)) for array in (xs, ct))
    if backward:
        contender = program(name, functools.partial(gradient, layer.apply), layer.params, xs, ct)
    else:
        contender = program(name, layer.apply, layer.params, xs)
    if name not in ENGINES:
        return contender
    return contender._replace(same_weights=True, arrays=_comparable if backward else _leaves)


def gradient(
    apply: Callable[[Any, jax.Array], Any], params: Any, xs: jax.Array, ct: jax.Array
) -> Any:
    """The gradient of Σ ys ⊙ ct with respect to parameters and inputs.

    The value of the sum is not used, so the compiler removes it.
    """
    return jax.grad(lambda params, xs: jnp.vdot(ct, apply(params, xs)), argnums=(0, 1))(params, xs)


def program(name: str, function: Callable[..., Any], params: Any, *args: Any) -> Contender:
    """``function(params, *args)`` compiled by JAX."""
    # Cached traces of earlier contenders would shorten this compilation.
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(function).lower(params, *args).compile()
    seconds = time.perf_counter() - start
    analysis = compiled.memory_analysis()
    kinds = ("temp", "argument", "output") if analysis else ()
    memory = {kind: getattr(analysis, f"{kind}_size_in_bytes") for kind in kinds}
    count = sum(leaf.size for leaf in jax.tree.leaves(params))

    def call() -> Any:
        return jax.block_until_ready(compiled(params, *args))

    return Contender(name, call, seconds, memory, count)


def flow(work: Work) -> Contender:
    """``rnnlab.gradient_flow`` with default options, in place of a plain gradient."""
    cell = CELLS[work.cell](work.H)

    def instrument(params: Any, xs: jax.Array, ct: jax.Array) -> Any:
        return rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.vdot(ct, ys))

    return program("gradient flow", instrument, _layer("scan", work).params, *data(work))


def seeds(work: Work, count: int) -> Contender:
    """The gradients of ``count`` networks on the same inputs, vmapped over their weights."""
    layer = _layer("auto", work)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf] * count)), layer.params)
    batched = jax.vmap(functools.partial(gradient, layer.apply), in_axes=(0, None, None))
    return program(f"{count} seeds", batched, stacked, *data(work))


def verify(contenders: Sequence[Contender], work: Work, backward: bool) -> dict[str, float]:
    """Runs each contender once and checks its result.

    Returns:
        For contenders with equal weights, the largest relative difference from the first of them.

    Raises:
        RuntimeError: for a wrong shape, a value that is not finite, and a difference above
            TOLERANCE.
    """
    features = work.I if backward else work.H
    reference: list[np.ndarray] = []
    differences = {}
    for contender in contenders:
        arrays = contender.arrays(contender.call())
        if arrays[-1].shape not in ((work.T, work.B, features), (work.B, work.T, features)):
            raise RuntimeError(f"{contender.name} returns a wrong shape for {work}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise RuntimeError(f"{contender.name} returns values that are not finite for {work}")
        if contender.same_weights:
            reference = reference or arrays
            difference = _relative_difference(arrays, reference)
            if difference > TOLERANCE:
                raise RuntimeError(
                    f"{contender.name} returns another result for {work}: "
                    f"relative difference {difference:.2g}"
                )
            differences[contender.name] = difference
    return differences


def _relative_difference(arrays: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest entry of each reference array."""
    return max(
        float(abs(array - expected).max() / abs(expected).max())
        for array, expected in zip(arrays, reference, strict=True)
    )


@functools.lru_cache(maxsize=2)
def _data(*sizes: int) -> tuple[jax.Array, jax.Array]:
    random = np.random.default_rng(0)
    steps, batch, inputs, hidden = sizes
    xs, ct = (random.standard_normal((steps, batch, size), np.float32) for size in (inputs, hidden))
    return jnp.asarray(xs), jnp.asarray(ct)


def data(work: Work) -> tuple[jax.Array, jax.Array]:
    """``(xs [T, B, I], ct [T, B, H])``, standard normal, the same for every cell."""
    return _data(*work[1:])


@functools.lru_cache(maxsize=64)
def _layer(name: str, work: Work) -> Layer:
    """The layer with weights uniform within ±1/√H, as in PyTorch; equal for all rnnlab engines."""
    builders = {
        "Flax linen": _linen,
        "Flax NNX": _nnx,
        "Haiku": _haiku,
        "Equinox": _equinox,
        "Keras": _keras,
    }
    layer = _rnnlab(name, work) if name in ENGINES else builders[name](work)
    random = np.random.default_rng(0)
    bound = work.H**-0.5

    def draw(leaf: Any) -> jax.Array:
        return jnp.asarray(random.uniform(-bound, bound, leaf.shape), jnp.float32)

    return layer._replace(params=jax.tree.map(draw, layer.params))


def _rnnlab(name: str, work: Work) -> Layer:
    cell = CELLS[work.cell](work.H)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), work.I))
    return Layer(lambda params, xs: rnnlab.unroll(cell, params, xs, **ENGINES[name])[1], params)


def _linen(work: Work) -> Layer:
    from flax import linen

    cells = {"rnn": linen.SimpleCell, "lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}
    layer = linen.RNN(cells[work.cell](work.H), time_major=True)
    return Layer(layer.apply, jax.eval_shape(layer.init, jax.random.key(0), data(work)[0]))


def _nnx(work: Work) -> Layer:
    from flax import nnx

    cells = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}

    def build_layer() -> Any:
        cell = cells[work.cell](work.I, work.H, rngs=nnx.Rngs(0))
        return nnx.RNN(cell, time_major=True, rngs=False)

    graph, params = nnx.split(nnx.eval_shape(build_layer))
    return Layer(lambda params, xs: nnx.merge(graph, params)(xs, rngs=nnx.Rngs(0)), params)


def _haiku(work: Work) -> Layer:
    import haiku  # pyright: ignore[reportMissingImports]

    def forward(xs: jax.Array) -> Any:
        cores = {"rnn": haiku.VanillaRNN, "lstm": haiku.LSTM, "gru": haiku.GRU}
        core = cores[work.cell](work.H)
        return haiku.dynamic_unroll(core, xs, core.initial_state(work.B))[0]

    layer = haiku.without_apply_rng(haiku.transform(forward))
    return Layer(layer.apply, jax.eval_shape(layer.init, jax.random.key(0), data(work)[0]))


def _equinox(work: Work) -> Layer:
    import equinox  # pyright: ignore[reportMissingImports]

    if work.cell == "rnn":
        raise ValueError("has no simple RNN cell")
    cells = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}
    shapes = equinox.filter_eval_shape(cells[work.cell], work.I, work.H, key=jax.random.key(0))

    def apply(cell: Any, xs: jax.Array) -> jax.Array:
        def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if work.cell == "lstm" else state

        zeros = jnp.zeros((work.B, work.H))
        return jax.lax.scan(body, (zeros, zeros) if work.cell == "lstm" else zeros, xs)[1]

    return Layer(apply, shapes)


def _keras(work: Work) -> Layer:
    import keras  # pyright: ignore[reportMissingImports]

    layers = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    # Zeros are cheap to initialise, and are replaced.
    layer = layers[work.cell](
        work.H, return_sequences=True, kernel_initializer="zeros", recurrent_initializer="zeros"
    )
    layer.build((work.B, work.T, work.I))
    params = [variable.value for variable in layer.trainable_variables]
    constants = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: Any, xs: jax.Array) -> Any:
        return layer.stateless_call(params, constants, xs)[0]

    return Layer(apply, params, batch_first=True)


def _torch(work: Work, backward: bool) -> Contender:
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    modules = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    module = modules[work.cell](work.I, work.H)
    cell, params = CELLS[work.cell](work.H), _layer("scan", work).params
    module.load_state_dict(rnnlab.interop.to_torch(cell, params))
    module.to(device)
    xs, ct = (torch.tensor(np.asarray(array), device=device) for array in data(work))
    variables = [*module.parameters(), xs.requires_grad_(backward)]

    def call() -> Any:
        with torch.inference_mode(not backward):
            ys = module(xs)[0]
        result = torch.autograd.grad(ys, variables, ct) if backward else ys
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    def arrays(result: Any) -> list[np.ndarray]:
        if not backward:
            return [result.numpy(force=True)]
        w_x, w_h, b, _, x = (gradient.numpy(force=True) for gradient in result)
        return [w_x.T, w_h.T, b, x]

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    memory = {"allocated": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
    count = sum(weights.numel() for weights in module.parameters())
    return Contender("PyTorch", call, seconds, memory, count, arrays, same_weights=True)


def _comparable(result: Any) -> list[np.ndarray]:
    """The gradients that rnnlab and PyTorch share; PyTorch has a second bias."""
    params, xs = result
    return [np.asarray(array) for array in (params.w_x, params.w_h, params.b, xs)]
