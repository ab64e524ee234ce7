"""Best-of-n from a pool, by going through every subset and every order among ties."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
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


def soft_best_of_n(
    scores: Sequence[float], n: int, temperature: float, values: Sequence[float]
) -> float:
    """Mean over subsets of n of the mean value under softmax(score/temperature)."""
    found = []
    for subset in itertools.combinations(range(len(scores)), n):
        found.append(_soft([(scores[i], values[i]) for i in subset], temperature))
    return math.fsum(found) / len(found)


def soft_with_replacement(
    scores: Sequence[float], n: int, temperature: float, values: Sequence[float]
) -> float:
    """The same over all sequences of n draws."""
    pairs = list(zip(scores, values, strict=True))
    found = [_soft(draw, temperature) for draw in itertools.product(pairs, repeat=n)]
    return math.fsum(found) / len(found)


def _soft(draw: Iterable[tuple[float, float]], temperature: float) -> float:
    draw = list(draw)
    top = max(score for score, _ in draw)
    weights = [math.exp((score - top) / temperature) for score, _ in draw]
    return math.fsum(w * v for w, (_, v) in zip(weights, draw, strict=True)) / math.fsum(weights)


def ranked(scores: Sequence[float], n: int, rank: int, values: Sequence[float]) -> Fraction:
    """Mean value of the rank-th best of n, over subsets and over orders among ties."""
    found = []
    for subset in itertools.combinations(range(len(scores)), n):
        levels = sorted({scores[i] for i in subset}, reverse=True)
        place = 0
        for level in levels:
            tied = [Fraction(values[i]) for i in subset if scores[i] == level]
            place += len(tied)
            if place >= rank:
                found.append(sum(tied, Fraction(0)) / len(tied))
                break
    return sum(found, Fraction(0)) / len(found)


def win_rate_between(
    ours: Sequence[float], n: int, theirs: Sequence[float], m: int, ties: Fraction
) -> Fraction:
    """Best of n against best of m of another pool, over all pairs of subsets."""
    found = []
    for first in itertools.combinations(ours, n):
        for second in itertools.combinations(theirs, m):
            a, b = max(first), max(second)
            found.append(Fraction(a > b) + ties * (a == b))
    return sum(found, Fraction(0)) / len(found)


def majority(answers: Sequence[str], right: str, n: int) -> Fraction:
    """Chance that the most frequent of n is right, ties shared evenly, over subsets."""
    found = []
    for subset in itertools.combinations(answers, n):
        counts = Counter(subset)
        winners = [a for a, c in counts.items() if c == max(counts.values())]
        found.append(Fraction(right in winners, len(winners)))
    return sum(found, Fraction(0)) / len(found)


def weighted_vote(
    answers: Sequence[str], scores: Sequence[Fraction], right: str, n: int
) -> Fraction:
    """Chance that the answer of the highest sum of scores is right, ties shared evenly."""
    found = []
    for subset in itertools.combinations(range(len(answers)), n):
        sums: dict[str, Fraction] = {}
        for i in subset:
            sums[answers[i]] = sums.get(answers[i], Fraction(0)) + scores[i]
        winners = [a for a, total in sums.items() if total == max(sums.values())]
        found.append(Fraction(right in winners, len(winners)))
    return sum(found, Fraction(0)) / len(found)


def gradient(scores: Sequence[float], n: int, baseline: bool) -> list[Fraction]:
    """For every answer, subsets that hold it: their best, less the best without it."""
    found = []
    for own in range(len(scores)):
        total = Fraction(0)
        for subset in itertools.combinations(range(len(scores)), n):
            if own in subset:
                rest = [Fraction(scores[i]) for i in subset if i != own]
                total += Fraction(max(scores[i] for i in subset)) - baseline * max(rest)
        found.append(total / comb(len(scores), n))
    return found


def jackknife(scores: Sequence[float], n: int) -> Fraction:
    """The jackknife's variance of the mean over subsets."""
    size = len(scores)
    left = []
    for i in range(size):
        rest = [score for j, score in enumerate(scores) if j != i]
        left.append(best_of_n(rest, n, rest))
    mean = sum(left, Fraction(0)) / size
    return sum(((x - mean) ** 2 for x in left), Fraction(0)) * (size - 1) / size


def soft_win_rate(scores: Sequence[float], n: int, temperature: float, ties: float) -> float:
    """Mean over one other answer and n of the rest, of the chance that softmax's pick beats it."""
    found = []
    for other, opponent in enumerate(scores):
        rest = [score for i, score in enumerate(scores) if i != other]
        for subset in itertools.combinations(rest, n):
            pairs = [(s, (s > opponent) + ties * (s == opponent)) for s in subset]
            found.append(_soft(pairs, temperature))
    return math.fsum(found) / len(found)


def soft_law(scores: Sequence[float], n: int, temperature: float) -> list[float]:
    """The chance of each answer over all sequences of n draws with replacement."""
    answers = range(len(scores))
    return [
        soft_with_replacement(scores, n, temperature, [float(i == j) for j in answers])
        for i in answers
    ]
