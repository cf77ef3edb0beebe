"""The one way in which the command gives up."""


class Failure(Exception):
    """There is no answer; says why in one line.

    The command prints it on standard error and exits with 2.
    """
