"""Errors of the data path: each names the rule, the value and the remedy."""

from occjax.errors import UserError


class DataError(UserError):
    """The data folder does not hold what the configuration asks for."""


class SampleError(DataError):
    """One file of one sample cannot be read; names the file and the sample token."""
