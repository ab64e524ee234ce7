"""One page about a pool: curves with bands, the decision with its interval, the data's quality.

The page holds everything it shows, asks for nothing over the network and moves by precomputed exact
values alone.
"""

from bon_theory.report.contents import Contents, gather
from bon_theory.report.page import render

__all__ = ["Contents", "gather", "render"]
