#!/usr/bin/python3
"""Scenes: processes build something, and the report must be what they built.

For every page that a scene names:

- who maps it and where is what the processes find in their own pagemaps: the
  two sets of (pid, address) are equal;
- the building has the shape that the scene says;
- everything in the report is in keeping with everything else in it.
"""

import sys
from pathlib import Path
from typing import NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.report import Report, faults, mappings, tree  # noqa: E402
from rvtest.scene import Scene  # noqa: E402


class Page(NamedTuple):
    """A page of a scene, and what must be said of it."""

    actor: str          # who is asked for the frame
    region: str
    page: int
    tree: str           # see rvtest.report.tree
    mapped_by: str
    visited: int


class Story(NamedTuple):
    """A scene."""

    name: str
    told: str
    pages: Tuple[Page, ...]
    reuse: bool = False     # a fork reuses an anon_vma, so no rule for counts


STORIES = (
    Story('a process that was executed', '''
        P exec E
        E map M 1
        E write M
        ''', (Page('E', 'M', 0, '*E', 'E', 1),)),

    Story('a fork', '''
        P map M 1
        P write M
        P fork C
        ''', (Page('P', 'M', 0, '*P(C)', 'P C', 2),)),

    Story('three storeys', '''
        P map M 1
        P write M
        P fork C
        C fork G
        ''', (Page('G', 'M', 0, '*P(C(G))', 'P C G', 3),)),

    Story('P1 wrote and shares its frame with P12', '''
        P map M 1
        P write M
        P fork P1
        P fork P2
        P1 write M
        P1 fork P12
        P2 fork P21
        ''', (Page('P', 'M', 0, '*P(P1(P12) P2(P21))', 'P P2 P21', 5),
              Page('P1', 'M', 0, 'P(*P1(P12) P2(P21))', 'P1 P12', 2))),

    Story('P12 and P21 have frames of their own', '''
        P map M 2
        P write M
        P fork P1
        P fork P2
        P1 fork P12
        P2 fork P21
        P12 write M 1
        P21 write M 1
        ''', (Page('P12', 'M', 1, 'P(P1(*P12) P2(P21))', 'P12', 1),
              Page('P21', 'M', 1, 'P(P1(P12) P2(*P21))', 'P21', 1),
              Page('P12', 'M', 0, '*P(P1(P12) P2(P21))', 'P P1 P12 P2 P21', 5),
              Page('P', 'M', 1, '*P(P1(P12) P2(P21))', 'P P1 P2', 5))),

    Story('the first touch comes after the fork', '''
        P map M 1
        P fork C
        C write M
        P write M
        ''', (Page('P', 'M', 0, '*P', 'P', 1),
              Page('C', 'M', 0, '*C', 'C', 1))),

    Story('a VMA that mprotect split in three', '''
        P map M 5
        P write M
        P mprotect M 2 1 r
        P fork C
        C write M 4
        ''', (Page('P', 'M', 2, '*P+P+P(C C C)', 'P C', 2),
              Page('P', 'M', 4, '*P+P+P(C C C)', 'P', 2),
              Page('C', 'M', 4, 'P+P+P(C C *C)', 'C', 1))),

    Story('a page that mremap moved', '''
        P map M 4
        P write M
        P mremap M 2 1 N
        ''', (Page('P', 'N', 0, '*P+P+P', 'P', 1),
              Page('P', 'M', 3, '*P+P+P', 'P', 1))),

    Story('a page that mremap moved in the child only', '''
        P map M 2
        P write M
        P fork C
        C mremap M 1 1 N
        C fork G
        ''', (Page('P', 'M', 1, '*P(C+C(G G))', 'P C G', 3),)),

    Story('an address that the parent uses for something else', '''
        P map M 2
        P write M
        P fork C
        P unmap M 0 1
        P map O 1 at 0x10000000000
        P write O
        ''', (Page('C', 'M', 0, '*P(C)', 'C', 2),)),

    Story('the owner of the page has exited', '''
        P map M 1
        P write M
        P fork C
        C write M
        C fork G
        C fork H
        C exit
        P wait C
        ''', (Page('G', 'M', 0, 'P(*?(G H))', 'G H', 2),
              Page('P', 'M', 0, '*P(?(G H))', 'P', 3))),

    Story('the grandparent has exited, the family lives on', '''
        P map M 2
        P write M
        P fork C
        C fork G
        P exit
        ''', (Page('G', 'M', 0, '*?(C(G))', 'C G', 2),)),

    Story('an anon_vma whose owner left is used again', '''
        P map M 1
        P write M
        P fork C
        C fork G
        C exit
        P wait C
        G fork H
        G write M
        ''', (Page('H', 'M', 0, '*P(H(G))', 'P H', 3),
              Page('G', 'M', 0, 'P(H(*G))', 'G', 2)), reuse=True),

    Story('processes that share an address space', '''
        P map M 1
        P write M
        P clone_vm S
        P fork C
        ''', (Page('P', 'M', 0, '*P(C)', 'P S C', 2),)),

    Story('a vfork child that has not executed yet', '''
        P map M 1
        P write M
        P vfork V
        ''', (Page('V', 'M', 0, '*P', 'P V', 1),)),

    Story('a thread is not a process of its own', '''
        P map M 1
        P write M
        P thread T
        P fork C
        ''', (Page('P', 'M', 0, '*P(C)', 'P C', 2),)),

    Story('a child that gave the page back', '''
        P map M 1
        P write M
        P fork C
        P fork D
        C madvise M 0 1 dontneed
        D unmap M 0 1
        ''', (Page('P', 'M', 0, '*P(C)', 'P', 2),)),

    Story('a copy of a page of a private file mapping', '''
        P map F 2 file /tmp/data 3
        P write F
        P fork C
        C write F 1
        C mremap F 1 1 N
        ''', (Page('P', 'F', 0, '*P(C+C)', 'P C', 2),
              Page('C', 'N', 0, 'P(*C+C)', 'C', 1))),

    Story('pages far apart in one VMA', '''
        P map M 1000
        P write M 0
        P write M 999
        P fork C
        C write M 999
        ''', (Page('P', 'M', 999, '*P(C)', 'P', 2),
              Page('C', 'M', 999, 'P(*C)', 'C', 1),
              Page('C', 'M', 0, '*P(C)', 'P C', 2))),
)


def check_page(tap: Tap, scene: Scene, story: Story, page: Page) -> None:
    """All that a scene says of one of its pages."""
    what = f"{story.name}: {page.actor}'s page {page.page} of {page.region}"
    pfn = scene.pfn(page.actor, page.region, page.page)
    report = scene.ask(f'pfn 0x{pfn:x}')
    names = scene.names()

    tap.is_equal(sorted(mappings(report)), sorted(scene.witness(pfn)),
                 f'{what}: mapped where the pagemaps say')
    tap.is_equal(
        (tree(report, names),
         sorted(names.get(pid, '?') for pid, _ in mappings(report)),
         report['walk']['visited'], report['page']['kind']),
        (page.tree, sorted(page.mapped_by.split()), page.visited, 'anon'),
        f'{what}: {page.tree}')
    tap.is_equal(faults(report, story.reuse), [],
                 f'{what}: the report agrees with itself')
    check_proc(tap, scene, report, what)


def check_proc(tap: Tap, scene: Scene, report: Report, what: str) -> None:
    """VMAs and processes against /proc, counts against kpagecount."""
    tap.is_equal(scene.proc_faults(report), [],
                 f'{what}: every VMA stands in /proc/PID/maps')
    pfn = report['page']['pfn']
    kpagecount, = scene.guest.check(
        f'dd if=/proc/kpagecount bs=8 skip={pfn} count=1 2>/dev/null'
        ' | od -An -t u8').split()
    tap.is_equal((report['page']['mapcount'], report['page']['pins']),
                 (int(kpagecount), 0), f'{what}: mapcount, and no pins')


def main() -> None:
    """Play every story on every kernel."""
    with Tap() as tap:
        for series in kernels():
            with Guest(series) as guest:
                guest.check('head -c 65536 </bin/busybox >/tmp/data')
                for story in STORIES:
                    tap.prefix = f'{series}: '
                    with Scene(guest) as scene:
                        scene.play(story.told)
                        for page in story.pages:
                            check_page(tap, scene, story, page)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
