#!/usr/bin/python3
"""verify: what rmap finds against a scan of all memory, the way of 2.4."""

import json
import random
import re
import sys
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap  # noqa: E402
from rvtest.vm import some_kernels  # noqa: E402
from rvtest.disk import SETUP, Disks  # noqa: E402
from rvtest.report import Report  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

PAGES = 1000
QUERIES = 1000

# Some of everything that rmap maps, in processes that share it.
BUILD = '''
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
    Q read F
    Q read S
    Q fork R
    R mremap A 100 20 B
    R write C 150 20
    '''


def reports(output: str) -> List[Report]:
    """The answers that "ask -" printed."""
    parts = re.split(r'^== .*: (\w+)\n', output, flags=re.M)
    return [json.loads(text) for error, text in zip(parts[1::2], parts[2::2])
            if error == 'ok']


def mapped_frames(scene: Scene) -> List[int]:
    """Every frame that the actors find in their regions."""
    replies = scene.play('\n'.join(
        f'{actor} look {region}' for actor in 'PQ' for region in 'AFCSH'))
    return sorted({int(pfn, 16) for reply in replies
                   for pfn in re.findall(r'pfn=0x([0-9a-f]+),present=1',
                                         reply)})


def ask_all(guest: Guest, queries: List[str]) -> List[Report]:
    """Many queries by one process, a few at a time."""
    found = []
    for first in range(0, len(queries), 100):
        words = ' '.join(f"'{query}'" for query in queries[first:first + 100])
        status, output = guest.run(f"printf '%s\\n' {words} | ask -", 600)
        found += reports(output)
    return found


def check_quiet(tap: Tap, guest: Guest) -> None:
    """Nothing moves: both find the same."""
    guest.check('head -c 819200 </bin/busybox >/mnt/data')
    with Scene(guest) as scene:
        scene.play(BUILD)
        frames = mapped_frames(scene)
        chosen = random.Random(1).sample(frames, min(PAGES, len(frames)))
        answers = ask_all(guest, [f'{pfn} json verify' for pfn in chosen])
    kinds: Dict[str, int] = {}
    wrong = []
    for report in answers:
        kind = report['page']['kind']
        kinds[kind] = kinds.get(kind, 0) + 1
        if report['verify'] != {'found': len(report['ptes']), 'changed': 0,
                                'missing': [], 'extra': []}:
            wrong.append({'pfn': report['page']['pfn'], 'kind': kind,
                          'ptes': len(report['ptes']), **report['verify']})
    tap.is_equal((len(answers), wrong[:5]), (len(chosen), []),
                 f'{len(chosen)} pages of all kinds: missing 0, extra 0')
    tap.ok(len(chosen) >= PAGES and len(kinds) >= 3,
           f'pages of these kinds: {kinds}')
    scan = answers[0]['history']['scan']
    tap.ok(scan['mms'] >= 3 and scan['entries'] > 2000,
           f'the scan looked at {scan}')


def check_beyond_rmap(tap: Tap, guest: Guest) -> None:
    """What rmap does not map is found, and not called missing."""
    with Scene(guest) as scene:
        scene.play('P map M 5\nP read M')
        pfn = scene.pfn('P', 'M')
        report = scene.ask(f'{pfn} verify')
        tap.is_equal((report['page']['kind'], report['verify']['found'] >= 5,
                      report['verify']['missing']), ('zero', True, []),
                     'the zero page: found by the scan, not missed by rmap')


def check_storm(tap: Tap, guest: Guest) -> None:
    """Processes fork, write and exit all the time."""
    with Scene(guest) as scene:
        scene.play('P map M 4\nP write M\nP fork C\nC fork G')
        pfns = [scene.pfn('P', 'M', page) for page in range(4)]
        guest.check(
            'storm() { while [ -e /tmp/storm ]; do tell $1 fork $1x; '
            'tell $1x write M 1; tell $1x exit; tell $1 wait $1x; done; }; '
            'touch /tmp/storm; for a in P C G; do storm $a '
            '>/dev/null & done')
        answers = ask_all(guest, [f'{pfns[i % 4]} json verify'
                                  for i in range(QUERIES)])
        guest.check('rm /tmp/storm; wait', 120)
    wrong = [report['verify'] for report in answers
             if report['verify']['missing'] or report['verify']['extra']]
    changed = sum(report['verify']['changed'] for report in answers)
    tap.is_equal(wrong[:5], [], f'{len(answers)} answers in a storm of forks: '
                 f'no false alarm ({changed} mappings changed meanwhile)')
    tap.ok(len(answers) > QUERIES * 9 // 10, 'and few gave up')


def main() -> None:
    """On every kernel."""
    with Tap() as tap:
        for series in some_kernels(tap):
            tap.prefix = f'{series}: '
            with Disks() as disks, \
                    Guest(series, extra_args=disks.arguments()) as guest:
                guest.check(SETUP)
                check_quiet(tap, guest)
                check_beyond_rmap(tap, guest)
                check_storm(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
