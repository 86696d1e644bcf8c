"""The base of every error that a user can mend: shown as a message, never as a stack trace."""


class UserError(ValueError):
    """Wrong input; the message names the rule, the value and the remedy."""
