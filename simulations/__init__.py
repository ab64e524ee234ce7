"""Everything random: the real processes against which exact theory is checked.

Imports go one way: this package uses ``bon_theory``, and nothing in ``bon_theory`` knows of it.
Inside, they go down: tools, statistics, draws, selection, engine, language models, experiments.

    from simulations import samplers, simulate
"""

from simulations.engine.accumulate import Schedule
from simulations.engine.conditional import conditional_law
from simulations.engine.curves import all_n, compare
from simulations.engine.simulate import simulate
from simulations.selection import samplers

__all__ = ["Schedule", "all_n", "compare", "conditional_law", "samplers", "simulate"]
