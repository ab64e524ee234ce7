"""Gui, Gârbacea and Veitch, *BoNBoN Alignment and the Sweetness of Best-of-n Sampling* [G]."""
