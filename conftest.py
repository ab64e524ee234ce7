"""Strict numerics for the whole suite, doctests included (they live outside ``tests/``).

``tests/test_strictness.py`` proves that every setting is on.
"""

import functools
import gc
import os
import pathlib
from collections.abc import Iterator
from importlib import metadata

# JAX reads these when it is imported, and so do the processes that tests start.
os.environ.update(
    {
        # Tests compile more than they run: three times faster so, jaxlib 0.10 with its former
        # emitters of fused loops. `make test-slow` and `make repro` compile as users' programs do.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if metadata.version("jaxlib").startswith("0.10.")
        else "",
        # Every worker has a core: threads of linear algebra would wait, busily, for each other.
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",  # a machine with an accelerator may say otherwise
        # Compiled programs outlive the run: a second `make test` compiles next to nothing.
        "JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(__file__).with_name(".cache") / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        **os.environ,
    }
)

import hypothesis
import jax
import pytest
from jax._src.interpreters import mlir

# One MLIR context for all programs, where JAX makes one for each and keeps two thousand, 2 MB each:
# a small program compiles in two thirds of the time.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# Tracing makes many small objects, few of them garbage in cycles: looking for it after every 700
# takes a tenth of the time.
gc.set_threshold(50_000, 20, 10)

STRICT_NUMERICS = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_key_reuse": True,
}
for option, value in STRICT_NUMERICS.items():
    jax.config.update(option, value)

# Fixed examples, so that a red run is red again; no deadline, since a first call compiles.
hypothesis.settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=25, database=None
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def implicit_promotion() -> Iterator[None]:
    """Relax dtype promotion around third-party code: optax's schedules mix integers and floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield
