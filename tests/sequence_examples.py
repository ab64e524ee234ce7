"""A coin, a die, a chain, and laws of their sequences."""

import bon_theory as bt
from bon_theory import sequence

COIN = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
DIE_PROBS, DIE_REWARDS = [0.4, 0.1, 0.3, 0.2], [0.0, 0.5, 1.0, 2.0]
DIE = bt.Policy.from_probs(DIE_PROBS, DIE_REWARDS)
ROWS = [[0.6, 0.3, 0.1], [0.25, 0.7, 0.05], [0.1, 0.0, 0.9]]
CHAIN = sequence.MarkovChain.from_probs([0.2, 0.5, 0.3], ROWS, [0.0, 2.0, 1.0])


WHOLE = sequence.SequenceLaw.independent(COIN, 8)
BLOCKS = sequence.SequenceLaw.markov(CHAIN, 6, block_length=2)
