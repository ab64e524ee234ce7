"""The root finder behind tuning: right for hostile functions, in few calls."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bon_theory.tuning.root import increasing_root

HOSTILE: dict[str, Any] = {
    "a step": lambda x, a: jnp.where(x < a, -1.0, 1.0),
    "flat on both sides": lambda x, a: jnp.tanh(1e3 * (x - a)),
    "a high power": lambda x, a: (x - a) ** 21,
    "exponential": lambda x, a: jnp.expm1(40 * (x - a)),
    "a square root": lambda x, a: jnp.sign(x - a) * jnp.sqrt(jnp.abs(x - a)),
    "a line": lambda x, a: x - a,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_root_is_found_whatever_the_function_is_like(name: str):
    roots_ = jnp.array([1e-9, 0.1, 0.5, 0.9999])
    calls = 0

    def count(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return x

    @jax.custom_jvp  # a callback cannot be differentiated, and the root's derivative is traced
    def counted(x: jax.Array) -> jax.Array:
        return jax.pure_callback(count, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    counted.defjvp(lambda primals, tangents: (primals[0], tangents[0]))

    def function(x: jax.Array) -> jax.Array:
        return HOSTILE[name](counted(x), roots_)

    zeros, ones = jnp.zeros(4), jnp.ones(4)
    found = increasing_root(
        function, zeros, ones, HOSTILE[name](zeros, roots_), HOSTILE[name](ones, roots_)
    )
    # (x − a)^21 vanishes in float64 within 1e-15 of a root at a scale of one.
    np.testing.assert_allclose(found, roots_, rtol=1e-15, atol=4e-15)
    assert calls <= 120


def test_the_bracket_ends_may_be_the_root():
    line = partial(increasing_root, lambda x: x - 2.0)
    for low, high in ((2.0, 5.0), (-1.0, 2.0)):
        ends = jnp.asarray(low), jnp.asarray(high)
        assert float(line(*ends, *(end - 2.0 for end in ends))) == 2.0
