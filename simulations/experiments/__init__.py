"""Experiments: a frozen `Config` and `run(config, key) -> Results`; no plotting, no printing."""
