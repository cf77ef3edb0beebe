"""The one way in which the command gives up."""

import errno
from typing import Optional

# A lock was taken each time, or there was no memory for the answer.
_BUSY = {errno.EAGAIN, errno.ENOMEM}

# What a dump has of a page is not whole.
_UNREADABLE = errno.EIO

ONLY_ROOT = 'only root may ask: type sudo in front of it'


class Failure(Exception):
    """There is no answer; says why in one line.

    The command prints it on standard error and exits with 2.
    """

    def __init__(self, text: str, number: Optional[int] = None) -> None:
        super().__init__(text)
        # the errno that was the answer; None where nobody could be asked
        self.number = number

    @property
    def no_page(self) -> bool:
        """Whether it is that there is no such page."""
        return self.number == errno.ENXIO

    @property
    def unmapped(self) -> bool:
        """Whether it is that the process maps no page there."""
        return self.number == errno.EFAULT

    @property
    def busy(self) -> bool:
        """Whether there may be an answer if it is asked again."""
        return self.number in _BUSY

    @property
    def of_a_page(self) -> bool:
        """Whether there may be an answer about another page."""
        return self.no_page or self.busy or self.number == _UNREADABLE
