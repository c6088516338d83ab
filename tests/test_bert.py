"""BERT's vectors against a twin in NumPy and against transformers; its files and their faults."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.embeddings import bert, bert_network
from tests.reference import one_sentence

safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "bank", "river", "money", "##s", "in", "of")
SIZES = {
    "vocab_size": 13,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
}
CONFIG = {"model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-3, **SIZES}


def random_weights(seed=0):
    random = np.random.default_rng(seed)
    size, wide = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (SIZES["vocab_size"], size),
        "embeddings.position_embeddings.weight": (SIZES["max_position_embeddings"], size),
        "embeddings.token_type_embeddings.weight": (2, size),
        "embeddings.LayerNorm.weight": (size,),
        "embeddings.LayerNorm.bias": (size,),
        "pooler.dense.weight": (size, size),
        "pooler.dense.bias": (size,),
    }
    square = ("attention.self.query", "attention.self.key", "attention.self.value")
    for layer in range(SIZES["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        for part in (*square, "attention.output.dense"):
            shapes |= {f"{name}{part}.weight": (size, size), f"{name}{part}.bias": (size,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{name}{part}.weight": (size,), f"{name}{part}.bias": (size,)}
        shapes[name + "intermediate.dense.weight"] = (wide, size)
        shapes[name + "intermediate.dense.bias"] = (wide,)
        shapes[name + "output.dense.weight"] = (size, wide)
        shapes[name + "output.dense.bias"] = (size,)
    # With larger weights each head would attend to a single step.
    return {
        name: (0.5 * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()
    }


def write_tokenizer(path):
    codes = {piece: code for code, piece in enumerate(PIECES)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(codes, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(path))


def write_folder(folder, weights=None, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    weights = random_weights() if weights is None else weights
    safetensors.save_file(weights, folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "bert")


def linear(weights, name, x):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def norm(weights, name, x):
    centred = x - x.mean()
    scaled = centred / math.sqrt(np.mean(centred**2) + CONFIG["layer_norm_eps"])
    return scaled * weights[name + ".weight"] + weights[name + ".bias"]


def attended(weights, name, steps, mask, t):
    """The heads at step t, one after the other."""
    width = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    heads = []
    for first in range(0, SIZES["hidden_size"], width):
        head = slice(first, first + width)
        query = linear(weights, name + "query", steps[t])[head]
        seen = [s for s in range(len(steps)) if mask[s]]
        keys = [linear(weights, name + "key", steps[s])[head] for s in seen]
        values = [linear(weights, name + "value", steps[s])[head] for s in seen]
        scores = np.exp([query @ key / math.sqrt(width) for key in keys])
        heads.append(scores / scores.sum() @ np.array(values))
    return np.concatenate(heads)


def twin(weights, codes, mask, segments):
    """All layers of an example, step by step in float64."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    tables = ("word", "position", "token_type")
    words, places, kinds = (weights[f"embeddings.{t}_embeddings.weight"] for t in tables)
    steps = []
    for t, code in enumerate(codes):
        total = words[code] + places[t] + kinds[segments[t]]
        steps.append(norm(weights, "embeddings.LayerNorm", total))
    layers = [steps]
    for layer in range(SIZES["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        new = []
        for t, x in enumerate(steps):
            mixed = attended(weights, name + "attention.self.", steps, mask, t)
            mixed = linear(weights, name + "attention.output.dense", mixed)
            a = norm(weights, name + "attention.output.LayerNorm", x + mixed)
            inner = linear(weights, name + "intermediate.dense", a)
            inner = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in inner])
            outer = linear(weights, name + "output.dense", inner)
            new.append(norm(weights, name + "output.LayerNorm", a + outer))
        steps = new
        layers.append(steps)
    return np.array(layers)


def test_every_layer_is_the_twins(folder):
    random = np.random.default_rng(1)
    codes = random.integers(SIZES["vocab_size"], size=(3, 7))
    segments = random.integers(2, size=codes.shape)
    mask = np.arange(7) < np.array([[7], [4], [1]])
    model = bert(folder)
    states = model.states(codes, mask, segments)
    assert states.shape == (3, 3, 7, 8)
    assert states.dtype == jnp.float32
    for example in range(3):
        wanted = twin(random_weights(), codes[example], mask[example], segments[example])
        np.testing.assert_allclose(states[:, example], wanted, atol=2e-5)
    last = model.last(codes, mask, segments)
    np.testing.assert_allclose(last, states[-1], atol=1e-6)
    pooled = np.tanh(linear(random_weights(), "pooler.dense", np.asarray(last)[:, 0]))
    np.testing.assert_allclose(model.pooled(last), pooled, atol=1e-5)


def test_padding_changes_nothing(folder):
    model = bert(folder)
    codes = np.array([[2, 4, 5, 3]])
    longer = np.pad(codes, ((0, 0), (0, 3)), constant_values=7)
    alone = model.last(codes)
    np.testing.assert_allclose(model.last(longer, longer != 7)[:, :4], alone, atol=1e-5)


def test_texts_become_vectors(folder):
    model = bert(folder)
    texts = ["The bank of rivers!", "money", "in the bank"]
    found = model.vectors_of(texts, batch_size=2)
    assert found.tokens[0] == ("[CLS]", "the", "bank", "of", "river", "##s", "[UNK]", "[SEP]")
    assert found.mask.sum(axis=1).tolist() == [8, 3, 5]
    assert found.vectors.shape == (3, 8, 8)
    assert not found.vectors[~found.mask].any()
    for text, vectors in zip(texts, found.vectors, strict=True):
        encoded = model.encode([text])
        alone = model.last(encoded.codes)[0]
        np.testing.assert_allclose(vectors[: len(alone)], alone, atol=1e-5)


def test_a_word_has_another_vector_in_another_sentence(folder):
    model = bert(folder)
    found = model.vectors_of(["bank of money", "bank of river"])
    assert found.tokens[0][1] == found.tokens[1][1] == "bank"
    # Rounding alone changes them by 1e-6.
    assert np.abs(found.vectors[0, 1] - found.vectors[1, 1]).max() > 1e-4


def test_pairs_are_two_segments(folder):
    encoded = bert(folder).encode(["the bank"], ["money"])
    assert encoded.tokens == (("[CLS]", "the", "bank", "[SEP]", "money", "[SEP]"),)
    assert encoded.segments.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_long_texts_are_cut_only_if_asked(folder):
    model = bert(folder)
    text = "the bank of money in the river of money"
    with pytest.raises(ValueError, match="text 1 has 11 pieces, but the model reads 10; choose"):
        model.vectors_of(["money", text])
    assert model.encode([text], max_length=100).codes.shape == (1, 10)
    assert model.encode([text], max_length=5).tokens[0] == ("[CLS]", "the", "bank", "of", "[SEP]")
    # Cutting once does not cut the next text.
    with pytest.raises(ValueError, match="11 pieces"):
        model.encode([text])


def test_names_of_weights_from_several_sources(folder, tmp_path):
    codes = np.array([[2, 4, 5, 3]])
    wanted = bert(folder).last(codes)
    renamed = {}
    for name, array in random_weights().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = array
    renamed["cls.predictions.bias"] = np.zeros(13, np.float32)
    np.testing.assert_array_equal(bert(write_folder(tmp_path / "old", renamed)).last(codes), wanted)
    headless = {k: v for k, v in random_weights().items() if not k.startswith("pooler")}
    model = bert(write_folder(tmp_path / "headless", headless))
    np.testing.assert_array_equal(model.last(codes), wanted)
    with pytest.raises(ValueError, match="the model has no pooler; take"):
        model.pooled(wanted)


def test_half_precision_is_read_as_single(tmp_path):
    half = {name: array.astype(np.float16) for name, array in random_weights().items()}
    exact = {name: array.astype(np.float32) for name, array in half.items()}
    codes = np.array([[2, 4, 5, 3]])
    found = bert(write_folder(tmp_path / "half", half)).last(codes)
    np.testing.assert_array_equal(found, bert(write_folder(tmp_path / "exact", exact)).last(codes))
    brain = {name: jnp.asarray(array, jnp.bfloat16) for name, array in random_weights().items()}
    brain = {name: np.asarray(array) for name, array in brain.items()}
    words = bert(write_folder(tmp_path / "brain", brain)).params.words
    wanted = brain["embeddings.word_embeddings.weight"].astype(np.float32)
    np.testing.assert_array_equal(words, wanted)


def test_parameters_can_be_trained_further(folder):
    model = bert(folder)
    codes = np.array([[2, 4, 5, 3]])
    weights = np.cos(np.arange(model.config.hidden_size))

    @jax.jit
    def loss(params, codes):
        last = dataclasses.replace(model, params=params).last(codes)
        return jnp.sum(last[:, 1] @ weights)

    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), model.params)
    gradient = jax.grad(loss)(params, codes)
    direction = np.zeros_like(params.words)
    # The attention is normalised in single precision, so that small steps would drown in rounding.
    direction[5] = 1e-3 * np.sin(np.arange(weights.size))
    up, down = (
        loss(params._replace(words=params.words + sign * direction), codes) for sign in (1, -1)
    )
    np.testing.assert_allclose((up - down) / 2, np.vdot(gradient.words, direction), rtol=1e-2)
    assert not np.asarray(gradient.words[7]).any()


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((8, 2, 1, 12), (1, 1)), ((24, 4, 3, 40), (2, 9)), ((12, 12, 2, 5), (5, 6))],
)
def test_the_states_are_those_of_transformers(tmp_path, prefix, sizes, shape):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    config = transformers.BertConfig(**(SIZES | dict(zip(names, sizes, strict=True))))
    torch.manual_seed(0)
    network = transformers.BertModel(config) if not prefix else transformers.BertForMaskedLM(config)
    # Initial weights have zero biases, which would hide a bias that is left out.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) + parameter)
    network.eval().save_pretrained(tmp_path)
    write_tokenizer(tmp_path / "tokenizer.json")
    random = np.random.default_rng(0)
    codes, segments = random.integers(13, size=shape), random.integers(2, size=shape)
    mask = np.arange(shape[1]) < random.integers(1, shape[1] + 1, size=(shape[0], 1))
    inner = network.bert if prefix else network
    inputs = {"input_ids": codes, "attention_mask": 1 * mask, "token_type_ids": segments}
    with torch.no_grad():
        tensors = {name: torch.tensor(array) for name, array in inputs.items()}
        theirs = inner(**tensors, output_hidden_states=True)
    model = bert(tmp_path)
    states = model.states(codes, mask, segments)
    for ours, layer in zip(states, theirs.hidden_states, strict=True):
        np.testing.assert_allclose(ours, layer, atol=1e-5)
    if not prefix:
        pooled = model.pooled(states[-1])
        np.testing.assert_allclose(pooled, theirs.pooler_output, atol=1e-5)


@pytest.mark.parametrize("name", bert_network.ACTIVATIONS)
def test_activations_are_those_of_transformers(name):
    torch = pytest.importorskip("torch")
    activations = pytest.importorskip("transformers.activations")
    x = np.linspace(-12, 12, 101)
    wanted = activations.ACT2FN[name](torch.tensor(x))
    np.testing.assert_allclose(bert_network.ACTIVATIONS[name](jnp.asarray(x)), wanted, atol=1e-9)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_or_damaged_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} (cannot be read|is not JSON)"):
        bert(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} (cannot be read|does not exist)"):
        bert(folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_type": "roberta"}, "has model_type 'roberta'; give"),
        ({"is_decoder": True}, "describes a decoder"),
        ({"position_embedding_type": "relative_key"}, "relative positions"),
        ({"hidden_act": "maxout"}, "hidden_act"),
        ({"num_attention_heads": 3}, "which 3 attention heads do not divide"),
        ({"num_hidden_layers": 1}, "has a layer beyond num_hidden_layers = 1"),
        ({"num_hidden_layers": 3}, "has no 'encoder.layer.2"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers is '2'; it must be an integer"),
        ({"intermediate_size": 13}, r"has shape \(12, 8\), but config.json asks for \(13, 8\)"),
        ({"vocab_size": 10}, "but config.json asks for"),
    ],
)
def test_another_config_is_refused(tmp_path, changes, fault):
    with pytest.raises(ValueError, match=fault):
        bert(write_folder(tmp_path / "bert", **changes))


def test_other_weights_and_tokenisers_are_refused(folder, tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "hidden_size"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks hidden_size; give"):
        bert(folder)
    weights = random_weights()
    weights["encoder.layer.0.output.dense.bias"][3] = np.nan
    with pytest.raises(ValueError, match=r"'encoder.layer.0.output.dense.bias' holds NaN"):
        bert(write_folder(tmp_path / "nan", weights))
    with pytest.raises(ValueError, match="has no 'embeddings"):
        bert(write_folder(tmp_path / "other", {"weight": np.zeros(2, np.float32)}))
    weights = random_weights()
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:9]
    with pytest.raises(ValueError, match="codes up to 10, but the model has 9"):
        bert(write_folder(tmp_path / "few", weights, vocab_size=9))
    with pytest.raises(ValueError, match="is not a folder; give"):
        bert(tmp_path / "nowhere")


def test_bad_inputs_are_refused(folder):
    model = bert(folder)
    codes = np.array([[2, 4, 3]])
    with pytest.raises(ValueError, match="codes run from 2 to 13, but the model knows 0 to 12"):
        model.states([[2, 13]])
    with pytest.raises(ValueError, match="segments run from 0 to 2"):
        model.states(codes, segments=[[0, 1, 2]])
    with pytest.raises(ValueError, match="segments have shape"):
        model.states(codes, segments=[[0, 1]])
    with pytest.raises(ValueError, match=r"must be \[B, T\] with T from 1 to 10"):
        model.last(np.ones((1, 11), int))
    with pytest.raises(ValueError, match=r"must be \[B, T\]"):
        model.last(codes[0])
    with pytest.raises(ValueError, match="example 0 has no step that is seen"):
        model.last(codes, mask=[[0, 0, 0]])
    with pytest.raises(ValueError, match="last has shape"):
        model.pooled(np.zeros((1, 8)))
    bad: Any = (("money", "is one string"), ([], "is empty"), ([1], "text"))
    for texts, fault in bad:
        with pytest.raises(ValueError, match=fault):
            model.encode(texts)
    with pytest.raises(ValueError, match="there are 1 texts, but 2 second ones"):
        model.encode(["money"], ["a", "b"])


def test_it_says_what_it_is(folder):
    assert repr(bert(folder)) == "Bert(words=13, size=8, layers=2, heads=2)"


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool"])
def test_weights_that_are_no_floats_are_refused(tmp_path, dtype):
    weights = {name: array.astype(dtype) for name, array in random_weights().items()}
    folder = write_folder(tmp_path / "bert", weights)
    one_sentence(lambda: bert(folder), "has numbers of type", "give weights of one of F64")


def test_odd_folders_and_texts_of_a_bert(tmp_path, folder):
    weights = {name: array.astype(float) * 1e300 for name, array in random_weights().items()}
    one_sentence(lambda: bert(write_folder(tmp_path / "huge", weights)), "NaN or infinity")
    for number, eps in enumerate((0, -1.0)):
        bad = write_folder(tmp_path / str(number), layer_norm_eps=eps)
        one_sentence(lambda bad=bad: bert(bad), "layer_norm_eps is")
    model = bert(folder)
    one_sentence(lambda: model.encode(None), "texts is None")
    one_sentence(lambda: model.encode(["the", "a\ud800"]), "texts[1] has a lone surrogate")
    (folder / "config.json").write_text("[" * 200_000)
    one_sentence(lambda: bert(folder), "nested too deeply")
