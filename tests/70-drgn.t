#!/usr/bin/python3
"""The module against tools/drgn_dump.py: every report must be the same.

The stories of 20-scenes.t and 50-kinds.t are told in one guest, all at once.
When their processes wait, the module is asked about every page that a story
names; then the guest is stopped, its memory dumped, and drgn rebuilds the same
reports from the dump.  They must be equal: anon_vmas, AVCs, VMAs, page-table
entries, counts and addresses.

Frames from all over the memory are looked at in the same way; there, what the
module says in the same words before and after the dump must be equal.
"""

import copy
import json
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

TESTS = Path(__file__).resolve().parent
sys.dont_write_bytecode = True      # no caches of scripts beside them
sys.path[:0] = [str(TESTS / 'lib'), str(TESTS.parent / 'tools')]

from compare import counts, differences  # noqa: E402

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest import witness  # noqa: E402
from rvtest.vm import Unavailable, is_debug, named  # noqa: E402
from rvtest.disk import Disks  # noqa: E402
from rvtest.report import Report  # noqa: E402
from rvtest.scene import Scene  # noqa: E402

# Whose drgn is the oldest that is supported.
OLD_SUITE = 'bookworm'

# Of these commands, the word that names another actor.
NAMING = {'fork': 2, 'vfork': 2, 'clone_vm': 2, 'thread': 2, 'exec': 2,
          'wait': 2, 'forkmany': 3}

# Frames to look at besides: a prime number of them apart.
STEP = 127
# So many may have been something else for a moment just when it was made.
FLEETING = 8


class Question(NamedTuple):
    """What is asked of both, and how."""

    what: str
    query: str              # of the module
    arguments: Tuple[str, ...]      # of drgn_dump.py
    whole: bool = False     # every page of the folio


def script(name: str) -> Any:
    """Another test, as a module."""
    loader = SourceFileLoader(name[:-2].replace('-', '_'), str(TESTS / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


SCENES, KINDS = script('20-scenes.t'), script('50-kinds.t')


def recast(told: str, cast: str) -> str:
    """A story with actors of its own, so that it goes with others."""
    lines = []
    for line in told.strip().splitlines():
        words = line.split()
        if words[0] != '!':
            words[0] = cast + words[0]
            if words[1] in NAMING:
                words[NAMING[words[1]]] = cast + words[NAMING[words[1]]]
            line = ' '.join(words)
        lines.append(line)
    return '\n'.join(lines)


def tell_all(guest: Guest, stack: ExitStack
             ) -> List[Tuple[str, Scene, str, Any]]:
    """Tell every story; whose pages they are, and who is asked for each."""
    found = []
    release = KINDS.release(guest)
    for i, story in enumerate([*SCENES.STORIES, *KINDS.STORIES]):
        if release < getattr(story, 'since', (0, 0)):
            continue
        cast = f's{i}.'
        scene = stack.enter_context(Scene(guest, cast + 'P'))
        scene.story(recast(story.told, cast))
        found += [(story.name, scene, cast, page) for page in story.pages]
    return found


def page_questions(guest: Guest, stack: ExitStack) -> List[Question]:
    """About every page that a story names, in several ways."""
    found: List[Question] = []
    told = set()
    for name, scene, cast, page in tell_all(guest, stack):
        pfn = scene.pfn(cast + page.actor, page.region, page.page)
        what = f"{name}: {page.actor}'s page {page.page} of {page.region}"
        report = ask(guest, f'{pfn}')
        assert report
        found.append(Question(what, f'{pfn}', (f'{pfn}',)))
        if report['page']['order']:
            found.append(Question(f'{what}, with all of its folio',
                                  f'{pfn} folio', (f'{pfn}',), True))
        if name not in told:
            pid = scene.pids[cast + page.actor]
            found.append(Question(f'{what}, all anon_vmas of its process',
                                  f'pid {pid}', ('--pid', f'{pid}')))
            found.append(address_question(what, report))
        told.add(name)
    return found


def address_question(what: str, report: Report) -> Question:
    """The same page, by where a process maps it."""
    pte = report['ptes'][-1]
    pid = report['mms'][report['vmas'][pte['vma']]['mm']]['pid']
    return Question(f'{what}, by its address', f"pid {pid} {pte['addr']}",
                    ('--pid', f'{pid}', pte['addr']))


def ask(guest: Guest, query: str) -> Optional[Report]:
    """The module's answer, or None where there is no such page."""
    status, answer = guest.run(f"ask '{query} json ptrs'", 300)
    return None if status else json.loads(answer)


def settle(guest: Guest) -> None:
    """Nothing is to change between the module's answer and the dump.

    Dirty pages are written after a while, khugepaged makes huge pages, and
    DAMON, where it collects statistics from boot on, takes back that a page
    was accessed.
    """
    guest.check('cd /sys/kernel/mm/transparent_hugepage/khugepaged; '
                'echo 3600000 >scan_sleep_millisecs; cd /; '
                'echo 0 >/sys/kernel/mm/ksm/run; '
                'echo 0 >/proc/sys/vm/dirty_writeback_centisecs; '
                'damon=/sys/module/damon_stat/parameters/enabled; '
                '! test -e $damon || echo N >$damon; '
                'drain')


class Seen(NamedTuple):
    """Questions, and what the module answered around the time of a dump."""

    questions: List[Question]
    answers: List[Optional[Report]]
    frames: Dict[int, Report]


def everywhere(guest: Guest) -> Dict[int, Report]:
    """What the module says of frames from all over the memory."""
    answers = guest.check(
        "kb=$(sed -n '/^MemTotal/s/[^0-9]//gp' /proc/meminfo); "
        f'seq 1 {STEP} $((kb / 4)) | sed "s/$/ json ptrs/" | ask - || :', 600)
    found = {}
    for answer in answers.split('== ')[1:]:
        heading, _, text = answer.partition('\n')
        if heading.endswith(': ok'):
            report = json.loads(text)
            found[report['page']['pfn']] = report
    return found


def look(series: str, disks: Disks, vmcore: Path) -> Seen:
    """Tell the stories, ask the module, and dump the guest."""
    with Guest(series, extra_args=disks.arguments()) as guest, \
            ExitStack() as stack:
        KINDS.prepare(guest)
        witness.prepare(guest)
        settle(guest)
        questions = page_questions(guest, stack)
        settle(guest)
        before = everywhere(guest)
        answers = [ask(guest, question.query) for question in questions]
        guest.check('sleep 1')      # page tables are freed with delay
        witness.dump(guest, vmcore)
        after = everywhere(guest)
    frames = {pfn: report for pfn, report in before.items()
              if pfn in after and not differences(report, after[pfn])}
    return Seen(questions, answers, frames)


def rebuild(series: str, vmcore: Path, questions: List[Question],
            suite: str = 'forky') -> List[Report]:
    """What the drgn of a suite answers, in the order of the questions."""
    answers: Dict[Question, Report] = {}
    for whole in (False, True):
        asked = sorted((question for question in questions
                        if question.whole == whole),
                       key=lambda question: len(question.arguments))
        arguments = [word for question in asked
                     for word in question.arguments]
        answers.update(zip(asked, witness.drgn_dump(
            series, vmcore, ['--ptrs', *(['--folio'] if whole else []),
                             *arguments], suite)))
    return [answers[question] for question in questions]


def compare_all(tap: Tap, seen: Seen, rebuilt: List[Report]) -> None:
    """One result a question, and how much was compared."""
    total = [0] * 5
    for question, answer, other in zip(seen.questions, seen.answers, rebuilt):
        assert answer
        found = differences(answer, other)
        tap.ok(not found, question.what, '\n'.join(
            ['the first is the module, the second drgn', *found[:20]]))
        total = [a + b for a, b in zip(total, counts(answer))]
    tap.note(f'{len(rebuilt)} reports: {total[0]} anon_vmas, {total[1]} AVCs, '
             f'{total[2]} address spaces, {total[3]} VMAs, '
             f'{total[4]} page-table entries')


def compare_old(tap: Tap, series: str, vmcore: Path, seen: Seen) -> None:
    """The oldest drgn that is supported finds the same."""
    what = f'the drgn of {OLD_SUITE} finds the same'
    if is_debug(series):
        tap.skip(what, 'the dump of a debug kernel lacks what it needs')
        return
    try:
        witness.drgn_root(OLD_SUITE)
    except Unavailable as error:
        tap.skip(what, str(error))
        return
    # it has no helper to list the VMAs of a process
    asked = [(question, answer)
             for question, answer in zip(seen.questions, seen.answers)
             if len(question.arguments) != 2]
    rebuilt = rebuild(series, vmcore, [question for question, _ in asked],
                      OLD_SUITE)
    found = [f'{question.what}: {line}'
             for (question, answer), other in zip(asked, rebuilt) if answer
             for line in differences(answer, other)[:1]]
    tap.ok(not found, what, '\n'.join(found))


def compare_frames(tap: Tap, series: str, vmcore: Path,
                   frames: Dict[int, Report]) -> None:
    """Frames from all over the memory: one result for all."""
    kinds = Counter(report['page']['kind'] for report in frames.values())
    found: List[str] = []
    fleeting: List[str] = []
    rebuilt = witness.drgn_dump(series, vmcore, [
        '--ptrs', *(str(pfn) for pfn in frames)])
    for (pfn, report), other in zip(frames.items(), rebuilt):
        # of the kernel's own: it takes and gives them back all the time
        own = report['page']['pins'] is None
        (fleeting if own else found).extend(
            f'{pfn:#x}: {line}' for line in differences(report, other)[:1])
    # KASAN gives back late, and then much at once
    if len(fleeting) > FLEETING * (8 if is_debug(series) else 1):
        found += fleeting
    tap.ok(not found, 'frames from all over the memory', '\n'.join(found))
    tap.note('frames: ' + ', '.join(f'{count} {kind}'
                                    for kind, count in kinds.items()))


# What is changed in a report, and what must be noticed of it.
def _parent(report: Report) -> None:
    report['anon_vmas'][-1]['parent'] = report['anon_vmas'][-1]['root']


def _chain(report: Report) -> None:
    del report['avcs'][-1]


def _flag(report: Report) -> None:
    report['ptes'][-1]['flags'].remove('user')


def _vma(report: Report) -> None:
    del report['ptes'][-1]
    vma = report['vmas'].pop()['id']
    report['avcs'] = [avc for avc in report['avcs'] if avc['vma'] != vma]


def _ids(report: Report) -> None:
    for avc in report['avcs']:
        avc['id'] += 1
    report['avcs'].reverse()


MUTATIONS: Tuple[Tuple[str, Callable[[Report], None], str], ...] = (
    ('another parent of an anon_vma', _parent, 'parent is'),
    ('an AVC that is missing', _chain, 'AVC between'),
    ('a flag of an entry', _flag, 'flags is'),
    ('a VMA that is missing', _vma, 'VMA'),
    ('other ids in another order', _ids, ''),
)


def check_compare(tap: Tap, report: Report) -> None:
    """The comparison notices what it must, and nothing else."""
    for what, change, sign in MUTATIONS:
        changed = copy.deepcopy(report)
        change(changed)
        found = differences(report, changed)
        tap.ok(any(sign in line for line in found) if sign else not found,
               f"compare.py {'notices' if sign else 'does not mind'} {what}",
               '\n'.join(found))


def check_live(tap: Tap, series: str, directory: Path) -> None:
    """A story on a kernel that runs: drgn reads its own guest."""
    story = next(story for story in SCENES.STORIES
                 if story.name == 'three storeys')
    page = story.pages[0]
    with Guest(series, memory_mb=2048,
               extra_args=witness.live_disks(series, directory)) as guest, \
            Scene(guest) as scene:
        scene.story(story.told)
        settle(guest)
        pfn = scene.pfn(page.actor, page.region, page.page)
        rebuilt, = witness.drgn_live(guest, f'--ptrs {pfn}')
        answer = ask(guest, f'{pfn}')
        assert answer
        tap.is_equal(differences(answer, rebuilt), [],
                     f'{story.name}, read by drgn -k in the guest')


def is_available(tap: Tap, series: str) -> bool:
    """Whether there is all that it takes; if not, that is a skip."""
    try:
        witness.drgn_root()
        witness.vmlinux(series)
    except Unavailable as error:
        tap.skip(f'{series}: all stories', str(error))
        return False
    return True


def chosen(tap: Tap) -> List[str]:
    """Those that KERNEL names; else the oldest and the newest that can be
    tried, for it takes long."""
    asked = kernels()
    if named():
        return [series for series in asked if is_available(tap, series)]
    found: List[str] = []
    for order in (asked, asked[::-1]):
        found += [next((series for series in order
                        if series in found or is_available(tap, series)), '')]
    return sorted(set(found) - {''}, key=asked.index)


def check_kernel(tap: Tap, series: str, disks: Disks, directory: Path
                 ) -> None:
    """All stories on one kernel."""
    vmcore = directory / 'vmcore'
    seen = look(series, disks, vmcore)
    compare_all(tap, seen, rebuild(series, vmcore, seen.questions))
    compare_old(tap, series, vmcore, seen)
    compare_frames(tap, series, vmcore, seen.frames)
    deepest = max((answer for answer in seen.answers if answer
                   and answer['page'] and answer['page']['kind'] == 'anon'),
                  key=lambda answer: len(answer['anon_vmas']))
    check_compare(tap, deepest)
    vmcore.unlink()
    if not is_debug(series):    # they are slow enough
        check_live(tap, series, directory)


def main() -> None:
    """Every kernel."""
    build = TESTS.parent / 'build'      # has room for dumps
    build.mkdir(exist_ok=True)
    with Tap() as tap, Disks() as disks:
        for series in chosen(tap):
            tap.prefix = f'{series}: '
            with tempfile.TemporaryDirectory(prefix='drgn.', dir=build) as new:
                check_kernel(tap, series, disks, Path(new))


if __name__ == '__main__':
    main()
