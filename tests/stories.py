"""The stories that tests tell, and what must be said of their pages.

A story is what actors do, a command a line (see tests/guest/actor.c); a line
with ! is for the shell.  FAMILIES are about anonymous pages and the building
of anon_vmas above them, KINDS about every kind of page that rmap maps.
"""

import re
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import pytest

from rvtest import vm
from rvtest.disk import SETUP
from rvtest.guest import Guest
from rvtest.machine import Machine

FIRST = 0x10000000000 >> 12     # where an actor's first region is, in pages
HUGE = 512
ANY = -1


class Member(NamedTuple):
    """A page of a family of processes, and what must be said of it."""

    actor: str          # who is asked for the frame
    region: str
    page: int
    tree: str           # see rvtest.report.tree
    mapped_by: str
    visited: int


class Page(NamedTuple):
    """A page of a story, and what must be said of it."""

    actor: str          # who is asked for the frame
    region: str
    page: int
    kind: str
    mapped_by: str      # a name for each mapping
    levels: str = ''    # of the page tables, by mapping; '' is pte only
    pgoff: int = ANY    # index in its object, of the page asked for
    file: Optional[str] = None
    order: int = 0
    flags: str = ''     # of the folio, among others
    shares: str = ''    # p and s: the mapping VMAs, private and shared
    families: int = ANY     # of anon_vmas
    area: str = ''      # name of the VMAs that map it
    since73: int = ANY  # the same, from 7.3 on, where it differs
    exclusive: Optional[bool] = None    # of one process, and known to be


class Story(NamedTuple):
    """A story, and its pages: Members or Pages."""

    name: str
    told: str
    pages: Tuple[Any, ...]
    since: Tuple[int, int] = (0, 0)     # kernels that can do it
    why: str = ''                       # others cannot
    reuse: bool = False     # a fork reuses an anon_vma, so no rule for counts


class Case(NamedTuple):
    """One page of one story."""

    story: Story
    page: Any

    @property
    def what(self) -> str:
        """Which page that is, in words."""
        page = self.page
        return (f"{self.story.name}: {page.actor}'s page {page.page} of "
                f'{page.region}')


def slug(words: str) -> str:
    """Words as a part of a test's name that can be given to -k."""
    return re.sub('[^a-z0-9]+', '-', words.lower()).strip('-')


def cases(stories: Sequence[Story]) -> List[Any]:
    """Every page of every story, as a parameter of a test."""
    return [pytest.param(Case(story, page),
                         id=f'{slug(story.name)}:{page.actor}.{page.region}'
                            f'{page.page}')
            for story in stories for page in story.pages]


FAMILIES = (
    Story('a process that was executed', '''
        P exec E
        E map M 1
        E write M
        ''', (Member('E', 'M', 0, '*E', 'E', 1),)),

    Story('a fork', '''
        P map M 1
        P write M
        P fork C
        ''', (Member('P', 'M', 0, '*P(C)', 'P C', 2),)),

    Story('three storeys', '''
        P map M 1
        P write M
        P fork C
        C fork G
        ''', (Member('G', 'M', 0, '*P(C(G))', 'P C G', 3),)),

    Story('P1 wrote and shares its frame with P12', '''
        P map M 1
        P write M
        P fork P1
        P fork P2
        P1 write M
        P1 fork P12
        P2 fork P21
        ''', (Member('P', 'M', 0, '*P(P1(P12) P2(P21))', 'P P2 P21', 5),
              Member('P1', 'M', 0, 'P(*P1(P12) P2(P21))', 'P1 P12', 2))),

    Story('P12 and P21 have frames of their own', '''
        P map M 2
        P write M
        P fork P1
        P fork P2
        P1 fork P12
        P2 fork P21
        P12 write M 1
        P21 write M 1
        ''', (Member('P12', 'M', 1, 'P(P1(*P12) P2(P21))', 'P12', 1),
              Member('P21', 'M', 1, 'P(P1(P12) P2(*P21))', 'P21', 1),
              Member('P12', 'M', 0, '*P(P1(P12) P2(P21))',
                     'P P1 P12 P2 P21', 5),
              Member('P', 'M', 1, '*P(P1(P12) P2(P21))', 'P P1 P2', 5))),

    Story('the first touch comes after the fork', '''
        P map M 1
        P fork C
        C write M
        P write M
        ''', (Member('P', 'M', 0, '*P', 'P', 1),
              Member('C', 'M', 0, '*C', 'C', 1))),

    Story('a VMA that mprotect split in three', '''
        P map M 5
        P write M
        P mprotect M 2 1 r
        P fork C
        C write M 4
        ''', (Member('P', 'M', 2, '*P+P+P(C C C)', 'P C', 2),
              Member('P', 'M', 4, '*P+P+P(C C C)', 'P', 2),
              Member('C', 'M', 4, 'P+P+P(C C *C)', 'C', 1))),

    Story('a page that mremap moved', '''
        P map M 4
        P write M
        P mremap M 2 1 N
        ''', (Member('P', 'N', 0, '*P+P+P', 'P', 1),
              Member('P', 'M', 3, '*P+P+P', 'P', 1))),

    Story('a page that mremap moved in the child only', '''
        P map M 2
        P write M
        P fork C
        C mremap M 1 1 N
        C fork G
        ''', (Member('P', 'M', 1, '*P(C+C(G G))', 'P C G', 3),)),

    Story('an address that the parent uses for something else', '''
        P map M 2
        P write M
        P fork C
        P unmap M 0 1
        P map O 1 at 0x10000000000
        P write O
        ''', (Member('C', 'M', 0, '*P(C)', 'C', 2),)),

    Story('the owner of the page has exited', '''
        P map M 1
        P write M
        P fork C
        C write M
        C fork G
        C fork H
        C exit
        P wait C
        ''', (Member('G', 'M', 0, 'P(*?(G H))', 'G H', 2),
              Member('P', 'M', 0, '*P(?(G H))', 'P', 3))),

    Story('the grandparent has exited, the family lives on', '''
        P map M 2
        P write M
        P fork C
        C fork G
        P exit
        ''', (Member('G', 'M', 0, '*?(C(G))', 'C G', 2),)),

    Story('an anon_vma whose owner left is used again', '''
        P map M 1
        P write M
        P fork C
        C fork G
        C exit
        P wait C
        G fork H
        G write M
        ''', (Member('H', 'M', 0, '*P(H(G))', 'P H', 3),
              Member('G', 'M', 0, 'P(H(*G))', 'G', 2)), reuse=True),

    Story('processes that share an address space', '''
        P map M 1
        P write M
        P clone_vm S
        P fork C
        ''', (Member('P', 'M', 0, '*P(C)', 'P S C', 2),)),

    Story('a vfork child that has not executed yet', '''
        P map M 1
        P write M
        P vfork V
        ''', (Member('V', 'M', 0, '*P', 'P V', 1),)),

    Story('a thread is not a process of its own', '''
        P map M 1
        P write M
        P thread T
        P fork C
        ''', (Member('P', 'M', 0, '*P(C)', 'P C', 2),)),

    Story('a child that gave the page back', '''
        P map M 1
        P write M
        P fork C
        P fork D
        C madvise M 0 1 dontneed
        D unmap M 0 1
        ''', (Member('P', 'M', 0, '*P(C)', 'P', 2),)),

    Story('a copy of a page of a private file mapping', '''
        P map F 2 file /tmp/data 3
        P write F
        P fork C
        C write F 1
        C mremap F 1 1 N
        ''', (Member('P', 'F', 0, '*P(C+C)', 'P C', 2),
              Member('C', 'N', 0, 'P(*C+C)', 'C', 1))),

    Story('pages far apart in one VMA', '''
        P map M 1000
        P write M 0
        P write M 999
        P fork C
        C write M 999
        ''', (Member('P', 'M', 999, '*P(C)', 'P', 2),
              Member('C', 'M', 999, 'P(*C)', 'C', 1),
              Member('C', 'M', 0, '*P(C)', 'P C', 2))),
)

FILES = (
    Story('a shared file mapping', '''
        P map F 2 shared file /mnt/data 3
        P read F
        P fork C
        C read F 1
        ''', (Page('P', 'F', 1, 'file', 'P C', pgoff=4, file='/mnt/data',
                   shares='ss'),
              Page('P', 'F', 0, 'file', 'P', pgoff=3, file='/mnt/data',
                   shares='s'))),

    Story('a process that maps a page of a file three times', '''
        P map A 2 shared file /mnt/data 0
        P map B 1 file /mnt/data 1
        P map C 3 shared file /mnt/data 1
        P read A
        P read B
        P read C
        ''', (Page('P', 'B', 0, 'file', 'P P P', pgoff=1, file='/mnt/data',
                   shares='pss'),
              Page('P', 'C', 2, 'file', 'P', pgoff=3, file='/mnt/data'))),

    Story('a file, private and shared, at several offsets and addresses', '''
        P fork Q
        P map A 4 shared file /mnt/data 5
        Q map G 1
        Q map B 8 file /mnt/data 2
        P read A
        Q read B
        Q fork R
        R read B
        Q write B 4
        ''', (Page('P', 'A', 0, 'file', 'P Q R', pgoff=5, file='/mnt/data',
                   shares='pps'),
              Page('P', 'A', 1, 'file', 'P R', pgoff=6, file='/mnt/data',
                   shares='ps'),
              Page('Q', 'B', 4, 'anon', 'Q', pgoff=6,
                   since73=FIRST + 2 * HUGE + 4))),

    Story('copies of pages of a private file mapping', '''
        P map F 3 file /mnt/data 7
        P write F
        P fork C
        C write F 2
        C mremap F 1 1 N
        ''', (Page('P', 'F', 0, 'anon', 'P C', pgoff=7, since73=FIRST),
              Page('C', 'N', 0, 'anon', 'P C', pgoff=8, since73=FIRST + 1),
              Page('C', 'F', 2, 'anon', 'C', pgoff=9, since73=FIRST + 2))),

    Story('a file that is deleted', '''
        P map F 3 shared file /mnt/gone 1
        P write F
        P fork C
        C read F
        ! rm /mnt/gone
        ''', (Page('C', 'F', 2, 'file', 'P C', pgoff=3,
                   file='/mnt/gone (deleted)'),)),

    Story('a file that was renamed, of an odd name', '''
        P map F 1 shared file /mnt/old 2
        P write F
        ! mv /mnt/old '/mnt/"new"  one'
        ''', (Page('P', 'F', 0, 'file', 'P', pgoff=2,
                   file='/mnt/"new"  one'),)),

    Story('mlock of a file page by one of two', '''
        P map F 3 shared file /mnt/data 1
        P read F
        P fork C
        C read F
        C mlock F 1 1
        ''', (Page('P', 'F', 1, 'file', 'P C', pgoff=2, file='/mnt/data',
                   flags='mlocked unevictable'),
              Page('P', 'F', 0, 'file', 'P C', pgoff=1, file='/mnt/data'))),

    Story('a file mapping that moved and was cut', '''
        P map F 8 shared file /mnt/data 8
        P read F
        P mremap F 2 3 N
        P unmap N 0 1
        P read N 1 2
        ''', (Page('P', 'N', 1, 'file', 'P', pgoff=11, file='/mnt/data'),
              Page('P', 'F', 7, 'file', 'P', pgoff=15, file='/mnt/data'))),
)

SHMEM = (
    Story('a file of tmpfs', '''
        P map F 3 shared file /tmp/some 2
        P write F
        P fork C
        C read F 1
        ''', (Page('C', 'F', 1, 'shmem', 'P C', pgoff=3, file='/tmp/some',
                   shares='ss'),)),

    Story('a private mapping of a file of tmpfs', '''
        P map F 3 file /tmp/some 1
        P map G 3 shared file /tmp/some 0
        P read F
        P read G
        P write F 2
        ''', (Page('P', 'F', 0, 'shmem', 'P P', pgoff=1, file='/tmp/some',
                   shares='ps'),
              Page('P', 'F', 2, 'anon', 'P', pgoff=3, since73=FIRST + 2))),

    Story('a memfd', '''
        P map M 4 shared memfd secret
        P write M
        P fork C
        C write M 3
        ''', (Page('C', 'M', 3, 'shmem', 'P C', pgoff=3,
                   file='/memfd:secret (deleted)', shares='ss'),)),

    Story('System V shared memory', '''
        P map M 4 sysv
        P write M
        P fork C
        C read M
        ''', (Page('C', 'M', 2, 'shmem', 'P C', pgoff=2,
                   file='/SYSV00000000 (deleted)', shares='ss'),)),

    Story('shared anonymous memory', '''
        P map M 4 shared
        P fork C
        C write M 2
        P read M
        ''', (Page('P', 'M', 2, 'shmem', 'P C', pgoff=2,
                   file='/dev/zero (deleted)', shares='ss'),)),

    Story('a huge page of tmpfs', f'''
        P map F {HUGE} shared file /huge/file {HUGE}
        P write F 0
        P fork C
        C read F 77
        ''', (Page('P', 'F', 77, 'shmem', 'P C', 'pmd pmd', pgoff=HUGE + 77,
                   file='/huge/file', order=9),
              Page('P', 'F', 0, 'shmem', 'P C', 'pmd pmd', pgoff=HUGE,
                   file='/huge/file', order=9))),

    Story('a huge page of tmpfs, PMD-mapped here and PTE-mapped there', f'''
        P map F {HUGE} shared file /huge/other 0
        P write F 0
        P fork C
        C map S 8 shared file /huge/other 100
        C read S
        ''', (Page('P', 'F', 103, 'shmem', 'P C', 'pmd pte', pgoff=103,
                   file='/huge/other', order=9),
              Page('P', 'F', 3, 'shmem', 'P', 'pmd', pgoff=3,
                   file='/huge/other', order=9))),
)

THP = (
    Story('a huge page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        ''', (Page('P', 'M', 0, 'anon', 'P', 'pmd', pgoff=FIRST, order=9,
                   exclusive=True),
              Page('P', 'M', 511, 'anon', 'P', 'pmd', pgoff=FIRST + 511,
                   order=9, exclusive=True))),

    Story('a huge page of parent and child', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P fork C
        C fork G
        ''', (Page('G', 'M', 77, 'anon', 'P C G', 'pmd pmd pmd',
                   pgoff=FIRST + 77, order=9),)),

    Story('a huge page that one process has split by munmap', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P fork C
        C unmap M 100 8
        ''', (Page('P', 'M', 99, 'anon', 'P C', 'pmd pte', pgoff=FIRST + 99,
                   order=9),
              Page('P', 'M', 0, 'anon', 'P C', 'pmd pte', pgoff=FIRST,
                   order=9),
              Page('P', 'M', 100, 'anon', 'P', 'pmd', pgoff=FIRST + 100,
                   order=9),
              Page('C', 'M', 511, 'anon', 'P C', 'pmd pte',
                   pgoff=FIRST + 511, order=9))),

    Story('a huge page of which mremap moved a part', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P fork C
        P mremap M 10 20 N
        ''', (Page('P', 'N', 5, 'anon', 'P C', 'pmd pte', pgoff=FIRST + 15,
                   order=9),
              Page('P', 'M', 40, 'anon', 'P C', 'pmd pte', pgoff=FIRST + 40,
                   order=9))),

    Story('a huge page that was made of small ones', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} nohugepage
        P write M
        P madvise M 0 {HUGE} hugepage
        P madvise M 0 {HUGE} collapse
        P fork C
        ''', (Page('C', 'M', 300, 'anon', 'P C', 'pmd pmd',
                   pgoff=FIRST + 300, order=9),),
          since=(6, 1), why='MADV_COLLAPSE came with 6.1'),

    Story('a huge page in pieces of several protections', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P mprotect M 200 1 r
        ''', (Page('P', 'M', 200, 'anon', 'P', 'pte', pgoff=FIRST + 200,
                   order=9),
              Page('P', 'M', 201, 'anon', 'P', 'pte', pgoff=FIRST + 201,
                   order=9))),

    # at an offset by which half of it would be missed from 7.3 on, if it were
    # taken for that of the page
    Story('a huge page of a private mapping of /dev/zero', f'''
        P map Z {HUGE} file /dev/zero {FIRST + HUGE // 2}
        P madvise Z 0 {HUGE} hugepage
        P write Z 0
        P fork C
        C unmap Z 100 8
        ''', (Page('P', 'Z', 0, 'anon', 'P C', 'pmd pte', order=9,
                   pgoff=FIRST + HUGE // 2, since73=FIRST,
                   area='/dev/zero'),
              Page('C', 'Z', 511, 'anon', 'P C', 'pmd pte', order=9,
                   pgoff=FIRST + HUGE // 2 + 511, since73=FIRST + 511))),

    Story('a huge page of which the child has copied a page', f'''
        P map M {HUGE}
        P madvise M 0 {HUGE} hugepage
        P write M 0
        P fork C
        C write M 9
        ''', (Page('P', 'M', 9, 'anon', 'P', 'pmd', pgoff=FIRST + 9,
                   order=9),
              Page('P', 'M', 10, 'anon', 'P C', 'pmd pte',
                   pgoff=FIRST + 10, order=9),
              Page('C', 'M', 9, 'anon', 'C', pgoff=FIRST + 9))),
)

HUGETLB = (
    Story('private hugetlb', f'''
        P map H {2 * HUGE} hugetlb
        P write H
        P fork C
        ''', (Page('C', 'H', HUGE + 3, 'hugetlb', 'P C', 'pmd pmd',
                   pgoff=HUGE + 3, since73=FIRST + HUGE + 3, order=9,
                   shares='pp', exclusive=False),
              Page('P', 'H', 0, 'hugetlb', 'P C', 'pmd pmd', pgoff=0,
                   since73=FIRST, order=9))),

    Story('private hugetlb that a child has written', f'''
        P map H {HUGE} hugetlb
        P write H
        P fork C
        C write H 1
        ''', (Page('C', 'H', 8, 'hugetlb', 'C', 'pmd', order=9,
                   pgoff=8, since73=FIRST + 8, exclusive=True),
              Page('P', 'H', 8, 'hugetlb', 'P', 'pmd', order=9,
                   pgoff=8, since73=FIRST + 8))),

    Story('shared hugetlb', f'''
        P map H {2 * HUGE} shared hugetlb
        P write H
        P fork C
        C read H
        ''', (Page('C', 'H', HUGE + 3, 'hugetlb', 'P C', 'pmd pmd',
                   pgoff=HUGE + 3, order=9, shares='ss',
                   file='/anon_hugepage (deleted)'),
              Page('P', 'H', 0, 'hugetlb', 'P C', 'pmd pmd', pgoff=0,
                   order=9, shares='ss', file='/anon_hugepage (deleted)'))),

    Story('a file of hugetlbfs, private and shared', f'''
        P map H {HUGE} shared file /dev/hugepages/file {HUGE}
        P write H 0
        P fork C
        C read H 0
        C map I {HUGE} file /dev/hugepages/file {HUGE}
        C read I 0
        ''', (Page('P', 'H', 7, 'hugetlb', 'P C C', 'pmd pmd pmd',
                   pgoff=HUGE + 7, order=9, shares='pss',
                   file='/dev/hugepages/file'),)),
)

KSM = (
    Story('equal pages at unequal offsets', '''
        P fork Q
        P map M 4
        Q map A 1
        Q map N 4
        P fill M 0 1 7
        P fill M 3 1 7
        Q fill N 2 1 7
        P madvise M 0 4 mergeable
        Q madvise N 0 4 mergeable
        ! ksm
        ''', (Page('P', 'M', 0, 'ksm', 'P P Q', families=2),
              Page('Q', 'N', 2, 'ksm', 'P P Q', families=2))),

    Story('a merged page over forks', '''
        P map M 4
        P fill M 0 4 9
        P madvise M 0 4 mergeable
        ! ksm
        P fork C
        C fork G
        C write M 1
        ''', (Page('G', 'M', 3, 'ksm', 'P P P P C C C G G G G',
                   families=1),)),

    Story('a merged page that mremap moved', '''
        P map M 4
        P fill M 0 4 11
        P madvise M 0 4 mergeable
        ! ksm
        P fork C
        P mremap M 1 2 N
        ! ksm
        ''', (Page('P', 'N', 1, 'ksm', 'P P P P C C C C', families=1),)),

    Story('pages merged after mremap moved them', '''
        P map M 4
        P fill M 0 4 13
        P mremap M 1 2 N
        P fork C
        C fill M 0 1 13
        C fill N 0 2 14
        C fill M 3 1 15
        P madvise N 0 2 mergeable
        P madvise M 3 1 mergeable
        C madvise M 0 1 mergeable
        ! ksm
        ''', (Page('P', 'N', 1, 'ksm', 'P P P C', families=1),)),
)

OWN = (
    Story('pages of one process and of two', '''
        P map M 3
        P write M
        P fork C
        P write M 1
        C write M 2
        ''', (Page('P', 'M', 0, 'anon', 'P C', exclusive=False),
              Page('P', 'M', 1, 'anon', 'P', exclusive=True),
              Page('P', 'M', 2, 'anon', 'P', exclusive=False),
              Page('C', 'M', 2, 'anon', 'C', exclusive=True))),

    Story('the heap', '''
        P own H heap
        P fork C
        ''', (Page('C', 'H', 0, 'anon', 'P C', area='[heap]'),)),

    Story('the stack', '''
        P fork C
        C own S stack
        ''', (Page('C', 'S', 0, 'anon', 'C', area='[stack]'),)),

    Story('the text of a program', '''
        P own T text
        P fork C
        C own T text
        ''', (Page('P', 'T', 0, 'shmem', 'P C', file='/bin/actor',
                   area='/bin/actor', shares='pp'),)),
)

SWAP = (
    # pages in the LRU batch of another CPU would not be paged out
    Story('a page that came back from swap for one of two', '''
        P map M 4
        P write M
        ! drain
        P madvise M 0 4 pageout
        ! idle
        P fork C
        P read M 1
        ''', (Page('P', 'M', 1, 'anon', 'P', pgoff=FIRST + 1,
                   flags='swapcache'),)),

    Story('mlock of an anonymous page', '''
        P map M 4
        P write M
        P mlock M 1 1
        ''', (Page('P', 'M', 1, 'anon', 'P', pgoff=FIRST + 1,
                   flags='mlocked unevictable'),)),
)

LARGE = (
    Story('a large folio of the page cache', '''
        ! large /mnt/large
        P map F 64 shared file /mnt/large 0
        P map G 8 file /mnt/large 3
        P read F
        P read G
        P fork C
        C read F 0 20
        C unmap F 40 24
        ''', (Page('P', 'F', 5, 'file', 'P P C', pgoff=5, file='/mnt/large',
                   order=6, shares='pss'),
              Page('P', 'F', 63, 'file', 'P', pgoff=63, file='/mnt/large',
                   order=6)),
          since=(7, 0), why='ext4 has no large folios'),
)

KINDS = FILES + SHMEM + THP + HUGETLB + KSM + OWN + SWAP + LARGE

# Functions of the guest's shell, for lines with !.
FUNCTIONS = (
    # the swap disk has nothing to do any more
    "idle() { until grep -q '^ *0 *0$' /sys/block/vdb/inflight; "
    'do usleep 10000; done; }',

    # merge what there is to merge: pages that are seen unchanged
    'ksm() { local at=/sys/kernel/mm/ksm; local n=$(cat $at/full_scans); '
    'echo 1 >$at/run; until [ $(cat $at/full_scans) -ge $((n + 4)) ]; '
    'do usleep 10000; done; echo 0 >$at/run; }',

    # one write of a whole file, for which there is one folio
    'large() { rm -f $1; dd if=/bin/busybox of=$1 bs=256k count=1 '
    '2>/dev/null; sync $1; }',

    # all that actors map looks unused
    'old() { for pid in $(pidof actor); do '
    'echo 1 >/proc/$pid/clear_refs; done; }',
)


def prepare(guest: Guest) -> None:
    """File systems, swap and huge pages, and nobody who changes pages unasked.

    A fault is to map the page that was touched, and not what is around it.
    Writeback is put off; with an interval of 0 it can come as soon as
    something is dirty.
    """
    guest.check(SETUP)
    guest.check('head -c 819200 </bin/busybox >/mnt/data; '
                'sync; echo 3 >/proc/sys/vm/drop_caches')
    guest.check('mkdir /huge; mount -t tmpfs -o huge=always huge /huge; '
                'mkdir /ram; mount -t ramfs ram /ram; '
                'echo 16 >/proc/sys/vm/nr_hugepages')
    guest.check('echo 4096 >/sys/kernel/debug/fault_around_bytes; '
                'echo 360000 >/proc/sys/vm/dirty_writeback_centisecs; '
                'cd /sys/kernel/mm; echo 0 >ksm/sleep_millisecs; '
                'echo 1000 >ksm/pages_to_scan; '
                'echo 3600000 >transparent_hugepage/khugepaged/'
                'scan_sleep_millisecs; cd /')
    for function in FUNCTIONS:
        guest.check(function)


# What KINDS are told in.  A cache of AVCs is theirs alone: a test counts them.
PREPARED = Machine(name='prepared', append='slab_nomerge', disks=True,
                   prepare=prepare)


def skip_unless_able(series: str, story: Story) -> None:
    """Skip a test of a story that the kernel cannot do."""
    why = why_not(series, story)
    if why:
        pytest.skip(why)


def why_not(series: str, story: Story) -> str:
    """Why that kernel cannot do what a story tells, or nothing."""
    if version(series) < story.since:
        return story.why
    large = 'hugepage' in story.told.split() or any(
        getattr(page, 'order', 0) and page.kind != 'hugetlb'
        for page in story.pages)
    if large and 'CONFIG_TRANSPARENT_HUGEPAGE=y' not in vm.config(series):
        return 'the kernel has no large folios but those of hugetlb'
    return ''


def version(series: str) -> Tuple[int, int]:
    """Major and minor number of a kernel, for Story.since."""
    major, minor = vm.release(series).split('.')[:2]
    return int(major), int(minor)


# Some of everything that rmap maps, in two processes that share it.
EVERYTHING = '''
    P map A 300
    P write A
    P map F 200 shared file /mnt/data 0
    P read F
    P map C 200 file /mnt/data 0
    P write C 0 100
    P read C 100 100
    P map S 100 shared
    P write S
    P map H 1024
    P madvise H 0 1024 hugepage
    P write H
    P fork Q
    Q write A 0 50
    Q unmap H 100 1
    Q read F'''
