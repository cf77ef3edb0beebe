#!/usr/bin/python3
"""Families of many: chance, a thousand sharers, and a family that moves."""

import json
import random
import sys
from pathlib import Path
from typing import Dict, List, Optional

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap  # noqa: E402
from rvtest.vm import some_kernels  # noqa: E402
from rvtest.report import Report, faults, mappings, tree  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

SEEDS = (3, 20, 33)     # families of 28, 35 and 48
SHARERS = 1000
PAGES = 3
DEPTH = 5
CHILDREN = 3


class Family:
    """Processes that fork and write at random, and what must come of it.

    A model of the kernel's rules, of which it knows nothing else: a page
    belongs to whoever wrote it last, or inherited it.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._copies = 0
        self.parent: Dict[str, Optional[str]] = {'P': None}
        self.frames: Dict[str, List[str]] = {'P': ['P'] * PAGES}
        self.story = [f'P map M {PAGES}', 'P write M']
        self._grow('P', 1)

    def _grow(self, name: str, level: int) -> None:
        """Children and grandchildren; writes before, between and after."""
        if level == DEPTH:
            return
        # one branch goes all the way down
        fewest = 1 if name.strip('1') == 'P' else 0
        for number in range(1, self._random.randint(fewest, CHILDREN) + 1):
            child = f'{name}{number}'
            self.story.append(f'{name} fork {child}')
            self.parent[child] = name
            self.frames[child] = list(self.frames[name])
            self._maybe_write(child)
            self._grow(child, level + 1)
            self._maybe_write(name)

    def _maybe_write(self, name: str) -> None:
        page = self._random.randrange(2 * PAGES)
        if page < PAGES:
            self.story.append(f'{name} write M {page}')
            self.frames[name][page] = self._owner(name, page)

    def _owner(self, name: str, page: int) -> str:
        """A write makes a copy, unless nobody else has the page."""
        frame = self.frames[name][page]
        alone = sum(frames[page] == frame
                    for frames in self.frames.values()) == 1
        self._copies += 1
        return frame if alone else f'{name}/{self._copies}'

    def sharers(self, name: str, page: int) -> List[str]:
        """Who maps what name maps there."""
        return sorted(other for other, frames in self.frames.items()
                      if frames[page] == self.frames[name][page])

    def drawn(self, owner: str) -> str:
        """The building, as rvtest.report.tree draws it."""
        def draw(name: str) -> str:
            children = sorted((draw(child) for child in self.parent
                               if self.parent[child] == name),
                              key=lambda text: text.lstrip('*'))
            inside = f"({' '.join(children)})" if children else ''
            return f"{'*' if name == owner else ''}{name}{inside}"
        return draw('P')


def check_chance(tap: Tap, guest: Guest, seed: int) -> None:
    """A random family: every page of everybody."""
    family = Family(seed)
    wrong: List[str] = []
    seen = set()
    with Scene(guest) as scene:
        scene.play('\n'.join(family.story))
        names = scene.names()
        for name, frames in family.frames.items():
            for page, frame in enumerate(frames):
                if (page, frame) in seen:
                    continue
                seen.add((page, frame))
                report = scene.ask(f'pid {scene.pids[name]} '
                                   f'{0x10000000000 + page * 4096:#x}')
                pfn = report['page']['pfn']
                wrong += [f'{name} {page}: {fault}'
                          for fault in faults(report)]
                if mappings(report) != scene.witness(pfn):
                    wrong.append(f'{name} {page}: not as the pagemaps say')
                got = sorted(names[pid] for pid, _ in mappings(report))
                if got != family.sharers(name, page):
                    wrong.append(f'{name} {page}: mapped by {got}')
                want = family.drawn(frame.split('/')[0])
                if tree(report, names) != want:
                    wrong.append(f'{name} {page}: {tree(report, names)}, '
                                 f'not {want}')
    tap.is_equal(wrong, [], f'a random family of {len(family.parent)} on '
                 f'{DEPTH} storeys, all {len(seen)} pages (seed {seed})')


def brief(report: Report) -> Dict[str, object]:
    """What a crowd has in common."""
    return {'visited': report['walk']['visited'],
            'mapped': report['walk']['mapped'],
            'tree_vmas': report['walk']['tree_vmas'],
            'lost': report['walk']['lost'],
            'mapcount': report['page']['mapcount'],
            'pins': report['page']['pins'],
            'anon_vmas': len(report['anon_vmas']),
            'avcs': len(report['avcs'])}


def check_sharers(tap: Tap, guest: Guest) -> None:
    """One page, a thousand and one processes."""
    with Scene(guest) as scene:
        scene.play(f'P map M 2\nP write M\nP forkmany {SHARERS} C\n'
                   'C7 write M 1')
        pfn = scene.pfn('P', 'M')
        report = scene.ask(f'pfn {pfn}')
        everybody = SHARERS + 1
        tap.is_equal(brief(report), {
            'visited': everybody, 'mapped': everybody, 'tree_vmas': everybody,
            'lost': 0, 'mapcount': everybody, 'pins': 0,
            'anon_vmas': everybody, 'avcs': 2 * SHARERS + 1,
        }, f'{SHARERS} sharers: everybody in one snapshot, nothing lost')
        tap.is_equal(sorted(mappings(report)), sorted(scene.witness(pfn)),
                     f'{SHARERS} sharers: mapped where the pagemaps say')
        tap.is_equal(faults(report)[:10], [],
                     f'{SHARERS} sharers: the report agrees with itself')
        own = scene.ask(f'pfn {scene.pfn("C7", "M", 1)}')
        tap.is_equal((own['walk']['visited'], own['walk']['mapped'],
                      len(own['vmas'])), (1, 1, everybody),
                     'the page that one of them wrote: 1 visit in the crowd')
        text = guest.check(f'ask {pfn}')
        tap.ok(f'{everybody} processes map it' in text
               and len(text.splitlines()) > 4 * everybody
               and 'INCOMPLETE' not in text,
               'its text lists everybody', text[:400])


def check_storm(tap: Tap, guest: Guest) -> None:
    """Ask for pages of a family that forks and exits all the time."""
    with Scene(guest) as scene:
        scene.play('P map M 2\nP write M\nP fork C\nC fork G')
        pfn = scene.pfn('P', 'M')
        guest.check(
            'storm() { while [ -e /tmp/storm ]; do tell $1 fork $1x; '
            'tell $1x fork $1xx; tell $1x write M; tell $1xx exit; '
            'tell $1x wait $1xx; tell $1x exit; tell $1 wait $1x; done; }; '
            'touch /tmp/storm; for a in P C G; do storm $a '
            '>/dev/null & done')
        refused = 0
        sizes = set()
        wrong: List[str] = []
        for _ in range(200):
            status, output = guest.run(f'ask {pfn} json')
            if status:
                refused += 'EAGAIN' in output
                wrong += [] if 'EAGAIN' in output else [output]
                continue
            try:
                wrong += storm_faults(output)
            except ValueError as error:
                wrong.append(str(error))
            sizes.add(output.count('"level"'))
        guest.check('rm /tmp/storm; wait', 120)
        tap.is_equal(wrong[:10], [],
                     '200 queries in a storm of forks: each is one instant')
        tap.ok(len(sizes) > 3 and refused < 20,
               f'of a family of {len(sizes)} sizes, and {refused} gave up')


def storm_faults(output: str) -> List[str]:
    """What may not be wrong even while the family changes."""
    report = json.loads(output)
    known = {vma['id'] for vma in report['vmas']}
    found = [f"AVC {avc['id']} joins nothing" for avc in report['avcs']
             if avc['vma'] not in known or avc['anon_vma'] is None]
    found += [f"anon_vma {av['id']} has no parent or root"
              for av in report['anon_vmas']
              if av['parent'] is None or av['root'] is None]
    found += [f"VMA {vma['id']} has no AVC to the root"
              for vma in report['vmas']
              if not any(avc['vma'] == vma['id'] and avc['anon_vma'] == 0
                         for avc in report['avcs'])]
    if report['walk']['visited'] != report['walk']['tree_vmas']:
        found.append('not all of the tree was visited')
    if report['walk']['lost']:
        found.append('records were lost')
    return found


def main() -> None:
    """Crowds on every kernel."""
    with Tap() as tap:
        for series in some_kernels(tap):
            tap.prefix = f'{series}: '
            with Guest(series, memory_mb=2048) as guest:
                for seed in SEEDS:
                    check_chance(tap, guest, seed)
                check_sharers(tap, guest)
                check_storm(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
