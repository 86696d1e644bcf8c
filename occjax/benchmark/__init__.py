"""Costs of a configuration on this machine, measured stage by stage with its own data (`--mode=benchmark`)."""

# Before jax and numpy are loaded: they compute here under the settings that they have in the program.
import occjax.system.command_line  # noqa: F401
