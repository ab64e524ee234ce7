"""Keys are watched here as elsewhere, see ``conftest.py``."""

import jax
import pytest


def test_a_key_used_twice_raises() -> None:
    key = jax.random.key(0)
    jax.random.bits(key)
    with pytest.raises(jax.errors.KeyReuseError):
        jax.random.bits(key)


def test_a_key_used_twice_under_jit_raises() -> None:
    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: jax.random.bits(key) ^ jax.random.bits(key))(jax.random.key(0))
