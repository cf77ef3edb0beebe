"""rmapviz_families: every family of anon_vmas, held against `pid PID`."""

from collections import Counter
from typing import Dict, List, NamedTuple, Tuple

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import FAMILIES, Scene
from rvtest.stage import Stage
from stories import PREPARED

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 20

COLUMNS = ['FAMILY', 'PID', 'PROCESSES', 'VMAS', 'AVS', 'AVCS', 'DEPTH',
           'BYTES', 'FORK_BYTES', 'COMM']

BUILD = '''
    P map A 30
    P write A
    P map B 5
    P mprotect B 1 1 r
    P write B 2 3
    P fork Q
    Q write A 0 5
    Q map C 3
    Q write C
    Q fork R
    R fork S
    R exit
    Q wait R
    Q clone_vm T
    P forkmany 30 K
    '''

Line = Dict[str, str]
Facts = Tuple[int, int, int, int, int]


def families(guest: Guest) -> List[Line]:
    """All that there are."""
    heading, *lines = guest.check(f'cat {FAMILIES}', 120).splitlines()
    assert heading.split() == COLUMNS
    return [dict(zip(COLUMNS, line.split())) for line in lines]


def facts(line: Line) -> Facts:
    """Processes, VMAs, anon_vmas, AVCs, depth."""
    processes, vmas, avs, avcs, depth = (
        int(line[name]) for name in COLUMNS[2:7])
    return processes, vmas, avs, avcs, depth


def facts_of(report: Report, root: int) -> Facts:
    """The same from an answer to `pid PID`."""
    avs = [av for av in report['anon_vmas'] if av['root'] == root]
    ids = {av['id'] for av in avs}
    vmas = [vma for vma in report['vmas'] if vma['anon_vma'] in ids]
    avcs = [avc for avc in report['avcs'] if avc['anon_vma'] in ids]
    return (len({vma['mm'] for vma in vmas}), len(vmas), len(avs), len(avcs),
            max(av['level'] for av in avs))


class Told(NamedTuple):
    """The families, and what each process's own report says."""

    lines: List[Line]
    reports: Dict[int, Report]


@pytest.fixture
def told(stage: Stage) -> Told:
    """Of a building in which all is quiet."""
    scene = stage.scene('a building of families',
                        lambda new: new.story(BUILD))
    return stage.once('families', lambda: Told(
        families(scene.guest), {
            pid: scene.ask(f'pid {pid}') for name, pid in scene.pids.items()
            if name in ('P', 'Q', 'S', 'T', 'K0')}))


def test_each_family_is_told_once(told: Told) -> None:
    """Though many processes have a part in it."""
    assert max(Counter(line['FAMILY'] for line in told.lines).values()) == 1


@pytest.mark.parametrize('name', ['P', 'Q', 'S', 'T', 'K0'])
def test_a_family_is_what_pid_says_of_it(stage: Stage, told: Told, name: str
                                         ) -> None:
    """Every family of the process has its line."""
    scene = stage.scene('a building of families',
                        lambda new: new.story(BUILD))
    report = told.reports[scene.pids[name]]
    want = Counter(facts_of(report, av['id']) for av in report['anon_vmas']
                   if av['root'] == av['id'])
    have = Counter(facts(line) for line in told.lines)
    assert sum(want.values()) >= 5
    assert want - have == Counter()


def test_its_example_is_a_process_that_has_a_part(told: Told) -> None:
    """The one of those who share memory that has the lowest pid."""
    pids = {mm['pid'] for report in told.reports.values()
            for mm in report['mms']}
    of_actors = [line for line in told.lines if int(line['PROCESSES']) > 1]
    assert len(of_actors) >= 5
    assert {int(line['PID']) for line in of_actors} <= pids


def test_it_can_be_read_a_byte_at_a_time(stage: Stage, told: Told) -> None:
    """With nothing twice and nothing left out."""
    text = stage.guest.check(f'dd if={FAMILIES} bs=1 2>/dev/null', 120)
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert len(names) == len(set(names))
    assert {line['FAMILY'] for line in told.lines
            if int(line['PROCESSES']) > 1} <= set(names)


def test_reading_goes_on_from_a_pid(stage: Stage, told: Told) -> None:
    """Families that are told at processes from there on."""
    pids = sorted(int(line['PID']) for line in told.lines)
    start = pids[len(pids) // 2]
    text = stage.guest.check(f'dd if={FAMILIES} bs=1 skip={start} 2>/dev/null')
    lines = [line.split() for line in text.splitlines()]
    assert lines and all(int(line[1]) >= start for line in lines)
    assert {line['FAMILY'] for line in told.lines
            if int(line['PID']) >= start and int(line['PROCESSES']) > 1} \
        == {line[0] for line in lines if int(line[2]) > 1}


def of_process(guest: Guest, pid: int) -> Dict[str, Line]:
    """Families told at that process, by id."""
    return {line['FAMILY']: line for line in families(guest)
            if int(line['PID']) == pid}


@pytest.mark.parametrize('story', [
    'P map M 4\nP write M',
    'P map M 9\nP write M\nP mprotect M 3 3 r',
    'P map M 4\nP write M\nP madvise M 0 4 dontfork',
], ids=['a process alone', 'one with split VMAs', 'one that forbids it'])
def test_a_fork_allocates_what_was_foretold(scene: Scene, story: str) -> None:
    """By what the families have more when it is done."""
    scene.play(story)
    before = of_process(scene.guest, scene.pids['P'])
    scene.play('P fork Q')
    after = of_process(scene.guest, scene.pids['P'])
    assert len(before) >= 5 and before.keys() == after.keys()
    assert {name: int(after[name]['BYTES']) - int(line['BYTES'])
            for name, line in before.items()} \
        == {name: int(line['FORK_BYTES']) for name, line in before.items()}


def test_fork_of_a_grandchild_reuses_what_was_left(scene: Scene) -> None:
    """An anon_vma without VMAs and with one child goes to the next child."""
    scene.play('P map M 4\nP write M\nP fork Q\nQ fork R\nQ exit\nP wait Q')
    before = families(scene.guest)
    scene.play('R fork S')
    after = {line['FAMILY']: line for line in families(scene.guest)}
    grown = [(int(after[line['FAMILY']]['BYTES']) - int(line['BYTES']),
              int(after[line['FAMILY']]['AVS']) - int(line['AVS']))
             for line in before if line['PROCESSES'] == '2'
             and line['FAMILY'] in after]
    assert len(grown) >= 5
    assert (0, 0) not in grown and 0 in {avs for _, avs in grown}


def test_what_is_reused_is_reused_once(scene: Scene) -> None:
    """By the first of five VMAs that could have it; four get their own."""
    scene.play('P map M 20\nP write M\nP fork Q\nQ fork R\nQ exit\nP wait Q\n'
               'R mprotect M 3 3 r\nR mprotect M 10 3 r')
    before, = [line for line in families(scene.guest)
               if (line['PROCESSES'], line['VMAS']) == ('2', '6')]
    scene.play('R fork S')
    after, = [line for line in families(scene.guest)
              if line['FAMILY'] == before['FAMILY']]
    assert int(after['AVS']) == int(before['AVS']) + 4
    assert int(after['BYTES']) - int(before['BYTES']) \
        == int(before['FORK_BYTES'])


def slab(guest: Guest, name: str) -> Tuple[int, int]:
    """Objects of a slab cache in use, and how many there are in one slab.

    What CPUs have at hand counts as used, so it is taken from them.
    """
    guest.check(f'echo 1 >/sys/kernel/slab/{name}/shrink')
    line = guest.check(f"grep '^{name} ' /proc/slabinfo").split()
    return int(line[1]), int(line[4])


def test_all_families_together_are_what_the_slabs_have(scene: Scene) -> None:
    """But for what is at hand of CPUs, and what waits for RCU to be freed.

    Some slabs; what came to life meanwhile is compared.
    """
    guest = scene.guest
    scene.play('P map M 4\nP write M')

    def counts() -> List[int]:
        lines = families(guest)
        return [sum(int(line[name]) for line in lines)
                for name in ('AVS', 'AVCS')]

    first, slabs = counts(), [slab(guest, name)[0]
                              for name in ('anon_vma', 'anon_vma_chain')]
    scene.play('P forkmany 300 K')
    grown = [now - then for now, then in zip(counts(), first)]
    for name, told, then in zip(('anon_vma', 'anon_vma_chain'), grown, slabs):
        used, in_one = slab(guest, name)
        assert told > 1000
        assert abs(used - then - told) <= 4 * in_one


def test_a_name_makes_no_column(guest: Guest) -> None:
    """A blank, a newline or a backslash in it."""
    text = guest.check("sh -c 'printf \"a b\\n\\\\\\\\\" >/proc/self/comm; "
                       f"cat {FAMILIES}; :'")
    assert {line.split()[-1] for line in text.splitlines()
            if line.split()[-1].startswith('a')} == {r'a\040b\012\134'}
