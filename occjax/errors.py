"""Errors that a user can mend: shown as a message that names the rule, the value and the remedy, never as a trace."""


class UserError(ValueError):
    """Wrong input; the message names the rule, the value and the remedy."""


class DataError(UserError):
    """The data folder does not hold what the configuration asks for."""


class SampleError(DataError):
    """One file of one sample cannot be read; names the file and the sample token."""
