"""``python -m bon_theory.cli`` is ``bon-theory``."""

from bon_theory.cli import run

run()
