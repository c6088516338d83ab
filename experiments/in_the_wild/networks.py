"""Published recurrent networks, read from the pip packages that ship their weights."""

import dataclasses
import functools
import importlib.util
import json
import math
import pydoc_data.topics
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from experiments.in_the_wild import sounds
from rnnlab.cells import LSTMParams
from rnnlab.initializers import AllGates, GlorotUniform, HiddenUniform, Orthogonal
from rnnlab.typing import Array, Cell, PyTree

STEPS, EXAMPLES = 160, 4


class Published(NamedTuple):
    """A published network, and the input that it is measured with.

    Attributes:
        name: what it is.
        cell, params: the recurrent part.
        draw: ``draw(seed)``, parameters of the same shape as its library initialises them.
        xs: inputs ``[T, B, I]``.
        inputs: what these are, in a few words.
        rest: the input that is held constant, ``[I]``.
        resting: what that is.
        check: a number that shows that the weights and inputs are understood, in a few words.
    """

    name: str
    cell: Any
    params: PyTree
    draw: Callable[[int], PyTree]
    xs: Array
    inputs: str
    rest: Array
    resting: str
    check: str = ""


def published() -> Iterator[tuple[str, Callable[[], list[Published]], str]]:
    """The name of each package, the function that reads it, and what has to be installed."""
    yield "resemblyzer", speaker_encoder, "Resemblyzer==0.1.4"
    yield "silero_vad", voice_activity, "silero-vad==6.2.3"
    yield "BeatNet", beat_tracker, "BeatNet==1.1.3"
    yield "g2p_en", pronunciation, "g2p_en==2.1.0"
    yield "textgenrnn", characters, "textgenrnn==2.0.0"


def missing(package: str) -> str | None:
    """Why a package cannot be read; None where it can. The package is not imported."""
    if folder_of(package) is None:
        return f"{package} is not installed"
    needed = {"resemblyzer": "torch", "BeatNet": "torch", "textgenrnn": "h5py"}
    needed["silero_vad"] = "safetensors"
    reader = needed.get(package)
    if reader is not None and importlib.util.find_spec(reader) is None:
        return f"{reader}, which reads the weights of {package}, is not installed"
    return None


def folder_of(package: str) -> Path | None:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _file(package: str, *names: str) -> Path:
    folder = folder_of(package)
    assert folder is not None, f"{package} is not installed"
    return folder.joinpath(*names)


def _torch(path: Path) -> Mapping[str, Any]:
    import torch

    # weights_only: nothing in the file is executed.
    return torch.load(path, weights_only=True, map_location="cpu")


def untrained_params(cell: Any, params: PyTree, seed: int) -> PyTree:
    """Parameters of the same shape as PyTorch draws them: uniform in ±1/√H."""
    uniform = {
        "kernel_init": HiddenUniform(),
        "recurrent_init": HiddenUniform(),
        "bias_init": HiddenUniform(),
        "recurrent_bias_init": HiddenUniform(),
    }
    if isinstance(cell, rnnlab.layers.Stack):
        drawn = dataclasses.replace(
            cell, cells=tuple(dataclasses.replace(one, **uniform) for one in cell.cells)
        )
        return drawn.init(jax.random.key(seed), params.layers[0].w_x.shape[0])
    drawn = dataclasses.replace(cell, **uniform)
    return drawn.init(jax.random.key(seed), params.w_x.shape[0])


def _crops(frames: np.ndarray, steps: int = STEPS) -> Array:
    """EXAMPLES overlapping parts of the frames ``[T, B, I]``, at even distances."""
    starts = np.linspace(0, len(frames) - steps, EXAMPLES).astype(int)
    return jnp.asarray(np.stack([frames[s : s + steps] for s in starts], axis=1), jnp.float32)


def speaker_encoder() -> list[Published]:
    """Resemblyzer's encoder (Wan et al. 2018): three LSTMs of 256 units on mel frames."""
    state = _torch(_file("resemblyzer", "pretrained.pt"))["model_state"]
    cell, params = rnnlab.interop.from_torch(state, prefix="lstm.")
    wave, what = sounds.speech()
    return [
        Published(
            name="speaker encoder",
            cell=cell,
            params=params,
            draw=functools.partial(untrained_params, cell, params),
            xs=_crops(sounds.mel_frames(wave)),
            inputs=f"mel frames of {what}",
            rest=jnp.zeros(40),
            resting="silence",
        )
    ]


def voice_activity() -> list[Published]:
    """Silero's detector of speech: an LSTM of 128 units behind a convolutional encoder."""
    from safetensors.numpy import load_file

    weights = load_file(_file("silero_vad", "data", "silero_vad_16k.safetensors"))
    cell, params = rnnlab.interop.from_torch(weights, prefix="lstm_cell.")
    wave, what = sounds.speech()
    # Versions of it, each a little later than the one before.
    long = np.tile(wave, 3)
    parts = [_encoded(weights, long[1024 * shift :]) for shift in range(EXAMPLES)]
    xs = jnp.asarray(np.stack([part[:STEPS] for part in parts], axis=1), jnp.float32)
    _, hs = rnnlab.unroll(cell, params, xs)
    logits = jnp.maximum(hs, 0) @ weights["final_conv.weight"][0, :, 0]
    speech = float(jax.nn.sigmoid(logits + weights["final_conv.bias"]).mean())
    return [
        Published(
            name="voice activity",
            cell=cell,
            params=params,
            draw=functools.partial(untrained_params, cell, params),
            xs=xs,
            inputs=f"its encoding of {what}",
            rest=jnp.asarray(_encoded(weights, np.zeros(8 * 512))[-1], jnp.float32),
            resting="silence",
            check=f"its mean probability of speech is {speech:.2f}",
        )
    ]


def _encoded(weights: Mapping[str, np.ndarray], wave: np.ndarray) -> np.ndarray:
    """The encoding ``[chunks, 128]`` of chunks of 512 samples, each after the last 64 before it."""
    count = len(wave) // 512
    padded = np.pad(wave, (64, 0))
    chunks = np.stack([padded[512 * i : 512 * i + 576] for i in range(count)])
    chunks = np.pad(chunks, ((0, 0), (0, 64)), mode="reflect")
    x = convolved(chunks[:, None], weights["stft_conv.weight"], None, 128, 0)
    x = np.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
    for layer, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
        kernel, bias = weights[f"conv{layer}.weight"], weights[f"conv{layer}.bias"]
        x = np.maximum(convolved(x, kernel, bias, stride, 1), 0)
    return x[:, :, 0]


def convolved(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: int, pad: int
) -> np.ndarray:
    """A convolution of ``x [N, C, T]`` with ``kernel [O, C, K]``."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2], axis=2)
    y = np.einsum("nctk,ock->not", windows[:, :, ::stride], kernel, optimize=True)
    return y if bias is None else y + bias[None, :, None]


def beat_tracker() -> list[Published]:
    """BeatNet (Heydari, Cwitkowitz & Duan 2021): two LSTMs of 150 units behind a convolution."""
    weights = _torch(_file("BeatNet", "models", "model_1_weights.pt"))
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    cell, params = rnnlab.interop.from_torch(arrays, prefix="lstm.")
    tempi = np.linspace(80, 150, EXAMPLES)
    seconds = 0.02 * STEPS + 0.2
    parts = []
    for tempo in tempi:
        frames = sounds.log_bands(sounds.drums(float(tempo), seconds))[:STEPS]
        parts.append(_compressed(arrays, frames))
    return [
        Published(
            name="beat tracker",
            cell=cell,
            params=params,
            draw=functools.partial(untrained_params, cell, params),
            xs=jnp.asarray(np.stack(parts, axis=1), jnp.float32),
            inputs="its encoding of synthetic drums at 80 to 150 beats a minute",
            rest=jnp.asarray(_compressed(arrays, np.zeros((1, 272)))[0], jnp.float32),
            resting="silence",
        )
    ]


def _compressed(arrays: Mapping[str, np.ndarray], frames: np.ndarray) -> np.ndarray:
    """What the LSTMs read, ``[T, 150]``: a convolution over the bands, pooling, a linear map."""
    x = convolved(frames[:, None], arrays["conv1.weight"], arrays["conv1.bias"], 1, 0)
    x = np.maximum(x, 0)
    even = x.shape[2] // 2 * 2
    x = x[:, :, :even].reshape(len(x), 2, -1, 2).max(axis=3)
    return x.reshape(len(x), -1) @ arrays["linear0.weight"].T + arrays["linear0.bias"]


def words() -> list[str]:
    """English words in the order of the documentation of Python."""
    prose = " ".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics))
    return re.findall(r"[a-z]{3,20}", prose.lower())


def pronunciation() -> list[Published]:
    """g2p_en (Park & Kim): a GRU of 256 units that reads letters, one that writes phonemes."""
    with np.load(_file("g2p_en", "checkpoint20.npz")) as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    encoder, of_encoder = _gru(weights, "enc")
    decoder, of_decoder = _gru(weights, "dec")
    ends = 2  # the code of </s> among the letters
    codes = [[*(ord(letter) - ord("a") + 3 for letter in word), ends] for word in words()[:2000]]
    spoken = _spoken(weights, encoder, of_encoder, decoder, of_decoder, codes[:400])
    letters = [code for word in codes for code in word]
    phonemes = [code for word in spoken for code in word]
    return [
        Published(
            name=name,
            cell=cell,
            params=params,
            draw=functools.partial(untrained_params, cell, params),
            xs=_crops(weights[f"{short}_emb"][np.array(sequence)]),
            inputs=inputs,
            rest=jnp.asarray(weights[f"{short}_emb"][0]),
            resting="padding",
        )
        for name, short, cell, params, sequence, inputs in (
            (
                "grapheme encoder",
                "enc",
                encoder,
                of_encoder,
                letters,
                "the letters of English words",
            ),
            (
                "phoneme decoder",
                "dec",
                decoder,
                of_decoder,
                phonemes,
                "the phonemes that it gives words",
            ),
        )
    ]


def _gru(weights: Mapping[str, np.ndarray], short: str) -> tuple[Cell, PyTree]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    parts = ("w_ih", "w_hh", "b_ih", "b_hh")
    return rnnlab.interop.from_torch(
        {f"{name}_l0": weights[f"{short}_{part}"] for name, part in zip(names, parts, strict=True)}
    )


def _spoken(
    weights: Mapping[str, np.ndarray],
    encoder: Cell,
    of_encoder: PyTree,
    decoder: Cell,
    of_decoder: PyTree,
    codes: list[list[int]],
) -> list[list[int]]:
    """The codes of the phonemes that the network gives each word, with <s> before and </s> after.

    Greedy, and at most 20 steps long, as in the package.
    """
    start, end = 2, 3
    length = max(len(word) for word in codes)
    padded = np.array([word + [0] * (length - len(word)) for word in codes]).T
    lengths = jnp.array([len(word) for word in codes])
    state, _ = rnnlab.unroll(
        encoder, of_encoder, jnp.asarray(weights["enc_emb"][padded]), lengths=lengths
    )
    embedding, w, b = (jnp.asarray(weights[name]) for name in ("dec_emb", "fc_w", "fc_b"))

    def advance(carry: tuple, _: None) -> tuple[tuple, Array]:
        state, code = carry
        state, y = decoder.step(of_decoder, state, embedding[code])
        code = jnp.argmax(y @ w.T + b, axis=-1)
        return (state, code), code

    first = state, jnp.full(len(codes), start)
    _, written = jax.lax.scan(advance, first, length=20)
    spoken = []
    for column in np.asarray(written).T.tolist():
        stop = column.index(end) if end in column else len(column)
        spoken.append([start, *column[:stop], end])
    return spoken


def characters() -> list[Published]:
    """textgenrnn (Woolf 2018): two LSTMs of 128 units on characters, trained on Reddit posts."""
    import h5py

    with h5py.File(_file("textgenrnn", "textgenrnn_weights.hdf5")) as file:
        arrays = {}
        for group in ("embedding", "rnn_1", "rnn_2", "attention", "output"):
            for name, values in file[group][group].items():  # pyright: ignore
                arrays[f"{group}/{name.removesuffix(':0')}"] = np.asarray(values)
    cell = rnnlab.stack([_keras_lstm(), _keras_lstm()])
    params = rnnlab.layers.StackParams((_cudnn(arrays, "rnn_1"), _cudnn(arrays, "rnn_2")))
    vocabulary = json.loads(_file("textgenrnn", "textgenrnn_vocab.json").read_text("utf-8"))
    prose = " ".join(pydoc_data.topics.topics["class"].split())
    codes = np.array([vocabulary[letter] for letter in prose if letter in vocabulary])
    bits = _bits(cell, params, arrays, codes[:1200])
    embedding = arrays["embedding/embeddings"]
    return [
        Published(
            name="text generator",
            cell=cell,
            params=params,
            draw=lambda seed: cell.init(jax.random.key(seed), 100),
            xs=_crops(embedding[codes]),
            inputs="English prose",
            rest=jnp.asarray(embedding[0]),
            resting="padding",
            check=f"it needs {bits:.2f} bits a character of this prose",
        )
    ]


def _keras_lstm() -> rnnlab.LSTM:
    """An LSTM with the initial weights of Keras."""
    return rnnlab.LSTM(
        128,
        kernel_init=AllGates(GlorotUniform()),
        recurrent_init=AllGates(Orthogonal()),
        forget_bias=1.0,
    )


def _cudnn(arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """Weights of Keras's CuDNNLSTM, whose matrices are transposed and whose biases are two."""
    inputs = np.split(arrays[f"{name}/kernel"], 4, axis=1)
    recurrent = np.split(arrays[f"{name}/recurrent_kernel"], 4, axis=1)
    w_x = [block.T.reshape(block.shape, order="F") for block in inputs]
    w_h = [block.T for block in recurrent]
    b = arrays[f"{name}/bias"].reshape(2, -1).sum(axis=0)
    return LSTMParams(
        w_x=jnp.asarray(np.hstack(w_x)), w_h=jnp.asarray(np.hstack(w_h)), b=jnp.asarray(b)
    )


def _bits(cell: Any, params: PyTree, arrays: Mapping[str, np.ndarray], codes: np.ndarray) -> float:
    """Bits per character of the whole model: embedding, LSTMs, attention over 40 steps, softmax."""
    count = len(codes) - 40
    windows = np.stack([codes[i : i + 40] for i in range(count)], axis=1)
    embedded = jnp.asarray(arrays["embedding/embeddings"][windows])
    _, low = rnnlab.unroll(cell.cells[0], params.layers[0], embedded)
    _, high = rnnlab.unroll(cell.cells[1], params.layers[1], low)
    joined = jnp.concatenate([embedded, low, high], axis=-1)
    weights = jax.nn.softmax(joined @ arrays["attention/attention_W"], axis=0)
    logits = (joined * weights).sum(axis=0) @ arrays["output/kernel"] + arrays["output/bias"]
    losses = -jax.nn.log_softmax(logits)[jnp.arange(count), codes[40:]]
    return float(losses.mean()) / math.log(2)
