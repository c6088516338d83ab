"""Synthetic data: each batch from its own key, compiled once."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.data import Batch, generated
from tests.reference import watch


def sample(key, batch_size):
    xs = jax.random.normal(key, (5, batch_size, 1))
    return Batch(xs, xs.sum(0), mask=jnp.ones(batch_size, bool))


def test_a_batch_is_the_sample_of_its_key():
    data = generated(sample, 3, seed=7)
    for index in (0, 1, 12345, 2**32 - 1):
        key = jax.random.fold_in(jax.random.key(7), np.uint32(index))
        expected = sample(key, 3)
        np.testing.assert_allclose(data[index].xs, expected.xs, rtol=1e-14)
        np.testing.assert_allclose(data[index].targets, expected.targets, rtol=1e-13)
    assert data.batches_per_epoch is None


def test_it_is_compiled_once():
    data = generated(sample, 3)
    data[0]
    with watch() as work:
        batches = [data[index] for index in range(1, 6)]
    assert not work.compiled
    assert len({float(batch.xs[0, 0, 0]) for batch in batches}) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sample": 3}, "sample is 3; it must be a function"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        generated(**({"sample": sample, "batch_size": 3} | arguments))


def test_it_ends_before_batches_would_come_again():
    with pytest.raises(ValueError, match=r"index is 4294967296; generated data ends at 2\*\*32"):
        generated(sample, 3)[2**32]


def test_text_is_read_without_jax_and_grain():
    """The command line reads text before it starts JAX, and grain takes half a second."""
    code = (
        "import sys, rnnlab; rnnlab.data.encode(rnnlab.data.standard_library()[0], {}, 99); "
        "print({'jax', 'grain', 'pandas'} & set(sys.modules)); "
        "rnnlab.data.batches, rnnlab.data.sunspots; "
        "print({'grain', 'pandas', 'statsmodels'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "set()"]


def test_names_of_the_package_are_not_hidden_by_its_modules():
    for name in rnnlab.data.__all__:
        value = getattr(rnnlab.data, name)
        assert value.__doc__
        assert isinstance(value, type(rnnlab)) == (name == "ngram")
