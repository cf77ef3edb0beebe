"""What people bring: numbers, lines of dmesg, blocks of memory, addresses."""

import re
from typing import Iterator, List, NamedTuple, Optional

from .failure import Failure
from .proc import PAGE, Proc
from .words import hexa

# No physical address has more bits.
MAX_PFN = 1 << 52 >> 12


class Frames(NamedTuple):
    """Some pages in a row, and the words that named them."""

    first: int
    pages: int
    said: str

    @property
    def end(self) -> int:
        """The frame behind them."""
        return self.first + self.pages


# Where the kernel prints a PFN, and to which base.  The formats are those of
# 5.10 to 7.3: mm/memory_hotplug.c, mm/debug.c, mm/page_alloc.c, mm/cma.c,
# mm/page_owner.c, mm/memory-failure.c, mm/page_isolation.c.
_HEX = r'(?:0[xX])?([0-9a-fA-F]+)\b'
_RANGES = (
    # alloc_contig_range: [1b8000, 1c0000) PFNs busy
    (re.compile(rf'\[{_HEX}, ?{_HEX}\) PFNs busy'), 1),
    # memory offlining [mem 0x138000000-0x13fffffff] failed due to ...
    (re.compile(rf'\[mem {_HEX}-{_HEX}\]'), PAGE),
)
_SINGLES = (
    # migrating pfn a90e failed ret:1; failed to isolate pfn a90e;
    # memory range at pfn 0x1d2f3 ... is busy, retrying
    (re.compile(rf'\bpfn {_HEX}'), 16),
    # page:0000000012345678 refcount:1 ... pfn:0x1d2f3;
    # BUG: Bad page state in process x  pfn:1d2f3
    (re.compile(rf'\bpfn[:=] ?{_HEX}'), 16),
    # page_owner up to 6.1: PFN 119539 type Movable; later 0x1d2f3
    (re.compile(r'\bPFN (0x[0-9a-f]+|\d+) type '), 0),
    # Memory failure: 0x1d2f3: recovery action for ...; soft offline: 0x1d2f3:
    (re.compile(r'(?:Memory failure|[Ss]oft[ -]?offline|Unpoison): '
                rf'{_HEX}\b'), 16),
    # EDAC MC0: 1 CE ... (channel:0 slot:0 page:0x1d2f3 offset:0x0 ...
    (re.compile(r'\bpage:0x([0-9a-fA-F]+) offset:0x'), 16),
)


def of_line(line: str) -> Optional[Frames]:
    """The pages that a line of the kernel's log is about, if any."""
    for pattern, unit in _RANGES:
        match = pattern.search(line)
        if match:
            first = int(match[1], 16) // unit
            end = -(-int(match[2], 16) // unit)
            return _frames(first, end - first, match[0])
    for pattern, base in _SINGLES:
        match = pattern.search(line)
        if match:
            return _frames(int(match[1], base), 1, match[0])
    return None


def _frames(first: int, count: int, said: str) -> Frames:
    if count < 1:
        raise Failure(f'"{said}": it ends before it begins')
    if first + count > MAX_PFN:
        raise Failure(f'"{said}": no machine has such a page')
    return Frames(first, count, said)


def number(word: str) -> int:
    """A PFN as the module takes it: decimal, 0x hex, or pfn:HEX."""
    match = re.fullmatch(r'(?:pfn:|PFN:)(?:0x)?([0-9a-fA-F]+)', word)
    if match:
        return int(match[1], 16)
    if re.fullmatch(r'0[xX][0-9a-fA-F]+|\d+', word):
        return int(word, 16) if word[1:2] in 'xX' and len(word) > 2 \
            else int(word)
    if re.fullmatch(r'[0-9a-fA-F]+', word):
        return int(word, 16)    # what has a letter can only be hex
    raise Failure(f'"{word}": neither a PFN nor a line of the kernel\'s log')


def of_word(word: str, proc: Proc) -> Frames:
    """PFN, FIRST-LAST, memoryN, or a path of such a block."""
    block = re.fullmatch(r'(?:.*/)?(memory\d+)/?', word)
    if block:
        first, count = proc.block(block[1])
        return Frames(first, count, f'block {block[1]}')
    first_word, dash, last_word = word.partition('-')
    first = number(first_word)
    if not dash:
        return _frames(first, 1, word)
    return _frames(first, number(last_word) + 1 - first, word)


def of_lines(lines: List[str]) -> Iterator[Frames]:
    """Every page that a log is about, each once, in its order."""
    seen = set()
    for line in lines:
        found = of_line(line)
        if found and (found.first, found.pages) not in seen:
            seen.add((found.first, found.pages))
            yield found


def of_words(given: List[str], proc: Proc) -> List[Frames]:
    """What the words of a command line are about.

    They may be PFNs, or one line of the log, in quotes or not.
    """
    if len(given) == 2 and given[0] == 'pfn':
        return [of_word(given[1], proc)]
    if len(given) == 2 and given[0] == 'phys':
        return [_frames(number(given[1]) // PAGE, 1, ' '.join(given))]
    line = ' '.join(given)
    if re.search(r'\s|^\[|pfn[:=]', line):
        found = list(of_lines(line.splitlines()))
        if found:
            return found
    return [of_word(word, proc) for word in given]


def text(frames: Frames) -> str:
    """Some frames, as one would type them."""
    if frames.pages == 1:
        return hexa(frames.first)
    return f'{hexa(frames.first)}-{hexa(frames.end - 1)}'
