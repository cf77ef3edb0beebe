"""Families of processes: the report must be what they built.

Every story is told once; each test asks one thing of each page it names.
"""

import struct
from typing import NamedTuple, Set

import pytest

import stories
from rvtest.guest import Guest
from rvtest.picture import complaints_of
from rvtest.report import Mapping, Report, faults, mappings, tree
from rvtest.scene import Scene
from rvtest.stage import Stage
from stories import Case

SECONDS = 90
each_page = pytest.mark.parametrize('case', stories.cases(stories.FAMILIES))


class Seen(NamedTuple):
    """A page, as the module and as the processes see it."""

    report: Report
    witness: Set[Mapping]
    scene: Scene


def prepare(guest: Guest) -> None:
    """A file to map; made anew it would lose its pages."""
    guest.check('[ -e /tmp/data ] || head -c 65536 </bin/busybox >/tmp/data')


@pytest.fixture
def seen(stage: Stage, case: Case) -> Seen:
    """That page of that story."""
    def look() -> Seen:
        pfn = scene.pfn(case.page.actor, case.page.region, case.page.page)
        return Seen(scene.ask(f'pfn 0x{pfn:x}'), scene.witness(pfn), scene)

    prepare(stage.guest)
    scene = stage.scene(case.story, lambda new: new.story(case.story.told))
    return stage.once(case.what, look, case)


@each_page
def test_it_is_mapped_where_the_pagemaps_say(seen: Seen) -> None:
    """Each process has looked through its own."""
    assert sorted(mappings(seen.report)) == sorted(seen.witness)


@each_page
def test_the_building_is_what_the_story_made(case: Case, seen: Seen) -> None:
    """Who has which anon_vma, who of them maps the page, who is visited."""
    names = seen.scene.names()
    report, page = seen.report, case.page
    assert report['page']['kind'] == 'anon'
    assert tree(report, names) == page.tree
    assert sorted(names.get(pid, '?') for pid, _ in mappings(report)) \
        == sorted(page.mapped_by.split())
    assert report['walk']['visited'] == page.visited


@each_page
def test_the_report_agrees_with_itself(case: Case, seen: Seen) -> None:
    """Ids, counts, AVCs, order."""
    assert faults(seen.report, case.story.reuse) == []


@each_page
def test_graphviz_says_nothing_against_its_picture(seen: Seen) -> None:
    """Neither an error nor a warning."""
    assert complaints_of(seen.report) == (0, '')


@each_page
def test_every_vma_stands_in_proc_maps(seen: Seen) -> None:
    """Range, rights, offset, name, pid and command."""
    assert seen.scene.proc_faults(seen.report) == []


@each_page
def test_mapcount_is_that_of_kpagecount(seen: Seen) -> None:
    """And nothing but mappings holds the page."""
    page = seen.report['page']
    status, count = seen.scene.guest.run_bytes(
        f"dd if=/proc/kpagecount bs=8 skip={page['pfn']} count=1 2>/dev/null")
    assert (status, page['mapcount'], page['dma_pins'], page['extra_refs']) \
        == (0, struct.unpack('=Q', count)[0], 0, 0)
