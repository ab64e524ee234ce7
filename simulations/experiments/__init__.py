"""Experiments: a frozen configuration and ``run(config, key)``; no plotting, no printing."""
