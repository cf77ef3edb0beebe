"""rmapviz_survey: every mapped folio, held against queries and /proc."""

import random
import re
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, NamedTuple, Set

import pytest

from rvtest import kpage, vm
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import FAMILIES, SURVEY, Scene
from rvtest.stage import Stage
from stories import EVERYTHING, PREPARED

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 20

COLUMNS = ['PFN', 'ORDER', 'KIND', 'MAPCOUNT', 'REFCOUNT', 'DMA_PINS',
           'EXTRA_REFS', 'VISITED', 'MAPPED', 'FAMILY', 'CHAIN_BYTES']
ASKED = 400

# A held page, and a server with its workers, beside.
BUILD = EVERYTHING + '''
    P map V 1
    P write V
    P vmsplice V 0
    P forkmany 20 K
    '''

Line = Dict[str, str]


def lines_of(text: str) -> List[Line]:
    """Lines of a survey that begins with its heading."""
    heading, *rest = text.splitlines()
    assert heading.split() == COLUMNS
    return [dict(zip(COLUMNS, line.split())) for line in rest]


def survey(guest: Guest) -> List[Line]:
    """All of it."""
    return lines_of(guest.check(f'cat {SURVEY}', 120))


class Surveyed(NamedTuple):
    """A quiet guest, by the survey, by queries, and by /proc."""

    lines: List[Line]
    still: Dict[int, Line]      # those that have not changed meanwhile
    sure: Dict[int, Line]       # nor were others' in between
    answers: Dict[int, Report]  # to "PFN folio", of some of these
    counts: List[int]
    flags: List[kpage.Flags]


def lasting(line: Line, frames: Set[int]) -> bool:
    """Whether actors have a folio; others come and go, and who reads the
    survey may get the same frames each time, and lines that are equal."""
    first = int(line['PFN'], 16)
    return any(first + i in frames for i in range(1 << int(line['ORDER'])))


def look(scene: Scene) -> Surveyed:
    """Ask for the survey before and after all else."""
    guest = scene.guest
    first = survey(guest)
    heads = [int(line['PFN'], 16) for line in first]
    chosen = random.Random(1).sample(heads, min(ASKED, len(heads)))
    chosen += [int(line['PFN'], 16) for line in first
               if line['KIND'] != 'anon' or line['ORDER'] != '0'
               or line['EXTRA_REFS'] != '0'][:ASKED]
    answers = {}
    for i in range(0, len(chosen), 50):
        some = chosen[i:i + 50]
        for pfn, (error, report) in zip(some, scene.ask_all(
                f'0x{pfn:x} folio' for pfn in some)):
            if error == 'ok':
                answers[pfn] = report
    flags = kpage.kpageflags(guest)
    counts = list(kpage.kpagecount(guest))
    last = {int(line['PFN'], 16): line for line in survey(guest)}
    frames = {frame for _, _, frame in scene.witness_all(0, 1 << 20)}
    still = {int(line['PFN'], 16): line for line in first
             if last.get(int(line['PFN'], 16)) == line}
    sure = {pfn: line for pfn, line in still.items()
            if line['KIND'] != 'anon' or lasting(line, frames)}
    return Surveyed(first, still, sure, answers, counts, flags)


@pytest.fixture
def surveyed(stage: Stage) -> Surveyed:
    """Looked at once."""
    scene = stage.scene('a building to be surveyed',
                        lambda new: new.story(BUILD))
    return stage.once('survey', lambda: look(scene))


def test_most_of_a_quiet_guest_stays_as_it_is(
        surveyed: Surveyed, note: Callable[[str], None]) -> None:
    """Or the other tests would show little."""
    kinds = {line['KIND'] for line in surveyed.still.values()}
    note(f'{len(surveyed.still)} of {len(surveyed.lines)} lines, '
         f'{len(surveyed.sure)} of them beyond doubt, '
         f'{len(surveyed.answers)} asked about, {sorted(kinds)}')
    assert len(surveyed.still) > 0.8 * len(surveyed.lines)
    assert {'anon', 'file', 'shmem'} <= kinds


def test_each_line_is_what_a_query_of_its_pfn_says(surveyed: Surveyed
                                                   ) -> None:
    """Order, kind, counts, walk, pte_chains."""
    wrong = []
    for pfn, report in surveyed.answers.items():
        line = surveyed.sure.get(pfn)
        page, walk = report['page'], report['walk']
        # who reads the survey is another program than who asks
        if not line or page['file'] in ('/bin/busybox', '/bin/ask'):
            continue
        want = [page['order'], page['kind'], page['folio_mapcount'],
                page['refcount'], page['dma_pins'], page['extra_refs'],
                walk['visited'], walk['mapped'],
                report['history']['pte_chain']['bytes']]
        got = [line[name] for name in COLUMNS[1:] if name != 'FAMILY']
        if got != [str(value) for value in want]:
            wrong.append((line, want))
    assert len(surveyed.answers) > ASKED
    assert wrong == []


def test_pages_have_equal_ids_if_their_families_are_equal(surveyed: Surveyed
                                                          ) -> None:
    """By the VMAs of the family, which no other has."""
    ids: Dict[object, Set[str]] = {}
    owners: Dict[str, Set[object]] = {}
    for pfn, report in surveyed.answers.items():
        if pfn not in surveyed.sure or report['page']['kind'] != 'anon':
            continue
        family = tuple((report['mms'][vma['mm']]['pid'], vma['start'])
                       for vma in report['vmas'])
        known = surveyed.sure[pfn]['FAMILY']
        ids.setdefault(family, set()).add(known)
        owners.setdefault(known, set()).add(family)
    assert len(ids) > 3
    assert {len(found) for found in ids.values()} == {1}
    assert {len(found) for found in owners.values()} == {1}


def test_every_folio_that_kpagecount_has_is_there(surveyed: Surveyed) -> None:
    """And nothing else, with the same mapcount if it is one page."""
    told = {int(line['PFN'], 16): line for line in surveyed.lines}
    tails = {pfn + i for pfn, line in told.items()
             for i in range(1 << int(line['ORDER']))}
    # reserved pages, as the vdso, have a count and no rmap
    mapped = {pfn for pfn, count in enumerate(surveyed.counts)
              if count and 'mmap' in surveyed.flags[pfn]
              and 'reserved' not in surveyed.flags[pfn]}
    assert len([pfn for pfn in mapped if pfn not in tails]) \
        <= len(surveyed.lines) - len(surveyed.still)
    assert [(pfn, line) for pfn, line in surveyed.sure.items()
            if line['ORDER'] == '0'
            and int(line['MAPCOUNT']) != surveyed.counts[pfn]] == []


def test_each_kind_is_that_of_kpageflags(stage: Stage, surveyed: Surveyed
                                         ) -> None:
    """As far as they tell it."""
    told = kpage.ksm_told(stage.guest)
    assert [(line, surveyed.flags[pfn])
            for pfn, line in surveyed.sure.items()
            if not kpage.says(surveyed.flags[pfn], line['KIND'], told)] == []


def test_a_held_page_has_its_other_reference(surveyed: Surveyed) -> None:
    """The one of the pipe."""
    assert [line for line in surveyed.lines if line['EXTRA_REFS'] == '1']


# ------------------------------------------------------------------ reading --

def heads(text: str) -> List[int]:
    """The frames that lines, which must be whole, are about."""
    lines = text.splitlines()
    assert [line for line in lines
            if not re.fullmatch(r' *0x[0-9a-f]+( +\S+){10}', line)] == []
    return [int(line.split()[0], 16) for line in lines]


def frames(scene: Scene) -> List[int]:
    """Of a region that P has for itself, in order."""
    scene.play('P map M 500\nP write M')
    return sorted(scene.pfn('P', 'M', page) for page in range(0, 500, 10))


def test_it_can_be_read_a_byte_at_a_time(scene: Scene) -> None:
    """With nothing twice and nothing left out."""
    own = frames(scene)
    text = scene.guest.check(f'dd if={SURVEY} bs=1 2>/dev/null', 300)
    found = heads(text.partition('\n')[2])
    assert found == sorted(set(found))
    assert set(own) <= set(found)


def test_reading_from_a_pfn_gives_whole_lines_from_there_on(scene: Scene
                                                            ) -> None:
    """That of a page in the middle of a region."""
    own = frames(scene)
    middle = own[len(own) // 2]
    found = heads(scene.guest.check(
        f'dd if={SURVEY} bs=1 skip={middle} 2>/dev/null', 300))
    assert found[0] == middle and found == sorted(set(found))
    assert set(own[len(own) // 2:]) <= set(found)


def test_behind_all_memory_there_is_nothing(guest: Guest) -> None:
    """And no error."""
    assert guest.check(f'dd if={SURVEY} bs=1048576 skip=1048576 2>/dev/null') \
        == ''


def test_who_reads_it_can_be_killed(guest: Guest) -> None:
    """Wherever it is; to read it so often would take longer."""
    files = f'{SURVEY} ' * 50
    guest.check(f'for i in 1 2 3 4 5; do cat {files} >/dev/null & reader=$!; '
                'usleep 20000; kill -9 $reader; wait $reader; '
                '[ $? = 137 ] || exit 1; done', 20)


@pytest.mark.parametrize('file', [SURVEY, FAMILIES])
def test_nobody_without_cap_sys_admin_can_open_it(guest: Guest, file: str
                                                  ) -> None:
    """Who has it can, by the same program."""
    assert guest.run(f'ask -o {file} >/dev/null').status == 0
    result = guest.run(f'ask -d 21 -o {file} 2>&1')
    assert (result.status, 'EPERM' in result.output) == (2, True)


# --------------------------------------------------------------- in a storm --

@contextmanager
def forks(guest: Guest) -> Iterator[None]:
    """Children of P fork, write and exit."""
    guest.check('touch /tmp/forks; while [ -e /tmp/forks ]; do '
                'tell P fork X; tell X write A 0 1; tell X exit; '
                'tell P wait X; done >/dev/null &')
    try:
        yield
    finally:
        guest.undo('rm /tmp/forks; wait', 120)


def test_lines_stay_lines_in_a_storm_of_forks(
        scene: Scene, note: Callable[[str], None]) -> None:
    """Of several readers at once."""
    scene.play('P map A 200\nP write A')
    with forks(scene.guest):
        scene.guest.check(
            'readers=; for i in 1 2 3; do (for n in 1 2 3 4 5; do '
            f'cat {SURVEY}; done >/tmp/survey$i) & '
            'readers="$readers $!"; done; '
            'wait $readers', 300)
        text = scene.guest.check('cat /tmp/survey[123]; rm /tmp/survey[123]')
    lines = [line for line in text.splitlines()
             if line.split() != COLUMNS]
    note(f'{len(lines)} lines, {text.count(" - ")} of a walk not done')
    assert len(lines) > 1000
    assert [line for line in lines if not re.fullmatch(
        r' *0x[0-9a-f]+ +\d+ +\w+( +-?\d+){4}( +(\d+|-)){2} +(\w{16}|-) +\d+',
        line)] == []
