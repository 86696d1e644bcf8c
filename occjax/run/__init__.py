"""Modes and commands of the command line, a file each."""
