"""Words and numbers as people read them; what is hostile in them is inert."""

import os
import re
import sys
from typing import Iterable, List, Sequence, TextIO

from .failure import Failure

COLOURS = {'bad': '31', 'good': '32', 'doubt': '33', 'head': '1', 'dim': '2'}


def plain(name: str) -> str:
    """A string from somewhere else, on one line and without effects.

    What cannot be printed, such as escape sequences and marks that turn the
    direction of writing, is written as a number.
    """
    return ''.join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    code = ord(character)
    return f'\\x{code:02x}' if code < 0x100 else f'\\u{code:04x}'


def kernel_name(name: str) -> str:
    """A name in a report, in which a byte is a character of that number."""
    try:
        return plain(name.encode('latin-1').decode('utf-8'))
    except UnicodeError:
        return plain(name)


def shortened(name: str, limit: int) -> str:
    """A name without its middle, where it is longer than that."""
    if len(name) <= limit:
        return name
    head = (limit - 3) // 2
    return f'{name[:head]}...{name[-(limit - 3 - head):]}'


def stem(comm: str) -> str:
    """A process's name without a number at its end."""
    return re.sub(r'[-_:./]?\d+$', '', comm) or comm


def count(number: int, thing: str, things: str = '') -> str:
    """How many of something."""
    return f'{number:,} {thing if number == 1 else things or thing + "s"}'


def hexa(number: int) -> str:
    """A number as the kernel prints it, with what tells that it is hex."""
    return f'{number:#x}'


def size(number: int) -> str:
    """Bytes, in the largest unit that divides them or nearly so."""
    value = float(number)
    for unit in ('B', 'KB', 'MB', 'GB', 'TB'):
        if value < 1024 or unit == 'TB':
            break
        value /= 1024
    return f'{value:.0f} {unit}' if value == int(value) \
        else f'{value:.1f} {unit}'


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = (),
            indent: str = '') -> List[str]:
    """Lines of a table, whose columns are as wide as they must be."""
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(len(row[i]) for row in table if i < len(row))
              for i in range(max(map(len, table)))]
    numbers = set(right)
    return [(indent + '  '.join(
        cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i])
        for i, cell in enumerate(row))).rstrip() for row in table]


def unwritten(error: OSError) -> Exception:
    """Why standard output takes no more; a closed pipe is no failure."""
    if isinstance(error, BrokenPipeError):
        return error
    return Failure(f'standard output: {os.strerror(error.errno or 0)}')


class Paper:
    """Where the answer is written; has colours if it is a terminal."""

    def __init__(self, stream: TextIO, colour: bool) -> None:
        self._stream = stream
        self._colour = colour

    def line(self, text: str = '') -> None:
        """Write one."""
        try:
            self._stream.write(text + '\n')
        except OSError as error:
            raise unwritten(error) from None

    def lines(self, texts: Iterable[str]) -> None:
        """Write several."""
        for text in texts:
            self.line(text)

    def flush(self) -> None:
        """Let it be seen now."""
        try:
            self._stream.flush()
        except OSError as error:
            raise unwritten(error) from None

    def mark(self, text: str, how: str) -> str:
        """Text that stands out, by a name of COLOURS, where that is seen."""
        return f'\033[{COLOURS[how]}m{text}\033[0m' if self._colour else text


class Progress:
    """What is under way, on a line of the terminal that is written anew."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._shown = -1
        self._stream = sys.stderr if sys.stderr.isatty() else None

    def at(self, done: int) -> None:
        """So much is done."""
        share = done * 100 // max(1, self._total)
        if self._stream and share != self._shown:
            self._shown = share
            self._stream.write(f'\r{self._what}: {share} %\033[K')
            self._stream.flush()

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream and self._shown >= 0:
            self._stream.write('\r\033[K')
            self._stream.flush()
