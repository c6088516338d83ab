"""The contenders of ``speed.py``: rnnlab's engines and its peers' layers, as programs that do the same work.

Work is one layer over a batch of sequences in float32, every output returned. Its two passes are
``forward`` and ``forward + backward``: the gradient of Σ ys ⊙ ct to every parameter and to the
inputs, with a fixed random ct.

GRUs reset after the recurrent product, as PyTorch, Flax, Equinox and Keras do by default; NNX's has
no bias there. Haiku's resets before it, with two products in place of one: as much arithmetic, one
dependency more. Equinox has no simple cell. Keras wants the batch first, and gets it.
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

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = (
    "false"  # read with the first array: leaves PyTorch room on a GPU
)

CELLS = {"rnn": rnnlab.RNN, "lstm": rnnlab.LSTM, "gru": rnnlab.GRU}
ENGINES: dict[str, dict[str, Any]] = {  # what rnnlab.unroll is told
    "auto": {"engine": "auto"},
    "scan": {"engine": "scan"},
    "fused": {"engine": "fused"},
    "fused states": {"engine": "fused", "residuals": "states"},
    "checkpointed": {"engine": "checkpointed"},
    "cudnn": {"engine": "cudnn"},
}
PACKAGES = {"PyTorch": "torch", "Flax linen": "flax", "Flax NNX": "flax", "Haiku": "haiku", "Equinox": "equinox",
            "Keras": "keras"}  # fmt: skip
JAX_PEERS = [name for name in PACKAGES if name != "PyTorch"]
ALL = (*ENGINES, *PACKAGES)
TOLERANCE = 1e-3
"""How far results on the same weights may lie apart, over the largest number of each array: float32 stays well below
it even on long sequences, and other work well above."""


class Work(NamedTuple):
    """A cell and its sizes: T steps, B sequences, I inputs, H hidden units."""

    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int


class Layer(NamedTuple):
    """``apply(params, xs) -> ys``, xs ``[T, B, I]``, or ``[B, T, I]`` with ``batch_first``."""

    apply: Callable[[Any, jax.Array], Any]
    params: Any  # or only their shapes
    batch_first: bool = False


class Contender(NamedTuple):
    """A compiled program with its arguments; ``call`` returns when the result is there."""

    name: str
    call: Callable[[], Any]
    compile_seconds: float  # tracing, lowering and compiling; for PyTorch the first call
    memory: dict[str, int]  # bytes
    parameters: int
    arrays: Callable[[Any], list[np.ndarray]] = lambda result: [
        np.asarray(leaf) for leaf in jax.tree.leaves(result)
    ]
    same_weights: bool = False


def level(threads: int) -> tuple[str, dict[str, str]]:
    """Puts all on one footing: ``(their precision, why who is missing)``."""
    jax.config.update(
        "jax_enable_compilation_cache", False
    )  # a program from disk would take no time to compile
    gpu = jax.default_backend() == "gpu"
    if gpu:
        jax.config.update("jax_default_matmul_precision", "highest")
    missing = {
        name: "not installed"
        for name, package in PACKAGES.items()
        if not importlib.util.find_spec(package)
    }
    if "PyTorch" not in missing:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if jax.default_backend() not in ("cpu", "gpu") or (gpu and not torch.cuda.is_available()):
            missing["PyTorch"] = f"does not run on JAX's {jax.default_backend()}"
    return "float32, TensorFloat-32 off" if gpu else "float32", missing


def build(name: str, work: Work, backward: bool) -> Contender:
    """The program of one contender; ValueError where it cannot do this work."""
    if name == "PyTorch":
        return _torch(work, backward)
    layer = _layer(name, work)
    xs, ct = data(work)
    if layer.batch_first:
        xs, ct = (jnp.asarray(np.swapaxes(array, 0, 1)) for array in (xs, ct))
    if backward:
        made = program(name, functools.partial(gradient, layer.apply), layer.params, xs, ct)
    else:
        made = program(name, layer.apply, layer.params, xs)
    if name not in ENGINES:
        return made
    return made._replace(same_weights=True, arrays=_comparable if backward else made.arrays)


def gradient(
    apply: Callable[[Any, jax.Array], Any], params: Any, xs: jax.Array, ct: jax.Array
) -> Any:
    """Of Σ ys ⊙ ct to parameters and inputs; the compiler drops the sum itself, which nobody asks for."""
    return jax.grad(lambda params, xs: jnp.vdot(ct, apply(params, xs)), argnums=(0, 1))(params, xs)


def program(name: str, function: Callable[..., Any], params: Any, *args: Any) -> Contender:
    """``function(params, *args)`` compiled by JAX."""
    jax.clear_caches()  # what an earlier contender has traced would shorten this one's compilation
    start = time.perf_counter()
    compiled = jax.jit(function).lower(params, *args).compile()
    seconds = time.perf_counter() - start
    used = compiled.memory_analysis()
    kinds = ("temp", "argument", "output") if used else ()
    memory = {kind: getattr(used, f"{kind}_size_in_bytes") for kind in kinds}
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Contender(
        name, lambda: jax.block_until_ready(compiled(params, *args)), seconds, memory, count
    )


def flow(work: Work) -> Contender:
    """``rnnlab.gradient_flow`` with its default options, in place of a plain gradient."""
    cell = CELLS[work.cell](work.H)

    def instrument(params: Any, xs: jax.Array, ct: jax.Array) -> Any:
        return rnnlab.gradient_flow(cell, params, xs, lambda ys: jnp.vdot(ct, ys))

    return program("gradient flow", instrument, _layer("scan", work).params, *data(work))


def seeds(work: Work, count: int) -> Contender:
    """The gradients of ``count`` networks on the same inputs, vmapped over their weights."""
    layer = _layer("auto", work)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf] * count)), layer.params)
    many = jax.vmap(functools.partial(gradient, layer.apply), in_axes=(0, None, None))
    return program(f"{count} seeds", many, stacked, *data(work))


def verify(contenders: Sequence[Contender], work: Work, backward: bool) -> dict[str, float]:
    """Runs each once, and says how far those with the same weights lie apart from the first of them.

    Raises RuntimeError for a result that is not finite, has the wrong shape, or is further apart
    than TOLERANCE.
    """
    features = work.I if backward else work.H
    reference: list[np.ndarray] = []
    differences = {}
    for contender in contenders:
        found = contender.arrays(contender.call())
        shaped = found[-1].shape in ((work.T, work.B, features), (work.B, work.T, features))
        if not (shaped and all(np.isfinite(array).all() for array in found)):
            raise RuntimeError(
                f"{contender.name} returns wrong shapes or numbers that are not finite for {work}"
            )
        if contender.same_weights:
            reference = reference or found
            apart = max(
                float(abs(a - b).max() / abs(b).max())
                for a, b in zip(found, reference, strict=True)
            )
            if apart > TOLERANCE:
                raise RuntimeError(
                    f"{contender.name} computes something else for {work}: {apart:.2g} apart"
                )
            differences[contender.name] = apart
    return differences


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
    """With weights as PyTorch draws them, uniform within ±1/√H; rnnlab's engines all get the same."""
    makers = {
        "Flax linen": _linen,
        "Flax NNX": _nnx,
        "Haiku": _haiku,
        "Equinox": _equinox,
        "Keras": _keras,
    }
    layer = _rnnlab(name, work) if name in ENGINES else makers[name](work)
    random = np.random.default_rng(0)
    draw = functools.partial(random.uniform, -(work.H**-0.5), work.H**-0.5)
    return layer._replace(
        params=jax.tree.map(lambda leaf: jnp.asarray(draw(leaf.shape), jnp.float32), layer.params)
    )


def _rnnlab(name: str, work: Work) -> Layer:
    cell = CELLS[work.cell](work.H)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), work.I))
    return Layer(lambda params, xs: rnnlab.unroll(cell, params, xs, **ENGINES[name])[1], params)


def _linen(work: Work) -> Layer:
    from flax import linen

    cell = {"rnn": linen.SimpleCell, "lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[
        work.cell
    ]
    layer = linen.RNN(cell(work.H), time_major=True)
    return Layer(layer.apply, jax.eval_shape(layer.init, jax.random.key(0), data(work)[0]))


def _nnx(work: Work) -> Layer:
    from flax import nnx

    cell = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[work.cell]
    layer = nnx.eval_shape(
        lambda: nnx.RNN(cell(work.I, work.H, rngs=nnx.Rngs(0)), time_major=True, rngs=False)
    )
    graph, params = nnx.split(layer)
    return Layer(lambda params, xs: nnx.merge(graph, params)(xs, rngs=nnx.Rngs(0)), params)


def _haiku(work: Work) -> Layer:
    import haiku  # pyright: ignore[reportMissingImports]

    def forward(xs: jax.Array) -> Any:
        core = {"rnn": haiku.VanillaRNN, "lstm": haiku.LSTM, "gru": haiku.GRU}[work.cell](work.H)
        return haiku.dynamic_unroll(core, xs, core.initial_state(work.B))[0]

    layer = haiku.without_apply_rng(haiku.transform(forward))
    return Layer(layer.apply, jax.eval_shape(layer.init, jax.random.key(0), data(work)[0]))


def _equinox(work: Work) -> Layer:
    import equinox  # pyright: ignore[reportMissingImports]

    if work.cell == "rnn":
        raise ValueError("has none")
    kind = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[work.cell]
    shapes = equinox.filter_eval_shape(kind, work.I, work.H, key=jax.random.key(0))

    def apply(cell: Any, xs: jax.Array) -> jax.Array:
        def body(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0] if work.cell == "lstm" else state

        zeros = jnp.zeros((work.B, work.H))
        return jax.lax.scan(body, (zeros, zeros) if work.cell == "lstm" else zeros, xs)[1]

    return Layer(apply, shapes)


def _keras(work: Work) -> Layer:
    import keras  # pyright: ignore[reportMissingImports]

    kind = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[
        work.cell
    ]
    layer = kind(
        work.H, return_sequences=True, kernel_initializer="zeros", recurrent_initializer="zeros"
    )
    layer.build((work.B, work.T, work.I))
    params, rest = (
        [variable.value for variable in variables]
        # fmt: skip
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    return Layer(
        lambda params, xs: layer.stateless_call(params, rest, xs)[0], params, batch_first=True
    )


def _torch(work: Work, backward: bool) -> Contender:
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[work.cell](
        work.I, work.H
    )
    module.load_state_dict(
        rnnlab.interop.to_torch(CELLS[work.cell](work.H), _layer("scan", work).params)
    )
    module.to(device)
    xs, ct = (torch.tensor(np.asarray(array), device=device) for array in data(work))
    wanted = [*module.parameters(), xs.requires_grad_(backward)]

    def call() -> Any:
        with torch.inference_mode(not backward):
            ys = module(xs)[0]
        result = torch.autograd.grad(ys, wanted, ct) if backward else ys
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    def arrays(result: Any) -> list[np.ndarray]:
        if not backward:
            return [result.numpy(force=True)]
        w_x, w_h, b, _, g = (gradient.numpy(force=True) for gradient in result)
        return [w_x.T, w_h.T, b, g]

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    memory = {"allocated": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
    count = sum(weights.numel() for weights in module.parameters())
    return Contender("PyTorch", call, seconds, memory, count, arrays, same_weights=True)


def _comparable(result: Any) -> list[np.ndarray]:
    """The gradients of rnnlab that have a counterpart in PyTorch, which has one bias more."""
    params, xs = result
    return [np.asarray(array) for array in (params.w_x, params.w_h, params.b, xs)]
