"""What the papers state, held against what this package computes: claims, verdicts, one report."""
