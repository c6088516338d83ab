"""Networks that see a fixed window of the last inputs: feed-forward, time-delay and linear."""

import dataclasses
from typing import Any, NamedTuple

import jax

from rnnlab import _check
from rnnlab.cells.base import Activation, activation, activation_function
from rnnlab.cells.readout import Readout, ReadoutParams
from rnnlab.models.network import Network, delayed
from rnnlab.typing import Array, Key


class DelayParams(NamedTuple):
    """For each layer w ``[delays · I, H]`` and b ``[H]``; row blocks in the order of the delays."""

    layers: tuple[ReadoutParams, ...]


class AutoregressionParams(NamedTuple):
    """Nothing: the weights of a linear model on a window are those of the readout."""


@dataclasses.dataclass(frozen=True)
class DelayNetwork(Network):
    """The base of feed-forward layers on delayed inputs: hₜ = φ(Σ_d W_d xₜ₋d + b) in each layer.

    Attributes:
        hidden_size: H, the units of each layer.
        activation: φ, "tanh", "relu", "sigmoid", "identity" or a function.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive_int("hidden_size", self.hidden_size)
        object.__setattr__(self, "activation", activation(self.activation))

    @property
    def delays(self) -> tuple[tuple[int, ...], ...]:
        """The delays of each layer, in steps."""
        raise NotImplementedError

    @property
    def receptive_field(self) -> int:
        """The number of last inputs on which an output depends, in steps."""
        return 1 + sum(max(delays) for delays in self.delays)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def _layer(self) -> Readout:
        return Readout(self.hidden_size, param_dtype=self.param_dtype)

    def init(self, key: Key, input_size: int) -> DelayParams:
        _check.to_init(key, input_size)
        layers = []
        size = input_size
        keys = jax.random.split(key, len(self.delays))
        for k_layer, delays in zip(keys, self.delays, strict=True):
            layers.append(self._layer.init(k_layer, len(delays) * size))
            size = self.hidden_size
        return DelayParams(tuple(layers))

    def features(self, params: DelayParams) -> int:
        return params.layers[0].w.shape[0] // len(self.delays[0])

    def run(self, params: DelayParams, xs: Array, starts: Array | None) -> Array:
        phi = activation_function(self.activation)
        for delays, layer in zip(self.delays, params.layers, strict=True):
            xs = phi(self._layer(layer, delayed(xs, delays, starts)))
        return xs


@dataclasses.dataclass(frozen=True)
class WindowNetwork(DelayNetwork):
    """A feed-forward network on the last k inputs.

    h¹ₜ = φ(W [xₜ; xₜ₋₁; …; xₜ₋ₖ₊₁] + b), and hˡₜ = φ(Wˡ hˡ⁻¹ₜ + bˡ) in further layers. Before the
    first step there are zeros. An input that lies k steps back has no influence at all.

    >>> import jax, rnnlab
    >>> from rnnlab.models import WindowNetwork, for_task
    >>> task = rnnlab.tasks.flip_flop(64)
    >>> model = for_task(task, WindowNetwork(32, window=8))
    >>> batch = task.sample(jax.random.key(0), 4)
    >>> params = model.init(jax.random.key(1), batch)
    >>> model.apply(params, batch).shape
    (64, 4, 3)

    Attributes:
        window: k, the number of inputs that are seen, that of the same step included.
        layers: the number of layers.

    Raises:
        ValueError: for sizes below 1, and an unknown activation.
    """

    window: int = 8
    layers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive_int("window", self.window)
        _check.positive_int("layers", self.layers)

    @property
    def delays(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(self.window)), *((0,),) * (self.layers - 1))


@dataclasses.dataclass(frozen=True)
class TimeDelayNetwork(DelayNetwork):
    """A time-delay network: causal convolutions over time, one for each dilation.

    hˡₜ = φ(Σ_{j<taps} Wˡⱼ hˡ⁻¹_{t−j·dₗ} + bˡ), with h⁰ = x (Waibel et al. 1989, "Phoneme
    recognition using time-delay neural networks", IEEE Trans. ASSP 37). With two taps and dilations
    1, 2, 4, … the number of inputs that are seen doubles with each layer (van den Oord et al. 2016,
    arXiv 1609.03499); it is ``receptive_field`` = 1 + (taps − 1) Σ dₗ.

    >>> from rnnlab.models import TimeDelayNetwork
    >>> TimeDelayNetwork(32, taps=2, dilations=(1, 2, 4, 8)).receptive_field
    16

    Attributes:
        taps: the number of steps that a unit sees of the layer below.
        dilations: d, the steps between two taps, for each layer.

    Raises:
        ValueError: for sizes below 1, no layers, and an unknown activation.
    """

    taps: int = 3
    dilations: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive_int("taps", self.taps)
        if not isinstance(self.dilations, tuple | list) or not self.dilations:
            raise ValueError(
                f"dilations is {_check.brief(self.dilations)}; it must be a tuple with a whole "
                "number for each layer, such as (1, 2, 4)"
            )
        for dilation in self.dilations:
            _check.positive_int("a dilation", dilation)
        object.__setattr__(self, "dilations", tuple(self.dilations))

    @property
    def delays(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(range(0, self.taps * dilation, dilation)) for dilation in self.dilations)


@dataclasses.dataclass(frozen=True)
class Autoregression(Network):
    """A linear model on the last k inputs, AR(k).

    The outputs are the inputs of the window side by side, without parameters. With the readout of a
    model, ŷₜ = Σ_{j<k} Aⱼ xₜ₋ⱼ + b; where the target is the next input this is an autoregression of
    order k. A classifier or tagger on it is a logistic regression on the window.

    >>> import jax, rnnlab
    >>> from rnnlab.models import Autoregression, step_regressor
    >>> model = step_regressor(Autoregression(1, window=9), 1)
    >>> xs = jax.numpy.ones((20, 4, 1))
    >>> model.table(rnnlab.data.Batch(xs, xs)).parameters
    10

    Attributes:
        input_size: I, the features of an input; those of the embedding where inputs are codes.
        window: k.

    Raises:
        ValueError: for sizes below 1; when used, for inputs of another size.
    """

    input_size: int
    _: dataclasses.KW_ONLY
    window: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive_int("input_size", self.input_size)
        _check.positive_int("window", self.window)

    @property
    def hidden_size(self) -> int:
        """I, the default size of an embedding."""
        return self.input_size

    @property
    def receptive_field(self) -> int:
        """The number of last inputs on which an output depends, in steps."""
        return self.window

    @property
    def output_size(self) -> int:
        return self.window * self.input_size

    def init(self, key: Key, input_size: int) -> Any:
        _check.to_init(key, input_size)
        if input_size != self.input_size:
            raise ValueError(
                f"xs has {input_size} features, but the autoregression is for {self.input_size}; "
                f"give Autoregression({input_size}, window={self.window})"
            )
        return AutoregressionParams()

    def features(self, params: AutoregressionParams) -> int:
        del params
        return self.input_size

    def run(self, params: AutoregressionParams, xs: Array, starts: Array | None) -> Array:
        del params
        return delayed(xs, tuple(range(self.window)), starts)
