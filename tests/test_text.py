"""The report as text: what is folded or summed up, and what never is."""

import re
from typing import Dict, Iterable, List, NamedTuple, Tuple

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.report import Report
from rvtest.scene import FILE, Scene
from rvtest.stage import Stage
from rvtest.text import NAMES, Section, looks, misprints, sections
from stories import slug

KERNELS = vm.some_kernels
SECONDS = 20

# Families of more than 20, in which rows are alike, and some are not.
CROWDS = {
    'workers': '''
        P map M 2
        P write M
        P forkmany 40 C
        ''',
    'one that has written': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 write M 0
        ''',
    'one of another name': '''
        P map M 2
        P write M
        P forkmany 20 C
        P fork other
        P forkmany 20 D
        ''',
    'one that has looked': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 read M 0 1
        ''',
    'one that may not write': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 mprotect M 0 2 r
        ''',
    'one that has moved it': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 mremap M 0 2 N
        ''',
    'one that has a child': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 fork G
        ''',
    'one whose memory is of two': '''
        P map M 2
        P write M
        P forkmany 40 C
        C17 clone_vm G
        ''',
    'the last one': '''
        P map M 2
        P write M
        P forkmany 40 C
        C39 write M 0
        ''',
    'three VMAs each': '''
        P map M 3
        P write M
        P mprotect M 1 1 r
        P forkmany 20 C
        C13 unmap M 1 1
        ''',
    'children of children': '''
        P map M 1
        P write M''' + ''.join(f'''
        P fork A{i}
        A{i} fork B{i}''' for i in range(12)),
    'a huge page of small entries': '''
        P map M 512
        P madvise M 0 512 hugepage
        P write M
        P fork C
        C unmap M 3 1
        C read M 100 1
        ''',
}


class Told(NamedTuple):
    """One page, asked about as text in two lengths, and as JSON."""

    short: str
    full: str
    report: Report


def ask(scene: Scene, query: str) -> Told:
    """All three, in one instant if nothing moves."""
    return Told(scene.guest.check(f'ask {query}'),
                scene.guest.check(f'ask {query} full'), scene.ask(query))


@pytest.fixture
def told(stage: Stage, case: str) -> Told:
    """Of the first page of one of those families."""
    scene = stage.scene(case, lambda new: new.story(CROWDS[case]))
    options = ' folio' if 'huge' in case else ''
    return stage.once('the report', lambda: ask(
        scene, f'{scene.pfn("P", "M")}{options}'))


each_crowd = pytest.mark.parametrize(
    'case', [pytest.param(case, id=slug(case)) for case in CROWDS])


# -------------------------------------------------------------- folding ----

@each_crowd
def test_what_is_left_out_looks_like_what_is_shown(told: Told) -> None:
    """In each table: nothing that is different is missing."""
    short, full = sections(told.short), sections(told.full)
    assert {label: looks(label, short[label]) for label in NAMES} \
        == {label: looks(label, full[label]) for label in NAMES}


@each_crowd
def test_what_is_left_out_is_counted(told: Told) -> None:
    """Rows that are shown and those that are not come to all of them."""
    short = sections(told.short)
    few = len(told.report['vmas']) <= 8     # then AVCs are a grid
    want = {'anon_vmas': len(told.report['anon_vmas']),
            'AVCs': len(told.report['anon_vmas' if few else 'vmas']),
            'VMAs': len(told.report['vmas']),
            'PTEs': len(told.report['ptes'])}
    assert {label: short[label].length for label in want} == want


@each_crowd
def test_the_first_vma_that_keeps_the_page_is_named(told: Told) -> None:
    """And how many there are besides, as JSON has them."""
    keepers = [vma for vma in told.report['vmas'] if vma['unmap']]
    first, others = keepers[0], len(keepers) - 1
    pid = told.report['mms'][first['mm']]['pid']
    more = {0: '', 1: ' and 1 other'}.get(others, f' and {others} others')
    line = f"kept by VMA{first['id']} of {pid} ({' '.join(first['unmap'])})"
    for text in told.short, told.full:
        assert [row.strip() for row in text.splitlines()
                if 'kept by' in row] == [line + more]


@each_crowd
def test_full_leaves_nothing_out(told: Told) -> None:
    """Every VMA has its row, and nothing is more."""
    rows = sections(told.full)['VMAs'].rows
    assert [re.match(r'VMA(\d+) +(\d+) ', row).groups()     # type: ignore
            for row in rows] \
        == [(str(vma['id']), str(told.report['mms'][vma['mm']]['pid']))
            for vma in told.report['vmas']]
    assert 'more' not in told.full


@each_crowd
def test_a_folded_report_is_short(told: Told) -> None:
    """Of these families, and says what to do about it in place."""
    assert len(told.short.splitlines()) < 75 < len(told.full.splitlines())
    assert '; full shows all' in told.short


@each_crowd
def test_a_folded_report_can_be_pasted(told: Told) -> None:
    """ASCII, no blanks at the end of a line, under 100 columns; but entries
    of a folio have a frame each."""
    folio = told.report['query'].endswith('folio json')
    assert misprints(told.short, 120 if folio else 99) == []


def test_a_line_in_place_of_rows_names_one_that_it_stands_for(stage: Stage
                                                              ) -> None:
    """The last that is shown."""
    scene = stage.scene('workers', lambda new: new.story(CROWDS['workers']))
    text = scene.guest.check(f'ask {scene.pfn("P", "M")}')
    found = sections(text)
    assert [found[label].lines[4] for label in ('AVCs', 'VMAs', 'PTEs')] \
        == ['37 more like VMA3; full shows all'] * 3
    assert found['anon_vmas'].lines[4:] \
        == ['`- 37 more like AV3; full shows all']


def test_rows_that_repeat_others_in_turn_are_folded(stage: Stage) -> None:
    """Each child has a child; the line names the last two that are shown."""
    case = 'children of children'
    scene = stage.scene(case, lambda new: new.story(CROWDS[case]))
    lines = sections(scene.guest.check(f'ask {scene.pfn("P", "M")}')
                     )['anon_vmas'].lines
    names = re.findall(r'AV\d+', ' '.join(lines[-3:-1]))
    assert lines[-1].strip() \
        == f'`- 18 more like {names[0]} to {names[1]}; full shows all'


@pytest.mark.parametrize('children, folded', ((19, False), (20, True)))
def test_twenty_rows_are_not_folded(scene: Scene, children: int,
                                    folded: bool) -> None:
    """Twenty-one are."""
    scene.play(f'P map M 1\nP write M\nP forkmany {children} C')
    text = scene.guest.check(f'ask {scene.pfn("P", "M")}')
    assert (' more like ' in text) == folded


def test_small_reads_of_a_folded_report_give_the_same(stage: Stage) -> None:
    """What becomes of a row does not depend on who asks for how much."""
    case = 'three VMAs each'
    scene = stage.scene(case, lambda new: new.story(CROWDS[case]))
    guest = scene.guest
    guest.check(f'echo {scene.pfn("P", "M")} >{FILE}')
    small, large = (guest.check(f'dd if={FILE} bs={size} 2>/dev/null'
                                ' | sed "/locks held/ d"')
                    for size in ('7', '64k'))
    assert small == large and ' more like ' in small


GENERATIONS = 20


@pytest.fixture
def generations(scene: Scene) -> Told:
    """A page that twenty processes have from one another."""
    scene.play('P map M 1\nP write M')
    for i in range(1, GENERATIONS):
        scene.play(f'{f"G{i - 1}" if i > 1 else "P"} fork G{i}')
    return ask(scene, f'{scene.pfn("P", "M")}')


def test_a_long_chain_of_anon_vmas_is_cut_short(generations: Told) -> None:
    """To its beginning and its end, and the rest is counted."""
    last = sections(generations.short)['AVCs'].lines[-1]
    assert last.split() == [
        f'VMA{GENERATIONS - 1}', *(f'AV{i}' for i in range(10)), '(9',
        'more;', 'full', 'shows', 'all)', f'AV{GENERATIONS - 1}*']
    assert misprints(generations.short) == []


def test_full_has_all_of_a_long_chain_of_anon_vmas(generations: Told) -> None:
    """In two lines."""
    words = ' '.join(sections(generations.full)['AVCs'].lines).split()
    assert words[words.index(f'VMA{GENERATIONS - 1}') + 1:] \
        == [f'AV{i}' for i in range(GENERATIONS - 1)] \
        + [f'AV{GENERATIONS - 1}*']
    assert misprints(generations.full) == []


# --------------------------------------------------- a process's families --

PROCESSES = {
    'one alone': '''
        P map M 2
        P write M
        ''',
    'with children': '''
        P map M 3
        P write M
        P mprotect M 1 1 r
        P fork C
        C fork G
        P forkmany 3 D
        C write M 0
        ''',
    'one whose memory is of two': '''
        P map M 2
        P write M
        P clone_vm Q
        P fork C
        ''',
    'with many families': ''.join(f'''
        P map M{i} 1
        P write M{i}''' for i in range(30)) + '''
        P fork C
        P map N 1
        P write N
        ''',
}

# ROOT, PROCS, VMAS, AVS, AVCS, DEPTH, LARGEST, and how many are its own.
Row = Tuple[str, int, int, int, int, int, int, int]


def sums(report: Report, roots: Iterable[int], pid: int, name: str) -> Row:
    """Of some families of a report, from its records alone."""
    avs = [av for av in report['anon_vmas'] if av['root'] in roots]
    ids = {av['id'] for av in avs}
    vmas = [vma for vma in report['vmas'] if vma['anon_vma'] in ids]
    avcs = [avc for avc in report['avcs'] if avc['anon_vma'] in ids]
    trees = [avc['anon_vma'] for avc in avcs]
    tasks = {vma['id']: report['mms'][vma['mm']]['tasks'] for vma in vmas}
    return (name, len({task for some in tasks.values() for task in some}),
            len(vmas), len(avs), len(avcs), max(av['level'] for av in avs),
            max(trees.count(av) for av in ids),
            sum(pid in some for some in tasks.values()))


def wanted(report: Report, pid: int) -> List[Row]:
    """The table that must come of a report."""
    roots = [av['id'] for av in report['anon_vmas']
             if av['root'] == av['id']]
    return [*(sums(report, {root}, pid, f'AV{root}') for root in roots),
            sums(report, set(roots), pid, 'total')]


def row_of(line: str) -> Row:
    """A row of the table of families."""
    name, *numbers, own = line.split(None, 7)
    if name == 'total':
        count = int(own.split()[0])
    else:
        more = re.match(r'[0-9a-f]{12}-[0-9a-f]{12}(?: \+(\d+))?', own)
        assert more, line
        count = 1 + int(more[1] or 0)
    procs, vmas, avs, avcs, depth, largest = map(int, numbers)
    return (name, procs, vmas, avs, avcs, depth, largest, count)


class Process(NamedTuple):
    """A process, as text, in full, and as JSON."""

    scene: Scene
    pid: int
    told: Told

    @property
    def table(self) -> Section:
        """Its families."""
        return sections(self.told.short)['families']


@pytest.fixture
def process(stage: Stage, case: str) -> Process:
    """Who has a page, and whoever is of its family."""
    scene = stage.scene(case, lambda new: new.story(PROCESSES[case]))
    pid = scene.pids.get('Q', scene.pids['P'])
    return Process(scene, pid, stage.once(
        'the process', lambda: ask(scene, f'pid {pid}')))


each_process = pytest.mark.parametrize(
    'case', [pytest.param(case, id=slug(case)) for case in PROCESSES])


@each_process
def test_the_table_of_families_has_the_sums_of_the_records(
        process: Process) -> None:
    """Those of JSON, added up; of rows that are folded, the first."""
    want = {row[0]: row for row in wanted(process.told.report, process.pid)}
    rows = [row_of(row) for row in process.table.rows]
    assert rows == [want[row[0]] for row in rows]
    assert len(rows) + process.table.left_out == len(want)
    assert rows[-1][0] == 'total'


@each_process
def test_families_that_are_left_out_are_like_those_shown(process: Process
                                                         ) -> None:
    """In every number."""
    assert {row_of(row)[1:] for row in process.table.rows} \
        == {row[1:] for row in wanted(process.told.report, process.pid)}


@each_process
def test_the_table_of_families_names_memory_of_the_process(
        process: Process) -> None:
    """Of each family the first VMA that it has there."""
    report = process.told.report
    own: Dict[str, str] = {}
    for vma in report['vmas']:
        if process.pid in report['mms'][vma['mm']]['tasks']:
            root = report['anon_vmas'][vma['anon_vma']]['root']
            own.setdefault(f'AV{root}', f"{int(vma['start'], 16):012x}-"
                                        f"{int(vma['end'], 16):012x}")
    shown = {line.split()[0]: line.split()[7]
             for line in process.table.rows[:-1]}
    assert shown == {root: own[root] for root in shown}


@each_process
def test_the_table_of_families_can_be_pasted(process: Process) -> None:
    """ASCII, no blanks at the end of a line, under 100 columns."""
    assert misprints(process.told.short) == []


@each_process
def test_full_has_the_records_of_a_process(process: Process) -> None:
    """A row for each, and no table of families."""
    found, report = sections(process.told.full), process.told.report
    assert (len(found['anon_vmas'].rows), len(found['VMAs'].rows)) \
        == (len(report['anon_vmas']), len(report['vmas']))
    assert 'families' not in found


@each_process
def test_a_process_without_full_is_no_records(process: Process) -> None:
    """Only the table and the cost."""
    assert set(sections(process.told.short)) \
        == {'families', 'cost', 'history'}


def test_many_families_are_folded(stage: Stage) -> None:
    """Of one region each, that a child has too."""
    case = 'with many families'
    scene = stage.scene(case, lambda new: new.story(PROCESSES[case]))
    table = sections(scene.guest.check(f'ask pid {scene.pids["P"]}')
                     )['families']
    assert table.left_out > 20 > len(table.rows)


def test_full_changes_no_json(stage: Stage) -> None:
    """Which always has everything."""
    case = 'with many families'
    scene = stage.scene(case, lambda new: new.story(PROCESSES[case]))
    query = f'pid {scene.pids["P"]}'
    plain, full = scene.ask(query), scene.ask(f'{query} full')
    assert [key for key in plain if key not in ('query', 'walk')
            and plain[key] != full[key]] == []


def test_a_kernel_thread_has_no_families(guest: Guest) -> None:
    """It has no memory, and no table."""
    text = guest.check('ask pid 2')
    assert text.startswith('pid 2: 0 anon_vmas in 0 families\n')
    assert set(sections(text)) == {'cost'}


# -------------------------------------------------------------- by eye -----

# A page in several places: moved, of a file from the middle on, of shared
# memory, and the second of a region.
PLACES = {
    'a region': '''
        P map M 4
        P write M
        P fork C
        ''',
    'a piece of a region': '''
        P map M 8
        P write M
        P mprotect M 0 2 r
        P fork C
        ''',
    'a region that was moved': '''
        P map M 8
        P write M
        P fork C
        C mremap M 2 4 N
        ''',
    'shared memory': '''
        P map M 4 shared
        P write M
        P fork C
        C unmap M 0 2
        ''',
}


@pytest.mark.parametrize('case', [
    pytest.param(case, id=slug(case)) for case in PLACES])
def test_pgoff_and_index_come_to_the_address(stage: Stage, case: str) -> None:
    """start + (index - pgoff) * 4096, as one does it by eye."""
    scene = stage.scene(case, lambda new: new.story(PLACES[case]))
    text = scene.guest.check(f'ask {scene.pfn("P", "M", 3)}')
    index = int(re.search(r', index (0x[0-9a-f]+)', text)[1],  # type: ignore
                16)
    places = {}
    for row in sections(text)['VMAs'].rows:
        found = re.match(r'(VMA\d+) .* ([0-9a-f]{12})-[0-9a-f]{12} \S{4} '
                         r'(0x[0-9a-f]+) .* maps', row)
        if found:
            places[found[1]] = int(found[2], 16) \
                + (index - int(found[3], 16)) * 4096
    assert places and places == {
        row.split()[0]: int(row.split()[2], 16)
        for row in sections(text)['PTEs'].rows}


# The low bits of ->mapping, of which the kernel says what they mean.
WORDS = {
    'anonymous': ('P map M 1\nP write M\nP fork C', 1),
    'shared': ('P map M 1 shared\nP write M\nP fork C', 0),
}


@pytest.mark.parametrize('case', WORDS)
def test_ptrs_show_the_words_of_struct_page(stage: Stage, case: str) -> None:
    """->mapping with its low bits, and _mapcount, which begins at -1."""
    story, bits = WORDS[case]
    scene = stage.scene(case, lambda new: new.story(story))
    query = f'{scene.pfn("P", "M")} ptrs'
    text, page = scene.guest.check(f'ask {query}'), scene.ask(query)['page']
    assert (f"->mapping {int(page['mapping_ptr'], 16) | bits:#x}, "
            f"_mapcount {page['mapcount'] - 1}\n") in text


def test_without_ptrs_there_are_no_words_of_struct_page(scene: Scene) -> None:
    """They are for those who may see addresses."""
    scene.play('P map M 1\nP write M')
    assert '->mapping' not in scene.guest.check(
        f'ask {scene.pfn("P", "M")}')
