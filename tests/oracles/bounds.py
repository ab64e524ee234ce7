"""Every bound from its formula, in multiprecision: no regrouping, no care, enough digits.

Laws of the selections that some bounds compare with come from their definitions on reward levels.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from tests.oracles.multiprecision import Real, mp

DIGITS = 120  # temperatures of 1e15 leave differences of 1e-30 of weights near 1, squared


@mp.workdps(DIGITS)
def values(
    probs: Sequence[float],
    rewards: Sequence[float],
    true_rewards: Sequence[float],
    *,
    n: float,
    temperature: float,
    order: float,
    mean_extra_draws: float,
    strength: float,
    ratio: float,
) -> dict[str, Callable[[], Real]]:
    """Return, by name, a bound on a law with ``probs`` above 0, as functions not yet evaluated."""
    mass = [mp.mpf(p) for p in probs]
    mass = [p / mp.fsum(mass) for p in mass]
    reward, n, t = [mp.mpf(r) for r in rewards], mp.mpf(n), mp.mpf(temperature)
    a, mu, c = mp.mpf(order), mp.mpf(mean_extra_draws), mp.mpf(strength)
    by_level: dict[Real, Real] = {}
    for p, r in zip(mass, reward, strict=True):
        by_level[r] = by_level.get(r, mp.mpf(0)) + p
    levels = [by_level[r] for r in sorted(by_level)]
    cumulative = [*accumulate(levels[:-1], initial=mp.mpf(0)), mp.mpf(1)]
    best = [v**n - u**n for u, v in pairwise(cumulative)]
    top, largest, collisions = levels[-1], max(levels), mp.fsum(p * p for p in levels)
    lowest, highest = min(reward), max(reward)
    x, kl, win = (highest - lowest) / t, mp.log(n) - (n - 1) / n, n / (n + 1)

    def mean(law: Sequence[Real], of: Sequence[Real]) -> Real:
        return mp.fsum(p * v for p, v in zip(law, of, strict=True))

    e = [mp.exp((r - highest) / t) for r in reward]
    weights = [v / mean(mass, e) for v in e]
    tilt = [p * w for p, w in zip(mass, weights, strict=True)]
    chi_squared = mean(mass, [(w - 1) ** 2 for w in weights])

    def error() -> Real:
        def sign(x: float) -> int:
            return (x > 0) - (x < 0)

        pairs = [(p, r, s) for p, r, s in zip(mass, rewards, true_rewards, strict=True)]
        return mp.fsum(
            p * q * abs(sign(r - x) - sign(s - y)) / 2 for p, r, s in pairs for q, x, y in pairs
        )

    def learned_win() -> Real:
        return mp.fsum(
            v * (c - p / 2) for v, c, p in zip(best, cumulative[1:], levels, strict=True)
        )

    def top_win() -> Real:
        """What is kept of a level counts as winning against all below it and half of it."""
        most, total = mp.mpf(ratio), mp.mpf(0)
        for (u, v), p in zip(pairwise(cumulative), levels, strict=True):
            kept = max(0, 1 - (1 - v) * most) - max(0, 1 - (1 - u) * most)
            total += kept * (v - p / 2)
        return total

    def hit(p: Real) -> Real:
        return 1 - (1 - p) ** n

    def of_atom(p: Real) -> Real:
        if p == 1:
            return mp.mpf(0)
        below = (1 - p) ** n * (kl + (n - 1) * mp.log(1 - p))
        return below + hit(p) * mp.log(hit(p) / p)

    def known(p: Real) -> Real:
        if p == 1:
            return mp.mpf(0)
        return mp.log(hit(p) / p) + (n - 1) * (1 - p) ** n * mp.log(1 - p) / hit(p)

    def renyi() -> Real:
        if a in (1, mp.inf):
            return kl if a == 1 else mp.log(n)
        return (a * mp.log(n) - mp.log(a * (n - 1) + 1)) / (a - 1)

    def floor() -> Real:
        above = [r - lowest for r in reward]
        gain = mean(tilt, above)
        if gain == 0:
            return lowest
        constant = mean(tilt, [v * w for v, w in zip(above, weights, strict=True)]) / gain
        return lowest + gain / (1 + (constant - 1) / n)

    def poisson_kl() -> Real:
        if mu == 0:
            return mp.mpf(0)
        tail = mp.quad(lambda v: mp.exp(-v) / (mu + 1 - v), _pieces(mu)) / mu
        return mp.log(1 + mu) - 1 + tail

    def poisson_win() -> Real:
        return mp.mpf(1) / 2 if mu == 0 else 1 - 1 / mu + (1 - mp.exp(-mu)) / mu**2

    def optimum() -> Real:
        return 1 / (1 - mp.exp(-c)) - 1 / c

    def log_normaliser() -> Real:
        return c + mp.log((1 - mp.exp(-c)) / c)

    e_top = mp.exp(c) / mp.expm1(c) if c < 1000 else mp.mpf(1)
    formulas = {
        "best_of_n_kl": lambda: kl,
        "best_of_n_kl_from_top_level": lambda: -mp.log(top),
        "best_of_n_kl_from_top_atom": lambda: of_atom(top),
        "best_of_n_kl_from_selected_atom": lambda: mean(best, [of_atom(p) for p in levels]),
        "best_of_n_kl_from_selected_level": lambda: mean(best, [known(p) for p in levels]),
        "best_of_n_kl_from_collisions": lambda: kl - 2 * n * (n - 1) * collisions,
        "best_of_n_kl_from_half_the_collisions": lambda: kl - n * (n - 1) * collisions,
        "best_of_n_reverse_kl": lambda: n - 1 - mp.log(n),
        "best_of_n_chi_squared": lambda: (n - 1) ** 2 / (2 * n - 1),
        "best_of_n_total_variation": lambda: (
            (1 - 1 / n) * n ** (-1 / (n - 1)) if n > 1 else mp.mpf(0)
        ),
        "best_of_n_squared_hellinger": lambda: 2 * (mp.sqrt(n) - 1) ** 2 / (n + 1),
        "best_of_n_renyi": renyi,
        "best_of_n_reward": lambda: t * kl + highest + t * mp.log(mean(mass, e)),
        "best_of_n_reward_from_range": lambda: (
            mean(mass, reward) + (highest - lowest) * mp.sqrt(kl / 2)
        ),
        "best_of_n_win_rate": lambda: win,
        "best_of_n_win_rate_from_largest_level": lambda: (
            win - largest**2 * max(n / 12, (n - 1) / (2 * (n + 1)))
        ),
        "best_of_n_win_rate_from_collisions": lambda: win - (n - 1) / 2 * collisions,
        "best_of_n_win_rate_ties_won": lambda: win,
        "best_of_n_win_rate_ties_won_from_largest_level": lambda: win + largest,
        "best_of_n_win_rate_ties_won_from_collisions": lambda: win + n * collisions,
        "best_of_n_win_rate_ties_lost": lambda: win,
        "best_of_n_win_rate_ties_lost_from_largest_level": lambda: win - largest,
        "best_of_n_win_rate_ties_lost_from_collisions": lambda: win - n * collisions,
        "best_of_n_penalised_win_rate": lambda: log_normaliser() / c,
        "best_of_poisson_kl": poisson_kl,
        "best_of_n_true_win_rate_above_learned": lambda: learned_win() - n * error(),
        "best_of_n_true_win_rate_below_learned": lambda: learned_win() + n * error(),
        "best_of_n_true_win_rate_regret": lambda: (
            (mp.mpf(ratio) + n) * error() + top_win() - learned_win()
        ),
        "best_of_n_true_win_rate_regret_exponential": lambda: (
            (mp.mpf(ratio) + n) * error() + mp.exp(-n / mp.mpf(ratio)) / 2
        ),
        "best_of_poisson_win_rate": poisson_win,
        "win_rate_optimal_kl": lambda: c * optimum() - log_normaliser(),
        "win_rate_optimal_kl_from_collisions": lambda: (
            c * optimum() - log_normaliser() - c**2 * e_top * collisions
        ),
        "win_rate_optimal_win_rate": optimum,
        "win_rate_optimal_win_rate_ties_won": optimum,
        "win_rate_optimal_win_rate_ties_won_from_collisions": lambda: (
            optimum() + c * e_top * collisions
        ),
        "win_rate_optimal_win_rate_ties_lost": optimum,
        "win_rate_optimal_win_rate_ties_lost_from_collisions": lambda: (
            optimum() - c * e_top * collisions
        ),
        "soft_best_of_n_kl_to_tilt": lambda: mp.log(1 + chi_squared / n),
        "soft_best_of_n_kl_to_tilt_over_n": lambda: chi_squared / n,
        "soft_best_of_n_kl_to_tilt_pointwise": lambda: mean(
            tilt, [mp.log((n - 1 + w) / n) for w in weights]
        ),
        "soft_best_of_n_kl_to_tilt_from_range": lambda: mp.log(1 + mp.sinh(x / 2) ** 2 / n),
        "soft_best_of_n_max_log_ratio": lambda: mp.log((n - 1 + max(weights)) / n),
        "soft_best_of_n_total_variation": lambda: mp.sqrt(mp.log(1 + chi_squared / n) / 2),
        "soft_best_of_n_total_variation_pointwise": lambda: mean(
            tilt, [max(w - 1, 0) / (n - 1 + w) for w in weights]
        ),
        "soft_best_of_n_reward_floor": floor,
        "soft_best_of_n_reward_above_reference": lambda: mean(mass, reward),
        "soft_best_of_n_reward_below_tilt": lambda: mean(tilt, reward),
        "soft_best_of_n_reward_below_best_of_n": lambda: mean(best, sorted(by_level)),
        "soft_best_of_n_kl_below_tilt": lambda: mean(tilt, [mp.log(w) for w in weights]),
        "soft_best_of_n_kl_tie_free": lambda: kl,
        "soft_best_of_n_kl_from_range": lambda: mp.log(n / (1 + (n - 1) * mp.exp(-x))),
        "soft_best_of_n_kl_below_best_of_n": lambda: mp.fsum(
            p * mp.log(p / q) for p, q in zip(best, levels, strict=True) if p > 0
        ),
        "tilt_chi_squared_from_range": lambda: mp.sinh(x / 2) ** 2,
        "exponential_race_total_variation": lambda: (1 - 1 / max(weights)) ** n,
    }
    return {name: mp.workdps(DIGITS)(formula) for name, formula in formulas.items()}


def _pieces(mu: Real) -> list[Real]:
    """Where e^{-v} changes, up to where it is nothing."""
    ends = [mp.mpf(v) for v in (0, 1, 4, 16, 64, 256) if v < mu]
    return [*ends, mu] if mu < 400 else ends
