"""Aminian et al., *Best-of-N through the Smoothing Lens* [A]."""
