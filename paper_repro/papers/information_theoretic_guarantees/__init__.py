"""Mroueh, *Information Theoretic Guarantees For Policy Alignment* [M]."""
