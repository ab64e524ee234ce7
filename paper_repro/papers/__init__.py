"""Claims of papers, as data: one folder per paper."""
