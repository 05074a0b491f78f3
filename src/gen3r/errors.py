"""The one error that a user's input can raise."""


class InputError(ValueError):
    """Input that Gen3R cannot use. The message is one line and says what to do; the CLI exits with code 2."""
