"""What each era would have done: history must be what comes out otherwise.

Every story of the other tests is told once; what the report of each page it
names says of the past is held against rvtest.eras, which builds the chains of
2.6.0 from what the processes find in their own pagemaps.
"""

import re
from typing import Any, Dict, NamedTuple, Set

import pytest

import stories
from rvtest import eras, vm
from rvtest.eras import FrameEntry
from rvtest.report import Report
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import PREPARED, Case, Member, Story

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 90

STORIES = stories.FAMILIES + stories.KINDS
each_page = pytest.mark.parametrize('case', stories.cases(STORIES))
each_member = pytest.mark.parametrize('case', stories.cases(stories.FAMILIES))
each_large = pytest.mark.parametrize('case', [
    case for case in stories.cases(STORIES)
    if getattr(case.values[0].page, 'order', 0)])
each_story = pytest.mark.parametrize('case', [
    pytest.param(story, id=stories.slug(story.name)) for story in STORIES])


class Seen(NamedTuple):
    """A report, and what must be said in it of the past."""

    report: Report
    wanted: Dict[str, Any]


# ------------------------------------------------------------- the scenes --

def tell(series: str, stage: Stage, story: Story) -> Scene:
    """A story, if the kernel can do what it tells."""
    stories.skip_unless_able(series, story)
    return stage.scene(story, lambda new: new.story(story.told))


def own_account(scene: Scene, first: int, count: int) -> Set[FrameEntry]:
    """Where frames are mapped, as the processes see it; an address space
    counts once, by the pid of who had it first."""
    return {(scene.pids[scene.spaces[name]], address, frame)
            for name, address, frame in scene.witness_by_name(first, count)}


def see(series: str, scene: Scene, query: str, whole: bool = False) -> Seen:
    """A report on a page, or on all pages of its folio."""
    report = scene.ask(query)
    page = report['page']
    asked = range(page['pfn'], page['pfn'] + 1)
    if whole:
        asked = range(page['head'], page['head'] + (1 << page['order']))
    return Seen(report, eras.history(
        report, stories.version(series), eras.sizes(scene.guest),
        own_account(scene, asked.start, len(asked)), asked))


def frame(scene: Scene, case: Case) -> int:
    """That of the page."""
    return scene.pfn(case.page.actor, case.page.region, case.page.page)


@pytest.fixture
def seen(series: str, stage: Stage, case: Case) -> Seen:
    """A page of a story."""
    scene = tell(series, stage, case.story)
    return stage.once(f'the past of {case.what}', lambda: see(
        series, scene, f'{frame(scene, case)}'), case)


@pytest.fixture
def folio(series: str, stage: Stage, case: Case) -> Seen:
    """All pages of its folio."""
    scene = tell(series, stage, case.story)
    return stage.once(f'the past of the folio of {case.what}', lambda: see(
        series, scene, f'{frame(scene, case)} folio', True), case)


# ----------------------------------------------------------- of every page --

@each_page
def test_chains_of_2_6_0_are_those_that_its_functions_build(seen: Seen
                                                            ) -> None:
    """In lines and pointers of every size, and after a fork of everyone."""
    assert seen.report['history']['pte_chain'] == seen.wanted['pte_chain']


@each_page
def test_the_list_of_2_6_11_has_all_vmas_of_the_family(seen: Seen) -> None:
    """Of these, which have the page's index, and which map it."""
    assert seen.report['history']['objrmap'] == seen.wanted['objrmap']


@each_member
def test_the_list_of_2_6_11_is_who_came_from_one_by_fork(
        case: Case, seen: Seen) -> None:
    """As the story has them: everyone who is named below the root."""
    page: Member = case.page
    owners = re.findall(r'\w[\w.]*', page.tree)
    assert seen.report['history']['objrmap']['list'] == len(owners)


@each_page
def test_bytes_of_anon_vmas_are_those_of_their_slabs(seen: Seen) -> None:
    """By the sizes of this kernel."""
    assert seen.report['history']['av_avc'] == seen.wanted['av_avc']


@each_page
def test_nothing_is_scanned_unasked(seen: Seen) -> None:
    """It takes verify."""
    assert seen.report['history']['scan'] is None


@each_large
def test_of_a_folio_every_page_has_a_chain(folio: Seen) -> None:
    """Hundreds of chains, of entries small and large."""
    assert folio.report['history'] == folio.wanted


def test_chains_of_a_crowd_take_blocks_of_every_size(
        series: str, scene: Scene) -> None:
    """More entries than any block has room for."""
    scene.play('P map M 1\nP write M\nP forkmany 40 C')
    seen = see(series, scene, f"{scene.pfn('P', 'M')}")
    chain = seen.report['history']['pte_chain']
    assert chain == seen.wanted['pte_chain']
    assert [layout['blocks'] for layout in chain['layouts']] \
        == [6, 3, 2, 14, 6, 3]


@each_story
def test_of_a_process_the_families_are_summed_up(
        series: str, stage: Stage, case: Story) -> None:
    """What is allocated for all it has; no page, no visits."""
    scene = tell(series, stage, case)
    pid = scene.pids[case.pages[0].actor]
    report = scene.ask(f'pid {pid}')
    assert report['history'] == eras.history_of_process(
        report, eras.sizes(stage.guest))


# ------------------------------------------------------------------- 2.4 --

@each_page
def test_a_scan_hits_what_the_pagemaps_say(
        series: str, stage: Stage, case: Case, seen: Seen) -> None:
    """And the last hit is among what was looked at; the rest is the same as
    without it."""
    scene = tell(series, stage, case.story)
    history = scene.ask(f"{seen.report['page']['pfn']} verify")['history']
    scan = history.pop('scan')
    hits = seen.wanted['pte_chain']['hits']
    assert (scan['hits'], scan['waste']) == (hits, scan['visits'] - hits)
    assert hits <= scan['until_last'] <= scan['visits']
    assert history == {way: told for way, told
                       in seen.report['history'].items() if way != 'scan'}


def test_a_scan_looks_at_what_is_before_the_last_mapping(scene: Scene
                                                         ) -> None:
    """Two pages of one process with 999 between them."""
    scene.play('P map M 1001\nP madvise M 0 1001 nohugepage\nP write M')
    first, last = (scene.ask(f"{scene.pfn('P', 'M', page)} verify")
                   ['history']['scan']['until_last'] for page in (0, 1000))
    assert last - first == 1000


def test_a_scan_ends_before_it_begins_if_nothing_maps_the_page(scene: Scene
                                                               ) -> None:
    """There is no last one."""
    scan = scene.ask('0 verify')['history']['scan']
    assert (scan['hits'], scan['until_last']) == (0, 0)
    assert scan['visits'] == scan['waste'] > 0


def test_a_scan_looks_at_every_page_that_is_mapped(scene: Scene) -> None:
    """Of others, too, which have nothing to do with the page asked for."""
    scene.play('P map M 1\nP write M\nP fork C\nC map N 3000\n'
               'C madvise N 0 3000 nohugepage')
    query = f"{scene.pfn('P', 'M')} verify"
    before = scene.ask(query)['history']['scan']
    scene.play('C write N')
    after = scene.ask(query)['history']['scan']
    assert after['hits'] == before['hits'] == 2
    # the one who asks is scanned as well, and not the same each time
    assert abs(after['visits'] - before['visits'] - 3000) < 100


# ----------------------------------------------------- the model of chains --

GEOMETRY = pytest.mark.parametrize('line, pointer, nrpte', [
    (32, 4, 7), (64, 4, 15), (128, 4, 31), (32, 8, 3), (64, 8, 7),
    (128, 8, 15)])


@GEOMETRY
def test_a_page_of_one_entry_needs_no_block(line: int, pointer: int,
                                            nrpte: int) -> None:
    """struct page has room for that one."""
    memory = eras.Memory(line, pointer, {('P', 0, 1)})
    assert (memory.blocks.nrpte, memory.form(), len(memory.blocks)) \
        == (nrpte, 'direct', 0)


@GEOMETRY
def test_a_block_is_filled_before_there_is_another(line: int, pointer: int,
                                                   nrpte: int) -> None:
    """One with the second entry, and one more after every NRPTE."""
    page = eras.Page(eras.Blocks(line, pointer))
    grown = []
    for i in range(3 * nrpte + 1):
        page.add_rmap(('P', i))
        grown.append(len(page.blocks))
    assert grown == [0, *[1] * (nrpte - 1), *[2] * nrpte, *[3] * nrpte, 4]
    assert sorted(page.entries()) == [('P', i) for i in range(3 * nrpte + 1)]


@GEOMETRY
def test_chains_that_shrank_are_as_if_they_had_grown_so_far(
        line: int, pointer: int, nrpte: int) -> None:
    """Whichever entry goes; the last two when reclaim looks at the page."""
    total = 2 * nrpte + 2
    for step in (1, 2, 5, total - 1):
        page = eras.Page(eras.Blocks(line, pointer))
        for i in range(total):
            page.add_rmap(('P', i))
        left = list(range(total))
        while left:
            page.remove_rmap(('P', left.pop(step % len(left))))
            page.referenced()
            same = eras.Memory(line, pointer, {('P', i, 1) for i in left})
            assert (len(page.blocks), sorted(page.entries()), page.form) \
                == (len(same.blocks), [('P', i) for i in left], same.form())


def test_a_fork_doubles_the_entries_and_not_always_the_blocks() -> None:
    """A direct entry becomes a block, four fit where two were, five do not
    where there are seven to a block."""
    def grows(entries: int) -> int:
        memory = eras.Memory(64, 8, {(i, 0, 1) for i in range(entries)})
        before = len(memory.blocks)
        memory.fork()
        assert memory.looks() == 2 * entries
        return len(memory.blocks) - before

    assert [grows(entries) for entries in (0, 1, 2, 3, 4, 7, 8)] \
        == [0, 1, 0, 0, 1, 1, 1]
