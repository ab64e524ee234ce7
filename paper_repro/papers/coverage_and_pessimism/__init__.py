"""Huang et al., *Is Best-of-N the Best of Them?* [H]."""
