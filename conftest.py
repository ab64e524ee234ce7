"""Strict numerics for the whole suite, doctests included (they live outside ``tests/``).

``tests/test_strictness.py`` proves that every setting is on.
"""

import os
import pathlib
from collections.abc import Iterator

# Before JAX is imported: its backend is chosen once. A machine with an accelerator may override.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

ROOT = pathlib.Path(__file__).parent

STRICT_NUMERICS = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_key_reuse": True,
}
# Compiled programs outlive the run: a second `make test` compiles next to nothing.
COMPILATION_CACHE = {
    "jax_compilation_cache_dir": str(ROOT / ".cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for option, value in {**STRICT_NUMERICS, **COMPILATION_CACHE}.items():
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
