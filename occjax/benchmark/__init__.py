"""Costs of a configuration on this machine, measured stage by stage with its own data (`--mode=benchmark`)."""
