"""Estimates with errors and calibrated checks, from counts and sums; no process is run here."""
