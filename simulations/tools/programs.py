"""Programs that are compiled with all optimizations, whatever their surroundings ask for."""

from __future__ import annotations

from functools import partial

import jax

__all__ = ["compiled_in_earnest"]

compiled_in_earnest = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 2,
        "xla_llvm_disable_expensive_passes": False,
    },
)
"""``jax.jit`` for what runs longer than it compiles, where most programs do the opposite."""
