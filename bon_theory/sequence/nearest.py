"""The best that any rule of n draws per block can do for the optimum over sequences."""

from __future__ import annotations

from bon_theory._arguments import Numbers
from bon_theory.policy import Policy
from bon_theory.reachable import nearest_reachable as nearest_law
from bon_theory.selection import exponential_tilt
from bon_theory.sequence.law import SequenceLaw, require_law
from bon_theory.sequence.look_ahead import look_ahead

__all__ = ["nearest_reachable"]


def nearest_reachable(
    reference: SequenceLaw, n: Numbers, temperature: Numbers, *, ahead: bool = False
) -> SequenceLaw:
    r"""Block by block the law nearest to the block's tilt that a rule of n draws can have.

    Of whole sequences (``block_length=None``) it is the nearest to the :func:`optimum` of *all*
    rules that return one of :math:`n` sequences, in every :math:`f`-divergence: what [V] says of
    soft best-of-n on sequences is true of no rule at less. In blocks of i.i.d. symbols, or with
    ``ahead``, each block's law is the nearest to the optimum's, given what was kept before.

    Args:
        reference: i.i.d. or Markov, in blocks.
        n: number of draws per block, real, at least 1; a scalar.
        temperature: :math:`\lambda > 0`; a scalar.
        ahead: whether a block's reward counts the value of the state that it ends in
            (:func:`look_ahead`).

    Raises:
        ValueError: ``n < 1`` or not finite; ``temperature`` is not positive and finite, or one of
            them is not a scalar.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> reference = sequence.SequenceLaw.independent(coin, length=8)
        >>> optimum = sequence.total_reward(sequence.optimum(reference, temperature=0.5))
        >>> for n in (64, 256):
        ...     soft = reference.select(bt.soft_best_of_n, n, 0.5)
        ...     best = sequence.nearest_reachable(reference, n, temperature=0.5)
        ...     print([round(float(bt.total_variation(sequence.total_reward(law), optimum)), 4)
        ...            for law in (soft, best)])
        [0.202, 0.1407]
        [0.0747, 0.0]

    Derived here.
    """
    require_law("reference", reference)
    values = look_ahead(reference, temperature)  # also where they are not wanted: it checks λ
    return reference.select(_nearest_to_tilt, n, temperature, look_ahead=values if ahead else None)


def _nearest_to_tilt(block: Policy, n: Numbers, temperature: Numbers) -> Policy:
    return nearest_law(exponential_tilt(block, temperature), block, n)
