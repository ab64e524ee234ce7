"""Best-of-n from a pool, by going through every subset and every order among ties."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from math import comb


def best_of_n(scores: Sequence[float], n: int, values: Sequence[float]) -> Fraction:
    """Mean over subsets of n of the mean value of those that score highest in the subset."""
    total = Fraction(0)
    for subset in itertools.combinations(range(len(scores)), n):
        top = max(scores[i] for i in subset)
        best = [Fraction(values[i]) for i in subset if scores[i] == top]
        total += sum(best, Fraction(0)) / len(best)
    return total / comb(len(scores), n)


def win_rate(scores: Sequence[float], n: int, ties: Fraction) -> Fraction:
    """Mean over one other answer and n of the rest; ``ties`` is what a tie counts."""
    found = []
    for other, opponent in enumerate(scores):
        rest = [score for i, score in enumerate(scores) if i != other]
        for subset in itertools.combinations(rest, n):
            best = max(subset)
            found.append(Fraction(best > opponent) + ties * (best == opponent))
    return sum(found, Fraction(0)) / len(found)


def variance(scores: Sequence[float], n: int) -> Fraction:
    """Square of the mean over subsets, less the mean product over disjoint pairs of them."""
    answers = range(len(scores))
    products = []
    for first in itertools.combinations(answers, n):
        left = [i for i in answers if i not in first]
        for second in itertools.combinations(left, n):
            pair = [Fraction(max(scores[i] for i in subset)) for subset in (first, second)]
            products.append(pair[0] * pair[1])
    return best_of_n(scores, n, scores) ** 2 - sum(products, Fraction(0)) / len(products)
