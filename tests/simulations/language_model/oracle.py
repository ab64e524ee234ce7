"""The decoder-only transformer once more, in NumPy: float64, one row and one head at a time."""

import math

import numpy as np


def logits(weights: dict[str, np.ndarray], tokens: list[int], *, layers: int, heads: int):
    """``[T, V]`` for one unpadded row; ``weights`` are named by their paths in the Flax model."""
    x = weights["embedding/embedding"][tokens]
    for layer in range(layers):
        part = {
            name.removeprefix("layers/"): value[layer]
            for name, value in weights.items()
            if name.startswith("layers/")
        }
        normalised = _norm(x, part["attention_norm/scale"])
        x = x + _attention(
            normalised, part["attention/project/kernel"], part["attention/output/kernel"], heads
        )
        hidden = _norm(x, part["perceptron_norm/scale"]) @ part["perceptron/expand/kernel"]
        x = x + _gelu(hidden) @ part["perceptron/contract/kernel"]
    return _norm(x, weights["norm/scale"]) @ weights["head/embedding"].T


def _attention(x, project, output, heads):
    length, width = x.shape
    per_head = width // heads
    query, key, value = np.split(x @ project, 3, axis=1)
    attended = np.zeros_like(x)
    for head in range(heads):
        columns = slice(head * per_head, (head + 1) * per_head)
        q, k = _rotate(query[:, columns]), _rotate(key[:, columns])
        for t in range(length):
            # Conjugate product of rotated pairs: the real inner product of the rotated vectors.
            scores = np.real(k[: t + 1].conj() @ q[t]) / math.sqrt(per_head)
            weights = np.exp(scores - scores.max())
            attended[t, columns] = weights @ value[: t + 1, columns] / weights.sum()
    return attended @ output


def _rotate(x):
    """Rotary positions as complex numbers: pair (i, i + C/2) times e^{i t θ}."""
    length, width = x.shape
    pairs = x[:, : width // 2] + 1j * x[:, width // 2 :]
    frequency = 10_000.0 ** (-2 * np.arange(width // 2) / width)
    return pairs * np.exp(1j * np.arange(length)[:, None] * frequency)


def _norm(x, scale):
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-6) * scale


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
