"""Khalaf et al., *Inference-Time Reward Hacking in Large Language Models* [K]."""
