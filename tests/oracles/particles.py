"""Particles one by one: every draw of N sequences and of their ancestors, in NumPy and mpmath."""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.oracles.multiprecision import mp

Array = NDArray[np.float64]


class Chain(NamedTuple):
    """A Markov reference: first symbol, next symbol given the one before, rewards."""

    initial: Array
    moves: Array
    rewards: Array


def path_law(
    chain: Chain, length: int, n: int, temperature: float, *, block_length: int, values: Array
) -> tuple[Array, float]:
    """The law of one path over all K^m sequences by code, and E Ẑ².

    ``values [m, K]`` is what it is worth that symbol t is x; 0 within blocks and at the end.
    """
    size = len(chain.initial)
    law, second = np.zeros(size**length), 0.0
    # Sequences so far, log-weights within the block, chance, Ẑ: a list, not merged.
    systems = [([()] * n, np.zeros(n), 1.0, 1.0)]
    for place in range(length):
        grown = []
        for paths, scores, chance, estimate in systems:
            for symbols in itertools.product(range(size), repeat=n):
                step = [
                    chain.moves[path[-1], x] if path else chain.initial[x]
                    for path, x in zip(paths, symbols, strict=True)
                ]
                if not (now := chance * float(np.prod(step))):
                    continue
                longer = [(*path, x) for path, x in zip(paths, symbols, strict=True)]
                earned = scores + chain.rewards[list(symbols)]
                if (place + 1) % block_length and place + 1 < length:
                    grown.append((longer, earned, now, estimate))
                    continue
                weights = np.exp((earned + values[place, list(symbols)]) / temperature)
                mean, shares = estimate * weights.mean(), weights / weights.sum()
                if place + 1 == length:
                    second += now * mean**2
                    for path, share in zip(longer, shares, strict=True):
                        law[int(np.dot(path, size ** np.arange(length)[::-1]))] += now * share
                    continue
                for parents in itertools.product(range(n), repeat=n):
                    kept = [longer[i] for i in parents]
                    start = -values[place, [path[-1] for path in kept]]
                    odds = now * float(np.prod(shares[list(parents)]))
                    grown.append((kept, start, odds, mean))
        systems = grown
    return law, second


def second_moment(chain: Chain, length: int, n: float, temperature: float) -> float:
    """log E(Ẑ/Z)² without a look-ahead, drawn after every symbol, in multiprecision.

    Two particles that have been one with probability 1/N at each draw of ancestors.
    """
    with mp.workdps(60):
        states = range(len(chain.initial))
        first = [mp.mpf(float(p)) for p in chain.initial]
        first = [p / mp.fsum(first) for p in first]
        moves = [[mp.mpf(float(p)) for p in row] for row in chain.moves]
        moves = [[p / mp.fsum(row) for p in row] for row in moves]
        w = [mp.exp(mp.mpf(float(r)) / temperature) for r in chain.rewards]
        apart, same = 1 - 1 / mp.mpf(n), 1 / mp.mpf(n)
        mass = [first[a] * w[a] for a in states]
        pairs = [
            [(apart * first[a] * first[b] + (same * first[a] if a == b else 0)) * w[a] * w[b]
             for b in states] for a in states
        ]  # fmt: skip
        for _ in range(length - 1):
            mass = [mp.fsum(mass[a] * moves[a][c] for a in states) * w[c] for c in states]
            one = [mp.fsum(row) for row in pairs]
            pairs = [
                [
                    (
                        apart
                        * mp.fsum(
                            pairs[a][b] * moves[a][c] * moves[b][d] for a in states for b in states
                        )
                        + (same * mp.fsum(one[a] * moves[a][c] for a in states) if c == d else 0)
                    )
                    * w[c]
                    * w[d]
                    for d in states
                ]
                for c in states
            ]
        total = mp.fsum(mp.fsum(row) for row in pairs)
        return float(mp.log(total / mp.fsum(mass) ** 2))
