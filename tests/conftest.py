"""Settings of the whole test run: 64-bit floats are available, and devices are the CPU's."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)  # a test that means float32 says so
hypothesis.settings.register_profile("rnnlab", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("rnnlab")
