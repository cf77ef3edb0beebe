#!/usr/bin/python3
"""Every kind of page that rmap maps, told as stories.

For every page that a story names, and for its whole folio:

- it is mapped where the processes find it in their own pagemaps: the sets of
  (pid, address, frame) are equal;
- its kind is what /proc/kpageflags makes of it, its count that of
  /proc/kpagecount, its VMAs are those of /proc/PID/maps;
- it has the file, the index and whatever else the story knows;
- nothing holds it that the report does not know of.
"""

import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest import kpage  # noqa: E402
from rvtest.disk import SETUP, Disks  # noqa: E402
from rvtest.report import Report, faults, page_mappings  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

FIRST = 0x10000000000 >> 12     # where an actor's first region is, in pages
HUGE = 512
ANY = -1


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
    """A story: a line with ! is for the shell."""

    name: str
    told: str
    pages: Tuple[Page, ...]
    since: Tuple[int, int] = (0, 0)     # kernels that can do it
    why: str = ''                       # others cannot
    reuse: bool = False                 # see rvtest.report.faults


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
        ! sleep 0.5
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
        P map F 64 shared file /mnt/large 0
        P map G 8 file /mnt/large 3
        P read F
        P read G
        P fork C
        C read F 0 20
        ''', (Page('P', 'F', 5, 'file', 'P P C', pgoff=5, file='/mnt/large',
                   order=ANY, shares='pss'),
              Page('P', 'F', 63, 'file', 'P', pgoff=63, file='/mnt/large',
                   order=ANY)),
          since=(7, 0), why='ext4 has no large folios'),
)

STORIES = FILES + SHMEM + THP + HUGETLB + KSM + OWN + SWAP + LARGE

# What was written to swap stays in memory, until somebody wants a lot of it.
RECLAIM_FUNCTION = (
    'reclaim() { local at=/proc/sys/vm/nr_hugepages; local n=$(cat $at); '
    'echo 2000 >$at; echo $n >$at; }')

# Merge what there is to merge; a page is merged when it is seen unchanged.
KSM_FUNCTION = (
    'ksm() { local at=/sys/kernel/mm/ksm; local n=$(cat $at/full_scans); '
    'echo 1 >$at/run; until [ $(cat $at/full_scans) -ge $((n + 4)) ]; '
    'do usleep 10000; done; echo 0 >$at/run; }; '
    'echo 0 >/sys/kernel/mm/ksm/sleep_millisecs; '
    'echo 1000 >/sys/kernel/mm/ksm/pages_to_scan')


def prepare(guest: Guest) -> None:
    """File systems, swap, huge pages."""
    guest.check(SETUP)
    guest.check('head -c 262144 </bin/busybox >/mnt/data; '
                'head -c 262144 </bin/busybox >/mnt/large; '
                'sync; echo 3 >/proc/sys/vm/drop_caches')
    # one read of all of it, so that read-ahead makes large folios
    guest.check('dd if=/mnt/large of=/dev/null bs=256k 2>/dev/null')
    # a fault maps the page that was touched, and not what is around it
    guest.check('echo 4096 >/sys/kernel/debug/fault_around_bytes')
    guest.check('mkdir /huge; mount -t tmpfs -o huge=always huge /huge; '
                'echo 16 >/proc/sys/vm/nr_hugepages')
    guest.check(RECLAIM_FUNCTION)
    guest.check(KSM_FUNCTION)


def release(guest: Guest) -> Tuple[int, int]:
    """Major and minor number of the kernel."""
    major, minor = guest.check('uname -r').split('.')[:2]
    return int(major), int(minor)


def index_of(page: Page, kernel: Tuple[int, int]) -> int:
    """The index that a page must have.

    Until 7.3 a copy of a page of a file kept its offset in that file.
    """
    if kernel >= (7, 3) and page.since73 != ANY:
        return page.since73
    return page.pgoff


def exclusive_of(page: Page, kernel: Tuple[int, int],
                 got: Dict[str, object]) -> object:
    """What must be said of whether a page is of one process only.

    Before 5.19 no kernel knew.  The flag's bit has another name, which must
    not be told: mappedtodisk, or owner_2 from between 6.1 and 6.12 on.
    """
    if page.exclusive is None:
        return got['exclusive']
    return ['anon-exclusive'] if page.exclusive and kernel >= (5, 19) else []


def facts(scene: Scene, page: Page, report: Report) -> Dict[str, object]:
    """What of a report a story may know."""
    names = scene.names()
    ptes = [(names.get(pid, '?'), pte['level'],
             report['vmas'][pte['vma']]['perms'][3])
            for pte in report['ptes']
            for pid in report['mms'][report['vmas'][pte['vma']]['mm']]
            ['tasks']]
    found: Dict[str, object] = {
        'kind': report['page']['kind'],
        'mapped_by': sorted(name for name, _, _ in ptes),
        'levels': sorted(level for _, level, _ in ptes),
        'index': report['page']['index'],
        'file': report['page'].get('file'),
        'order': report['page']['order'],
        'flags': sorted(set(page.flags.split())
                        & set(report['page']['flags'])),
        'exclusive': sorted({'anon-exclusive', 'mappedtodisk', 'owner_2'}
                            & set(report['page']['flags'])),
        'shares': ''.join(sorted(share for _, _, share in ptes)),
        'families': sum(av['root'] == av['id']
                        for av in report['anon_vmas']),
        'area': sorted({vma['name'] or '' for vma in report['vmas']
                        if vma['mapped']}),
    }
    return found


def wanted(page: Page, kernel: Tuple[int, int], got: Dict[str, object]
           ) -> Dict[str, object]:
    """The same as the story tells them; what it does not know is as it is."""
    mappings = page.mapped_by.split()
    index = index_of(page, kernel)
    return {
        'kind': page.kind,
        'mapped_by': sorted(mappings),
        'levels': sorted(page.levels.split()) or ['pte'] * len(mappings),
        'index': got['index'] if index == ANY else f'{index:#x}',
        'file': page.file,
        'order': got['order'] if page.order == ANY else page.order,
        'flags': sorted(page.flags.split()),
        'exclusive': exclusive_of(page, kernel, got),
        'shares': page.shares or got['shares'],
        'families': got['families'] if page.families == ANY
        else page.families,
        'area': [page.area] if page.area else got['area'],
    }


def check_page(tap: Tap, scene: Scene, story: Story, page: Page,
               kernel: Tuple[int, int]) -> None:
    """All that a story says of one of its pages."""
    what = f"{story.name}: {page.actor}'s page {page.page} of {page.region}"
    pfn = scene.pfn(page.actor, page.region, page.page)
    report = scene.ask(f'{pfn}')

    tap.is_equal(sorted(page_mappings(report)),
                 sorted(scene.witness_all(pfn, 1)),
                 f'{what}: mapped where the pagemaps say')
    got = facts(scene, page, report)
    tap.is_equal(got, wanted(page, kernel, got),
                 f'{what}: {page.kind}, mapped by {page.mapped_by}')
    tap.is_equal(faults(report, story.reuse), [],
                 f'{what}: the report agrees with itself')
    tap.is_equal(scene.proc_faults(report), [],
                 f'{what}: every VMA stands in /proc/PID/maps')
    check_folio(tap, scene, report, what)
    check_kpage(tap, scene, report, what)


def check_folio(tap: Tap, scene: Scene, report: Report, what: str) -> None:
    """Every page of its folio; and a scan of all memory for the page."""
    page = report['page']
    verify = scene.ask(f"{page['pfn']} verify")['verify']
    tap.is_equal((verify['found'], verify['changed'], verify['missing'],
                  verify['extra']), (len(report['ptes']), 0, [], []),
                 f'{what}: verify finds the same')
    folio = scene.ask(f"{page['pfn']} folio")
    everywhere = scene.witness_all(page['head'], 1 << page['order'])
    got = page_mappings(folio)
    tap.ok(got == everywhere,
           f'{what}: its folio is mapped where the pagemaps say',
           f'{len(got)} for {len(everywhere)} mappings; too many: '
           f'{sorted(got - everywhere)[:5]}, too few: '
           f'{sorted(everywhere - got)[:5]}')
    counts = (len(report['ptes']), len(folio['ptes']), 0, 0)
    tap.is_equal((page['mapcount'], page.get('folio_mapcount'),
                  page['pins'], folio['page']['pins']), counts,
                 f'{what}: mapcount, folio_mapcount, and no pins')


def check_kpage(tap: Tap, scene: Scene, report: Report, what: str) -> None:
    """Kind, order, flags and count as the kernel's own files have them."""
    page = report['page']
    size = 1 << page['order']
    flags = kpage.kpageflags(scene.guest, page['head'], size + 1)
    own = flags[page['pfn'] - page['head']]
    tails = ['tail' in some for some in flags[:size]]
    count, = kpage.kpagecount(scene.guest, page['pfn'], 1)
    told = kpage.ksm_told(scene.guest)
    tap.ok(kpage.says(own, page['kind'], told),
           f'{what}: its kind is what /proc/kpageflags says',
           f"{page['kind']}, but {sorted(own)}")
    tap.is_equal((page['mapcount'], tails),
                 (count, [False] + [True] * (size - 1)),
                 f'{what}: mapcount and order as /proc has them')
    tap.ok('tail' not in flags[size], f'{what}: the folio ends there')
    tap.is_equal(sorted(kpage.PLAIN & set(page['flags'])),
                 sorted(kpage.PLAIN & flags[0]),
                 f'{what}: its flags are those of /proc/kpageflags')


def check_story(tap: Tap, guest: Guest, story: Story,
                kernel: Tuple[int, int]) -> None:
    """Play a story, and look at its pages."""
    if kernel < story.since:
        tap.skip(story.name, story.why)
        return
    with Scene(guest) as scene:
        scene.story(story.told)
        for page in story.pages:
            check_page(tap, scene, story, page, kernel)


def check_read_ahead(tap: Tap, guest: Guest) -> None:
    """Swap is read ahead of who wants it; no rmap knows such a page."""
    with Scene(guest) as scene:
        scene.story('''
            P map M 64
            P write M
            ! drain
            P madvise M 0 64 pageout
            ! sleep 0.5
            ! reclaim
            P madvise M 0 64 willneed
            ! sleep 0.5
            ''')
        before = kpage.kpageflags(guest)
        found = [pfn for pfn, some in enumerate(before)
                 if 'swapcache' in some and 'anon' not in some]
        answers = scene.ask_all(f'{pfn}' for pfn in found)
        after = kpage.kpageflags(guest)
    # others than P want theirs back
    pages = [answer['page'] for pfn, (_, answer) in zip(found, answers)
             if before[pfn] == after[pfn]]
    got = {(page['kind'], page['mapping'], page['mapcount'], page['pins'],
            'swapcache' in page['flags']) for page in pages}
    tap.note(f'{len(pages)} pages were read ahead from swap')
    tap.is_equal((len(pages) >= 64, got),
                 (True, {('anon', None, 0, 0, True)}),
                 'pages that were read ahead from swap: anonymous, and nobody '
                 'holds them')


def chosen() -> List[Story]:
    """The stories whose names have a word that was given, or all."""
    return [story for story in STORIES
            if not sys.argv[1:] or any(word in story.name
                                       for word in sys.argv[1:])]


def main() -> None:
    """Play every story on every kernel."""
    with Tap() as tap, Disks() as disks:
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series, extra_args=disks.arguments()) as guest:
                prepare(guest)
                for story in chosen():
                    check_story(tap, guest, story, release(guest))
                check_read_ahead(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
