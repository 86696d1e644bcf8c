"""Dumps of another model's evaluation script: read, checked and turned into teacher files."""
