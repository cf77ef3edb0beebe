"""top and audit of tools/rmapviz, on listings that a test writes."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import pytest
from prometheus_client import parser

from rmapviz_lib import audit, listing, proc, top
from rmapviz_lib.ask import Module
from rmapviz_lib.failure import Failure
from rmapviz_lib.report import Report

metrics: Callable[[str], Iterator[Any]] \
    = parser.text_string_to_metric_families

SURVEY = '''\
PFN ORDER KIND MAPCOUNT REFCOUNT DMA_PINS EXTRA_REFS VISITED MAPPED \
FAMILY CHAIN_BYTES
0x10 0 anon 3 3 0 0 5 3 00000000deadbeef 64
0x11 0 ksm 4 4 0 0 4 4 - 64
0x12 0 anon 1 1025 1 0 1 1 00000000deadbeef 0
0x13 0 file 2 3 0 1 9 2 0000000012345678 64
0x14 0 shmem 2 3 0 0 - - 0000000012345679 64
0x200 9 anon 2 2 0 0 2 2 00000000cafebabe 32768
'''
FAMILIES = '''\
FAMILY PID PROCESSES VMAS AVS AVCS DEPTH BYTES FORK_BYTES COMM
00000000deadbeef 7 3 5 5 12 2 1248 376 a b
00000000cafebabe 9 100 100 100 199 1 22336 240 web
'''


class Machine:
    """A module and a /proc that a test makes; it is a source of answers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / 'rmapviz_survey').write_text(SURVEY)
        (root / 'rmapviz_families').write_text(FAMILIES)
        self.memory: Dict[int, Dict[int, int]] = {}
        self.answers: Dict[str, Report] = {}
        self.asked: List[str] = []
        self.module = Asked(self)
        (root / 'proc').mkdir()
        (root / 'proc/iomem').write_text(
            '00001000-0009ffff : System RAM\n00100000-003fffff : System RAM\n'
            'f0000000-ffffffff : PCI Bus\n')
        self.proc = proc.Proc(str(root))

    def ask(self, query: str) -> Report:
        """What a test has said to be the answer."""
        self.asked.append(query)
        if query not in self.answers:
            raise Failure('no such page')
        return self.answers[query]

    def process(self, pid: int, *areas: Dict[int, int],
                cgroup: str = '0::/\n') -> None:
        """With areas of some pages each: frames by page, from 0 on."""
        directory = self.root / f'proc/{pid}'
        directory.mkdir()
        (directory / 'cgroup').write_text(cgroup)
        maps, table = '', bytearray()
        for area in areas:
            start, length = len(table) // 8, max(area) + 1
            maps += f'{start * 4096:x}-{(start + length) * 4096:x} rw-p ' \
                f'00000000 00:00 0 \n'
            for page in range(length):
                word = 1 << 63 | area[page] if page in area else 0
                table += word.to_bytes(8, 'little')
        (directory / 'maps').write_text(maps)
        (directory / 'pagemap').write_bytes(bytes(table))


class Asked(Module):
    """A module that asks a test's machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(str(machine.root))
        self._machine = machine

    def ask(self, query: str) -> Report:
        """The answer."""
        return self._machine.ask(query)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Without processes."""
    return Machine(tmp_path)


def on_top(machine: Machine, what: str, number: int = 10,
           chosen: Optional[top.Only] = None) -> List[int]:
    """The frames that are listed."""
    teller = top.Top(machine.module, machine.proc, None)  # type: ignore
    return [folio.pfn for folio in teller.folios(what, number, chosen)]


@pytest.mark.parametrize('what, pfns', [
    ('shared', [0x11, 0x10, 0x13, 0x200, 0x12]), ('wasted', [0x13, 0x10]),
    ('pinned', [0x12, 0x13]),
    ('chains', [0x200, 0x10, 0x11, 0x13, 0x14])])
def test_what_is_on_top(machine: Machine, what: str, pfns: List[int]) -> None:
    """The most first; what has none is not there."""
    assert on_top(machine, what) == pfns


def test_as_many_are_on_top_as_are_asked_for(machine: Machine) -> None:
    """No more."""
    assert on_top(machine, 'chains', 1) == [0x200]


def test_the_largest_family_is_first(machine: Machine) -> None:
    """A name may have blanks."""
    teller = top.Top(machine.module, machine.proc, None)  # type: ignore
    assert [(family.vmas, family.comm)
            for family in teller.families(10, None)] \
        == [(100, 'web'), (5, 'a b')]


def test_only_what_a_process_has_is_on_top(machine: Machine) -> None:
    """Also where it has but a tail of a folio."""
    machine.process(7, {0: 0x10, 3: 0x2ab})
    chosen = top.only(machine.proc, 7, None)
    assert set(on_top(machine, 'shared', 10, chosen)) == {0x10, 0x200}


@pytest.mark.parametrize('name, pids', [
    ('a.service', [7]), ('/system.slice', [7, 8]), ('system.slice', [7, 8])])
def test_a_cgroup_is_named_by_unit_or_path(machine: Machine, name: str,
                                           pids: List[int]) -> None:
    """With all below it."""
    machine.process(7, {0: 1}, cgroup='0::/system.slice/a.service\n')
    machine.process(8, {0: 2}, cgroup='0::/system.slice/b.service\n')
    machine.process(9, {0: 3}, cgroup='0::/system.slices\n')
    chosen = top.only(machine.proc, None, name)
    assert chosen and chosen.pids == pids


def test_a_cgroup_without_processes_is_said_in_a_line(machine: Machine
                                                      ) -> None:
    """As is a process that there is not."""
    for words in ((None, 'nothing'), (99, None)):
        with pytest.raises(Failure):
            top.only(machine.proc, *words)


def test_totals_are_as_prometheus_takes_them(machine: Machine) -> None:
    """Each with its help and type; the sums are those of the listing."""
    machine.answers['0x11 brief'] = {'walk': {'unreached': 1}}
    lines = list(top.prometheus(machine.module))
    values: Dict[str, float] = {}
    for metric in metrics('\n'.join([*lines, ''])):
        assert metric.type == 'gauge' and metric.documentation
        for sample in metric.samples:
            labels = ''.join(f' {name}={value}'
                             for name, value in sample.labels.items())
            values[sample.name + labels] = sample.value
    assert len(values) == len([one for one in lines if one[0] != '#'])
    assert values['rmapviz_mapped_folios kind=anon'] == 3
    assert values['rmapviz_vmas_visited_in_vain'] == 2 + 7
    assert values['rmapviz_dma_pins'] == 1
    assert values['rmapviz_held_folios'] == 1
    assert values['rmapviz_busy_folios'] == 1
    assert values['rmapviz_unreached_mappings'] == 1
    assert values['rmapviz_largest_family_vmas'] == 100
    assert values['rmapviz_anon_vma_bytes'] == 1248 + 22336


def test_a_listing_without_a_column_is_said_in_a_line(machine: Machine
                                                      ) -> None:
    """It is of another version."""
    (machine.root / 'rmapviz_survey').write_text('PFN ORDER\n0x1 0\n')
    with pytest.raises(Failure, match='column'):
        list(listing.survey(machine.root / 'rmapviz_survey'))


# ------------------------------------------------------------------- audit --

def whole(machine: Machine) -> None:
    """Processes that map what the survey says."""
    huge = {page: 0x200 + page for page in range(512)}
    machine.process(1, {0: 0x10, 1: 0x12}, {0: 0x11, 1: 0x11}, huge)
    machine.process(2, {0: 0x10}, {0: 0x13}, {0: 0x11, 1: 0x11}, huge)
    machine.process(3, {0: 0x10}, {0: 0x13, 1: 0x14})
    machine.answers['0x11 brief'] = {'walk': {'unreached': 0}}


def run(machine: Machine) -> Tuple[audit.Audit, List[audit.Find]]:
    """An audit, and what stands."""
    made = audit.Audit(machine.module, machine.proc)
    return made, list(made.run())


def test_a_machine_that_agrees_has_no_finds(machine: Machine) -> None:
    """Nothing is asked but about KSM; a huge page counts once a VMA."""
    whole(machine)
    made, found = run(machine)
    assert found == []
    assert machine.asked == ['0x11 brief']
    assert made.spaces == 3


def answer(pfn: int, places: Set[Tuple[int, int]], **more: Any) -> Report:
    """What the module says of a page."""
    pids = sorted({pid for pid, _ in places})
    return {'page': {'pfn': pfn, 'kind': more.pop('kind', 'anon')},
            'walk': {'unreached': 0, 'lost': 0},
            'mms': [{'pid': pid, 'tasks': [pid]} for pid in pids],
            'vmas': [{'mm': i} for i in range(len(pids))],
            'ptes': [{'vma': pids.index(pid), 'addr': hex(at), 'pages': 1,
                      'pfn': pfn}
                     for pid, at in sorted(places)], **more}


def test_a_mapping_that_rmap_does_not_find_is_a_find(machine: Machine
                                                     ) -> None:
    """If it stands when it is asked about again, and verify sees it."""
    whole(machine)
    machine.process(4, {0: 0x12})
    machine.answers['0x12'] = answer(0x12, {(1, 0x1000)})
    machine.answers['0x12 verify'] = answer(
        0x12, {(1, 0x1000)}, verify={'missing': [{}], 'extra': []})
    (find,) = run(machine)[1]
    assert (find.pfn, find.explained) == (0x12, False)


def test_what_agrees_at_a_second_look_is_no_find(machine: Machine) -> None:
    """Somebody forked between the two passes."""
    whole(machine)
    machine.process(4, {0: 0x12})
    machine.answers['0x12'] = answer(0x12, {(1, 0x1000), (4, 0)})
    assert run(machine)[1] == []
    assert '0x12 verify' not in machine.asked


def test_a_mapping_that_no_page_table_has_is_a_find(machine: Machine
                                                    ) -> None:
    """Rmap says that another maps it."""
    whole(machine)
    (machine.root / 'rmapviz_survey').write_text(SURVEY.replace(
        '1 1 00000000deadbeef 0',
        '2 2 00000000deadbeef 0'))
    machine.answers['0x12'] = answer(0x12, {(1, 0x1000), (3, 0x5000)})
    machine.answers['0x12 verify'] = answer(
        0x12, set(), verify={'missing': [], 'extra': [{}]})
    (find,) = run(machine)[1]
    assert (find.pfn, find.explained) == (0x12, False)


def test_the_gap_of_ksm_is_explained(machine: Machine) -> None:
    """By its name, and no find."""
    whole(machine)
    machine.answers['0x11 brief'] = {'walk': {'unreached': 2}}
    machine.answers['0x11 verify'] = answer(
        0x11, set(), kind='ksm', walk={'unreached': 2, 'lost': 0},
        verify={'missing': [{}, {}], 'extra': []})
    (find,) = run(machine)[1]
    assert find.explained and 'ksmd' in find.text


def test_the_zero_page_is_no_find(machine: Machine) -> None:
    """The survey does not have it, though everybody maps it."""
    whole(machine)
    machine.process(4, {0: 0x30})
    machine.answers['0x30'] = answer(0x30, set(), kind='zero')
    assert run(machine)[1] == []


def test_memory_ends_where_iomem_says(machine: Machine) -> None:
    """Not where devices are."""
    assert audit.last_frame(machine.proc) == 0x3ff


def test_a_folio_that_has_come_since_is_asked_about_page_by_page(
        machine: Machine) -> None:
    """What else it has is another doubt, or none."""
    whole(machine)
    machine.process(4, {0: 0x31})
    made = answer(0x31, {(4, 0)})
    made['ptes'].append({'vma': 0, 'addr': '0x1000', 'pages': 7, 'pfn': 0x32})
    machine.answers['0x31'] = made
    assert run(machine)[1] == []
    assert '0x31 verify' not in machine.asked
