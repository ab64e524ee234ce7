"""Random words, variates, and the references that they draw from."""
