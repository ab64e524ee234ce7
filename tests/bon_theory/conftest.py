"""Exact theory has no random keys, but for pools of rewards and whoever reports on them."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture(scope="module", autouse=True)
def keys_are_watched_from_the_first_one_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where there is no key none is used twice, and watching slows every call of a program."""
    setting, key = "jax_debug_key_reuse", jax.random.key
    arrays = [value for value in vars(request.module).values() if isinstance(value, jax.Array)]
    assert not any(jnp.issubdtype(array.dtype, jax.dtypes.prng_key) for array in arrays)

    def watched(*args: Any, **kwargs: Any) -> jax.Array:
        jax.config.update(setting, True)
        return key(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "key", watched)
        jax.config.update(setting, False)
        yield
        jax.config.update(setting, True)
