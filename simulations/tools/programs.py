"""How a program is compiled, whatever its surroundings ask for."""

from __future__ import annotations

from functools import partial

import jax

__all__ = ["compiled_in_earnest", "compiled_in_haste"]

compiled_in_earnest = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 2,
        "xla_llvm_disable_expensive_passes": False,
    },
)
"""``jax.jit`` for what runs longer than it compiles, where most programs do the opposite."""

compiled_in_haste = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
"""``jax.jit`` for what is computed once, in milliseconds: compiling must be cheap."""
