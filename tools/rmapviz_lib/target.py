"""What people bring: numbers, lines of dmesg, blocks of memory, addresses."""

import re
from typing import Iterable, Iterator, List, NamedTuple, Optional

from .failure import Failure
from .proc import PAGE, Proc
from .words import hexa, shortened

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
# mm/page_owner.c, mm/memory-failure.c, mm/page_isolation.c.  Whole messages:
# a boot names a hundred other ranges of memory.
_HEX = r'(?:0[xX])?([0-9a-fA-F]+)\b'
_RANGES = (
    # alloc_contig_range: [1b8000, 1c0000) PFNs busy
    (re.compile(rf'\[{_HEX}, ?{_HEX}\) PFNs busy'), False),
    # memory offlining [mem 0x138000000-0x13fffffff] failed due to ...
    (re.compile(rf'\bmemory offlining \[mem {_HEX}-{_HEX}\] failed'), True),
    # removing memory fails, because memory [0x...-0x...] is onlined
    (re.compile(rf'\bbecause memory \[{_HEX}-{_HEX}\] is onlined'), True),
)
_SINGLES = (
    # migrating pfn a90e failed ret:1; failed to isolate pfn a90e;
    # memory range at pfn 0x1d2f3 ... is busy, retrying;
    # Soft offlining pfn 0x1d2f3 at process virtual address 0x...
    (re.compile(r'\b(?:migrating|failed to isolate|memory range at|'
                r'offlining|memory failure (?:at|for)) '
                rf'pfn {_HEX}'), 16),
    # Memory failure: 0x1d2f3: recovery action for ...; soft offline: 0x1d2f3:
    # soft_offline_page: 0x1d2f3 page already poisoned
    (re.compile(r'(?:Memory failure|[Ss]oft[ -]?offline|soft_offline_page|'
                rf'Unpoison): {_HEX}\b'), 16),
    # EDAC MC0: 1 CE ... (channel:0 slot:0 page:0x1d2f3 offset:0x0 ...
    (re.compile(r'\bpage:0x([0-9a-fA-F]+) offset:0x'), 16),
    # page_owner up to 6.1: PFN 119539 type Movable; later 0x1d2f3
    (re.compile(r'\bPFN 0x([0-9a-f]+) type '), 16),
    (re.compile(r'\bPFN ([0-9]+) type '), 10),
    # page:0000000012345678 refcount:1 ... pfn:0x1d2f3;
    # BUG: Bad page state in process x  pfn:1d2f3
    (re.compile(rf'\bpfn[:=] ?{_HEX}'), 16),
)

# cma_alloc() tells how many pages it wants first, then where it found it busy:
# cma_alloc(cma 00000000d2938dc4, name: hugetlb0, count 262144, align 18)
_CMA_COUNT = re.compile(r'\w*cma_alloc\w*\(cma [^,]*, (?:name: .*, )?'
                        r'count ([0-9]+), align ')
_CMA_BUSY = 'memory range at '

# No PFN has more digits, to any base; Python refuses to read thousands.
_DIGITS = 16


def of_line(line: str) -> List[Frames]:
    """The pages that a line of the kernel's log is about.

    What names no page that a machine can have is left out: such a line must
    not keep the others from being read.
    """
    found = []
    for pattern, bytes_ in _RANGES:
        for match in pattern.finditer(line):
            first, last = _int(match[1], 16), _int(match[2], 16)
            end = last // PAGE + 1 if bytes_ else last
            found.append((first // PAGE if bytes_ else first, end, match))
    for pattern, base in _SINGLES:
        for match in pattern.finditer(line):
            first = _int(match[1], base)
            found.append((first, first + 1, match))
    return [Frames(first, end - first, match[0]) for first, end, match
            in sorted(found, key=lambda item: item[2].start())
            if first < end <= MAX_PFN]


def _int(digits: str, base: int) -> int:
    """A number; one that no machine has if it is too long to be read."""
    digits = digits.lstrip('0') or '0'
    return int(digits, base) if len(digits) <= _DIGITS else MAX_PFN * PAGE


def _frames(first: int, count: int, said: str) -> Frames:
    said = shortened(said, 60)
    if count < 1:
        raise Failure(f'"{said}": it ends before it begins')
    if first + count > MAX_PFN:
        raise Failure(f'"{said}": no machine has such a page')
    return Frames(first, count, said)


# A PFN as it is typed: hex behind pfn: or 0x, and if it has letters.
_NUMBER = re.compile(r'(pfn:|PFN:)?(0[xX])?([0-9a-fA-F]+)')


def number(word: str, is_hex: bool = False, said: str = '') -> int:
    """A PFN as the module takes it: decimal, 0x hex, or pfn:HEX; it may be a
    part of what was said."""
    match = _NUMBER.fullmatch(word)
    if not match:
        raise Failure(f'"{shortened(said or word, 60)}": neither a PFN nor a '
                      "line of the kernel's log")
    return _int(match[3], 16 if is_hex or _is_hex(word) else 10)


def _is_hex(word: str) -> bool:
    match = _NUMBER.fullmatch(word)
    return bool(match and (match[1] or match[2]
                           or not match[3].isdecimal()))


def of_word(word: str, proc: Optional[Proc]) -> Frames:
    """PFN, FIRST-LAST, memoryN, or a path of such a block.

    A range is hex if one of its ends is.  Blocks are those of the running
    kernel, which is asked where there is a proc.
    """
    block = re.fullmatch(r'(?:.*/)?(memory[0-9]+)/?', word)
    if block:
        if not proc:
            raise Failure(f'{block[1]}: a dump does not tell where the blocks '
                          'of memory are; FIRST-LAST does')
        first, count = proc.block(block[1])
        return Frames(first, count, f'block {block[1]}')
    first_word, dash, last_word = word.partition('-')
    is_hex = _is_hex(first_word) or _is_hex(last_word)
    first = number(first_word, is_hex, word)
    if not dash:
        return _frames(first, 1, word)
    return _frames(first, number(last_word, is_hex, word) + 1 - first, word)


def of_lines(lines: Iterable[str]) -> Iterator[Frames]:
    """Every page that a log is about, each once, in its order."""
    seen = set()
    wanted = 1
    for line in lines:
        allocation = _CMA_COUNT.search(line)
        if allocation:
            wanted = max(1, _int(allocation[1], 10))
        for found in of_line(line):
            if (found.said.startswith(_CMA_BUSY)
                    and found.first + wanted <= MAX_PFN):
                found = found._replace(pages=wanted)
            if (found.first, found.pages) not in seen:
                seen.add((found.first, found.pages))
                yield found


# A word such as a line of the log has, and which is no target with a slip.
_PROSE = re.compile(r'(?!pfn:|memory[0-9])[A-Za-z_]{3,}', re.IGNORECASE)


def of_words(given: List[str], proc: Optional[Proc]) -> List[Frames]:
    """What the words of a command line are about.

    They may be targets, or lines of the log, in quotes or not.  Without
    quotes it is a line only if it has a word that is no mistaken target: else
    a slip in one target would make the others be forgotten.
    """
    if len(given) == 2 and given[0] == 'pfn':
        return [of_word(given[1], proc)]
    if len(given) == 2 and given[0] == 'phys':
        return [_frames(number(given[1]) // PAGE, 1, ' '.join(given))]
    if any(re.search(r'\s', word) for word in given):
        return [frames for word in given for frames in _of_text(word, proc)]
    try:
        return [of_word(word, proc) for word in given]
    except Failure:
        found = list(of_lines([' '.join(given)]))
        if not found or not any(map(_PROSE.match, given)):
            raise
        return found


def _of_text(word: str, proc: Optional[Proc]) -> List[Frames]:
    """Lines in quotes, or one target."""
    found = list(of_lines(word.splitlines()))
    if not found and re.search(r'\s', word.strip()):
        raise Failure(f'"{shortened(word, 60)}": no line of the kernel\'s log '
                      'that names a page')
    return found or [of_word(word.strip(), proc)]


def text(frames: Frames) -> str:
    """Some frames, as one would type them."""
    if frames.pages == 1:
        return hexa(frames.first)
    return f'{hexa(frames.first)}-{hexa(frames.end - 1)}'
