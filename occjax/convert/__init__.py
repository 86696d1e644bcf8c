"""Conversions: foreign files become ours, teacher dumps, PyTorch weights, packed records."""
