"""Mayrink Verdun, Oesterling, Lakkaraju and Calmon, *Soft Best-of-n Sampling* [V]."""
