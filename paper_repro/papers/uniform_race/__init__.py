"""Shin, Pang, Jun, *Uniform Race*, and Liu, Wan, Gunduz, *ExpBoN* [U]."""
