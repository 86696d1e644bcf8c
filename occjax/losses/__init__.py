"""Losses: what the student is trained to minimise."""
