"""Every kind of page that rmap maps: the report must be what is there.

Every story is told once; each test asks one thing of each page it names, and
of the whole folio.
"""

from typing import Callable, Dict, List, NamedTuple, Set, Tuple

import pytest

import stories
from rvtest import kpage, vm
from rvtest.cgroup import cgroup
from rvtest.picture import complaints_of
from rvtest.report import PageMapping, Report, faults, page_mappings
from rvtest.scene import Scene
from rvtest.stage import Stage
from rvtest.text import sections
from stories import ANY, PREPARED, Case, Page

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 60
each_page = pytest.mark.parametrize('case', stories.cases(stories.KINDS))

# All of one bit, which has had several names; only the first may be told.
ONLY_MINE = {'anon-exclusive', 'mappedtodisk', 'owner_2'}


class Seen(NamedTuple):
    """A page, as the module, the processes and /proc see it."""

    scene: Scene
    report: Report
    witness: Set[PageMapping]
    flags: List[kpage.Flags]    # of its folio, and of the frame after it
    kpagecount: int


class Folio(NamedTuple):
    """All pages of its folio, as the module and the processes see them."""

    report: Report
    witness: Set[PageMapping]


@pytest.fixture
def told(series: str, stage: Stage, case: Case) -> Scene:
    """Its story, if the kernel can do what it tells."""
    stories.skip_unless_able(series, case.story)
    return stage.scene(case.story, lambda new: new.story(case.story.told))


def look(scene: Scene, page: Page) -> Seen:
    """At a page, and what /proc says of it."""
    pfn = scene.pfn(page.actor, page.region, page.page)
    report = scene.ask(f'{pfn}')
    size = 1 << report['page']['order']
    flags = kpage.kpageflags(scene.guest, report['page']['head'], size + 1)
    count, = kpage.kpagecount(scene.guest, pfn, 1)
    return Seen(scene, report, scene.witness_all(pfn, 1), flags, count)


@pytest.fixture
def seen(stage: Stage, told: Scene, case: Case) -> Seen:
    """The page."""
    return stage.once(case.what, lambda: look(told, case.page), case)


@pytest.fixture
def folio(stage: Stage, seen: Seen, case: Case) -> Folio:
    """The folio of the page."""
    def look_at_all() -> Folio:
        page = seen.report['page']
        return Folio(
            seen.scene.ask(f"{page['pfn']} folio"),
            seen.scene.witness_all(page['head'], 1 << page['order']))

    return stage.once(f'the folio of {case.what}', look_at_all, case)


@each_page
def test_it_is_mapped_where_the_pagemaps_say(seen: Seen) -> None:
    """Each process has looked through its own."""
    assert sorted(page_mappings(seen.report)) == sorted(seen.witness)


@each_page
def test_graphviz_says_nothing_against_its_picture(folio: Folio) -> None:
    """Of all of its folio."""
    assert complaints_of(folio.report) == (0, '')


# --------------------------------------------------- what the stories know --

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
    flags = set(report['page']['flags'])
    return {
        'kind': report['page']['kind'],
        'mapped_by': sorted(name for name, _, _ in ptes),
        'levels': sorted(level for _, level, _ in ptes),
        'index': report['page']['index'],
        'file': report['page'].get('file'),
        'order': report['page']['order'],
        'flags': sorted(set(page.flags.split()) & flags),
        'exclusive': sorted(ONLY_MINE & flags),
        'shares': ''.join(sorted(share for _, _, share in ptes)),
        'families': sum(av['root'] == av['id']
                        for av in report['anon_vmas']),
        'area': sorted({vma['name'] or '' for vma in report['vmas']
                        if vma['mapped']}),
    }


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
        'order': page.order,
        'flags': sorted(page.flags.split()),
        'exclusive': exclusive_of(page, kernel, got),
        'shares': page.shares or got['shares'],
        'families': got['families'] if page.families == ANY
        else page.families,
        'area': [page.area] if page.area else got['area'],
    }


@each_page
def test_the_page_is_what_the_story_made(series: str, case: Case, seen: Seen
                                         ) -> None:
    """Kind, who maps it and how, file, index, order, flags."""
    got = facts(seen.scene, case.page, seen.report)
    assert got == wanted(case.page, stories.version(series), got)


# ------------------------------------------ the report and other witnesses --

@each_page
def test_the_report_agrees_with_itself(case: Case, seen: Seen) -> None:
    """Ids, counts, AVCs, order."""
    assert faults(seen.report, case.story.reuse) == []


@each_page
def test_every_vma_stands_in_proc_maps(seen: Seen) -> None:
    """Range, rights, offset, name, pid and command."""
    assert seen.scene.proc_faults(seen.report) == []


@each_page
def test_verify_finds_the_same_entries(seen: Seen) -> None:
    """In a scan of all memory."""
    answer = seen.scene.ask(f"{seen.report['page']['pfn']} verify")
    assert answer['verify'] == {'found': len(seen.report['ptes']),
                                'changed': 0, 'missing': [], 'extra': []}


@each_page
def test_its_folio_is_mapped_where_the_pagemaps_say(folio: Folio) -> None:
    """Every page of it."""
    got = page_mappings(folio.report)
    too_many, too_few = got - folio.witness, folio.witness - got
    assert (sorted(too_many)[:5], sorted(too_few)[:5]) == ([], [])


@each_page
def test_mapcounts_are_the_entries_that_were_found(seen: Seen, folio: Folio
                                                   ) -> None:
    """Of the page, and of its folio."""
    page = seen.report['page']
    assert (page['mapcount'], page.get('folio_mapcount')) \
        == (len(seen.report['ptes']), len(folio.report['ptes']))


@each_page
def test_nothing_but_mappings_holds_it(seen: Seen, folio: Folio) -> None:
    """Whether its entries were asked for or those of the folio."""
    assert [(page['dma_pins'], page['extra_refs']) for page in
            (seen.report['page'], folio.report['page'])] == [(0, 0)] * 2


# ------------------------------------------------- the kernel's own account --

@each_page
def test_its_kind_is_that_of_kpageflags(stage: Stage, seen: Seen) -> None:
    """As far as its flags tell."""
    page = seen.report['page']
    own = seen.flags[page['pfn'] - page['head']]
    assert kpage.says(own, page['kind'], kpage.ksm_told(stage.guest)), \
        (page['kind'], sorted(own))


@each_page
def test_mapcount_is_that_of_kpagecount(seen: Seen) -> None:
    """Which counts the mappings of this page of a folio."""
    assert seen.report['page']['mapcount'] == seen.kpagecount


@each_page
def test_its_order_is_that_of_kpageflags(seen: Seen) -> None:
    """One head, then tails, and the folio ends there."""
    tails = ['tail' in some for some in seen.flags]
    assert tails == [False] + [True] * (len(tails) - 2) + [False]


@each_page
def test_its_flags_are_those_of_kpageflags(seen: Seen) -> None:
    """Those of the folio that both know by one name."""
    assert sorted(kpage.PLAIN & set(seen.report['page']['flags'])) \
        == sorted(kpage.PLAIN & seen.flags[0])


# ------------------------------------------------------ read ahead of swap --

def read_ahead(scene: Scene) -> List[Report]:
    """Pages that were read from swap before anybody wanted them.

    What was written to swap stays in memory, until some is wanted; P's group
    may have none, so that nobody else misses any.  A few pages of a slow guest
    stay all the same, of 96 that are paged out.
    """
    pid = scene.pids['P']
    with cgroup(scene.guest) as group:
        scene.story(f'''
            ! echo {pid} >{group}/cgroup.procs
            P map M 96
            P write M
            ! drain
            P madvise M 0 96 pageout
            ! idle
            ! echo 0 >{group}/memory.high; echo max >{group}/memory.high
            P madvise M 0 96 willneed
            ! idle
            ! echo {pid} >{group}/../cgroup.procs
            ''')
    return ahead_of_need(scene)


def ahead_of_need(scene: Scene) -> List[Report]:
    """Pages of the swap cache that no process maps.

    Others than P may want theirs meanwhile.
    """
    before = kpage.kpageflags(scene.guest)
    found = [pfn for pfn, some in enumerate(before)
             if 'swapcache' in some and 'anon' not in some]
    answers = scene.ask_all(f'{pfn}' for pfn in found)
    after = kpage.kpageflags(scene.guest)
    return [answer['page'] for pfn, (_, answer) in zip(found, answers)
            if before[pfn] == after[pfn]]


@pytest.fixture
def ahead(stage: Stage) -> List[Report]:
    """Those pages."""
    scene = stage.scene('read ahead', lambda new: None)
    return stage.once('read-ahead', lambda: read_ahead(scene))


def test_all_that_was_paged_out_is_read_ahead_of_need(
        ahead: List[Report], note: Callable[[str], None]) -> None:
    """Or the next test would show little."""
    note(f'{len(ahead)} pages were read ahead from swap')
    assert len(ahead) >= 64


def test_a_page_read_ahead_from_swap_is_anonymous_and_free(
        ahead: List[Report]) -> None:
    """No rmap knows it, and nobody holds it."""
    assert {(page['kind'], page['mapping'], page['mapcount'],
             page['dma_pins'], page['extra_refs'],
             'swapcache' in page['flags']) for page in ahead} \
        == {('anon', None, 0, 0, 0, True)}


# --------------------------------------------------------- protection keys --

class Keys(NamedTuple):
    """The keys of the entries of a page, by pid."""

    report: Dict[int, int]
    smaps: Dict[int, int]
    text: Dict[int, str]        # what follows their flags


def key_in_smaps(scene: Scene, pid: int, address: str) -> int:
    """That of the VMA that begins at an address."""
    begin = f'/^{int(address, 16):x}-/'
    return int(scene.guest.check(
        f"sed -n '{begin},/^VmFlags/s/^ProtectionKey: *//p' "
        f'/proc/{pid}/smaps'))


def key_in_text(row: str) -> Tuple[int, str]:
    """Of whom, and the last word if that is one."""
    words = row.split()
    return int(words[1]), words[-1] if words[-1].startswith('pkey') else ''


def look_at_keys(scene: Scene) -> Keys:
    """Of a page that a child has under a key of its own."""
    guest = scene.guest
    if guest.run('grep -qw ospke /proc/cpuinfo').status:
        pytest.skip('the processor has no protection keys')
    scene.story('''
        P map M 2
        P write M
        P fork C
        C pkey M 0 1
        ''')
    pfn = scene.pfn('P', 'M')
    report = scene.ask(f'{pfn}')
    entries = [(report['mms'][report['vmas'][pte['vma']]['mm']]['pid'], pte)
               for pte in report['ptes']]
    rows = sections(guest.check(f"ask '{pfn}'"))['PTEs'].rows
    return Keys({pid: pte['pkey'] for pid, pte in entries},
                {pid: key_in_smaps(scene, pid, pte['addr'])
                 for pid, pte in entries},
                dict(map(key_in_text, rows)))


@pytest.fixture
def keys(stage: Stage) -> Keys:
    """Those keys."""
    scene = stage.scene('protection keys', lambda new: None)
    return stage.once('keys', lambda: look_at_keys(scene))


def test_an_entry_has_the_protection_key_that_smaps_tells(keys: Keys) -> None:
    """None of one process, one of the other."""
    assert sorted(keys.smaps.values()) == [0, 1]
    assert keys.report == keys.smaps


def test_text_tells_a_protection_key_after_the_flags(keys: Keys) -> None:
    """If there is one."""
    assert keys.text == {pid: f'pkey{key}' if key else ''
                         for pid, key in keys.smaps.items()}
