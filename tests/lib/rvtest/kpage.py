"""What /proc/kpageflags and /proc/kpagecount say of a frame.

An account of pages that is not the module's.  The bits are those of
include/uapi/linux/kernel-page-flags.h and include/linux/kernel-page-flags.h.
"""

import struct
from typing import Dict, FrozenSet, List, Sequence, Tuple

from .guest import Guest

_BITS = {
    0: 'locked', 2: 'referenced', 3: 'uptodate', 4: 'dirty', 5: 'lru',
    6: 'active', 7: 'slab', 8: 'writeback', 9: 'reclaim', 10: 'buddy',
    11: 'mmap', 12: 'anon', 13: 'swapcache', 14: 'swapbacked', 15: 'head',
    16: 'tail', 17: 'huge', 18: 'unevictable', 19: 'hwpoison', 20: 'nopage',
    21: 'ksm', 22: 'thp', 23: 'offline', 24: 'zero', 26: 'pgtable',
    32: 'reserved', 33: 'mlocked',
}

# Bits that make a kind, the first that is set decides.  A head's bits go for
# its tails: older kernels do not give them to these.
_KINDS = (
    ('nopage', 'nopage'), ('zero', 'zero'), ('ksm', 'ksm'),
    ('huge', 'hugetlb'), ('slab', 'slab'), ('pgtable', 'pagetable'),
    ('buddy', 'free'), ('offline', 'offline'), ('reserved', 'reserved'),
    ('anon', 'anon'),
)

Flags = FrozenSet[str]

# Bits that are flags of the page itself, of the same name.
PLAIN: Flags = frozenset((
    'referenced', 'uptodate', 'dirty', 'lru', 'active', 'writeback',
    'swapbacked', 'unevictable', 'mlocked'))


def names(word: int) -> Flags:
    """The names of the bits of one entry of /proc/kpageflags."""
    return frozenset(name for bit, name in _BITS.items() if word >> bit & 1)


def kind(flags: Flags) -> str:
    """The kind of a page; 'unknown' where the flags do not tell.

    That is a page of the kernel's, or one that waits in a per-CPU list to be
    allocated, or one on its way to the LRU lists.
    """
    for flag, what in _KINDS:
        if flag in flags:
            return what
    if {'swapcache', 'swapbacked'} <= flags:
        return 'anon'
    if 'lru' in flags or 'mmap' in flags:
        return 'shmem' if 'swapbacked' in flags else 'file'
    return 'unknown'


def says(flags: Flags, what: str, ksm_told: bool) -> bool:
    """Whether a page with these flags may be of that kind."""
    if ksm_told or 'ksm' not in flags:
        return what == kind(flags)
    other = kind(flags - {'ksm'})
    return what in (other, 'ksm' if other == 'anon' else other)


def ksm_told(guest: Guest) -> bool:
    """Whether the flag for KSM pages is theirs.

    Some kernels give it to all anonymous pages (6.12: stable_page_flags() of
    fs/proc/page.c tests two bits, of which these have one).  The stack of the
    first process has never been merged.
    """
    end = guest.check("sed -n 's/.*-\\([0-9a-f]*\\) .*\\[stack.*/\\1/p' "
                      '/proc/1/maps')
    entry, = _words(guest, '/proc/1/pagemap', (int(end, 16) >> 12) - 1, 1)
    flags, = kpageflags(guest, entry & (1 << 55) - 1, 1)
    assert 'anon' in flags
    return 'ksm' not in flags


def whole(words: Sequence[int]) -> List[Flags]:
    """Flags by frame; tails have their own and their head's."""
    cache: Dict[int, Flags] = {}
    found: List[Flags] = []
    head: Flags = frozenset()
    for word in words:
        flags = cache.get(word)
        if flags is None:
            flags = cache[word] = names(word)
        if 'tail' in flags:
            flags = flags | (head - {'head'})
        else:
            head = flags if 'head' in flags else frozenset()
        found.append(flags)
    return found


def _words(guest: Guest, path: str, first: int = 0,
           count: int = 0) -> Tuple[int, ...]:
    """Entries of one of the files, all of them without a count."""
    command = f'cat {path}'
    if count:
        command = f'dd if={path} bs=8 skip={first} count={count} 2>/dev/null'
    status, data = guest.run_bytes(command, 120)
    assert not status
    return struct.unpack(f'={len(data) // 8}Q', data)


def kpageflags(guest: Guest, first: int = 0, count: int = 0) -> List[Flags]:
    """The flags of frames, of all of them without a count."""
    return whole(_words(guest, '/proc/kpageflags', first, count))


def kpagecount(guest: Guest, first: int = 0,
               count: int = 0) -> Tuple[int, ...]:
    """How often frames are mapped, all of them without a count."""
    return _words(guest, '/proc/kpagecount', first, count)


def memory(guest: Guest) -> List[range]:
    """Frames of memory, which may have holes between them.

    Of a hole kpageflags can say "nopage", or nothing, as from 7.3 on.
    """
    found = []
    for line in guest.check('cat /proc/iomem').splitlines():
        span, _, name = line.partition(' : ')
        if name == 'System RAM':
            first, last = (int(word, 16) for word in span.split('-'))
            found.append(range(first >> 12, (last >> 12) + 1))
    return found
