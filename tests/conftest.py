"""Eight fake CPU devices for the whole test session, set before any backend starts."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402  (the platform must be chosen first)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
