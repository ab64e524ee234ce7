"""Everything random: the real processes against which the exact theory of `bon_theory` is checked.

Imports go one way: this package uses `bon_theory`, and nothing in `bon_theory` knows of it.
"""
