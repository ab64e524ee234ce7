"""Rewards of a response: of its text, of its tokens one by one, or learned from preferences.

None stands for what a person would prefer. They cover the cases that the theory tells apart:

* a sum over tokens (:mod:`~simulations.language_model.rewards.tokens`), for which selecting block
  by block is the same problem on every block;
* a text's sentiment, which is nearly such a sum; a count, with large atoms; a mean log-likelihood
  with almost no ties (:mod:`~simulations.language_model.rewards.text`);
* a proxy that was learned from noisy preferences of a true reward
  (:mod:`~simulations.language_model.rewards.bradley_terry`), and differs from it.

Any function from texts to numbers is a reward: ``text.score`` calls it and
checks what comes back.
"""
