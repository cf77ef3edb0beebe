"""docs/history.md, and make demo as a page: both show what a guest answers.

All chapters of rvtest.tour are played, and each transcript in the document is
compared with what came out; but for what differs from run to run.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

from rvtest import tour, vm
from rvtest.machine import Machine
from rvtest.stage import Stage

MACHINE = Machine(name='tour', disks=True, prepare=tour.prepare)
SECONDS = 60

DOCUMENT = (vm.TOP / 'docs' / 'history.md').read_text()
STEPS = [step for chapter in tour.CHAPTERS for step in chapter.steps]


def KERNELS() -> List[str]:
    """That of the document."""
    return [series for series in vm.kernels() if series == vm.newest()]


@pytest.fixture
def played(stage: Stage) -> Dict[str, str]:
    """The transcripts of now."""
    return stage.record('the tour', lambda: {
        shown.step.name: tour.transcript(shown) for chapter in tour.CHAPTERS
        for shown in tour.perform(stage.guest, chapter)})


@pytest.mark.parametrize('name', [step.name for step in STEPS])
def test_the_document_shows_what_a_guest_answers(
        played: Dict[str, str], name: str) -> None:
    """`make history-docs` makes it so again."""
    assert [tour.masked(line) for line in played[name].splitlines()] \
        == [tour.masked(line)
            for line in tour.blocks(DOCUMENT)[name].splitlines()]


def test_the_document_shows_all_steps_and_no_others() -> None:
    """A transcript that nothing plays would never be stale."""
    assert sorted(tour.blocks(DOCUMENT)) \
        == sorted(step.name for step in STEPS)


def test_the_document_names_the_kernel_that_is_played() -> None:
    """The newest."""
    assert f'Linux {vm.newest()}, ' in DOCUMENT
    assert f'`make shell KERNEL={vm.newest()}`' in ' '.join(DOCUMENT.split())


OLD = '''    # tell P fork C
    # ask 0x3ffcd ptrs
    PFN 0x3ffcd is an anonymous page; 2 processes map it, at 2 addresses

              ->mapping 0xffff8e8e81536f59, _mapcount 1
              VMA0    126     0x010000000000 pte   0x800000003ffcd867 write
              2 attempts, rmap locks held for 117.9 us, at most 117.9 us
'''
# The same from another run.
ALIKE = '''    # tell P fork C
    # ask 0x1a0 ptrs
    PFN 0x1a0 is an anonymous page; 2 processes map it, at 2 addresses

              ->mapping 0xffff9a2943000121, _mapcount 1
              VMA0    1126    0x010000000000 pte   0x80000000001a0867 write
              1 attempt, rmap locks held for 8.2 us, at most 4.9 us
'''


def document(block: str) -> str:
    """One with a transcript."""
    return 'Text.\n\n<!-- transcript: one -->\n\n' \
        f'{block}\n<!-- end -->\nMore.\n'


def test_a_transcript_of_another_run_leaves_a_document_as_it_is() -> None:
    """Frames, pids, times and addresses are no news."""
    assert tour.renewed(document(OLD), {'one': ALIKE}) == document(OLD)


@pytest.mark.parametrize('was, now', [
    ('2 processes', '3 processes'), ('_mapcount 1', '_mapcount 2'),
    ('000121,', '000123,'), ('867 write', '865'), ('fork C', 'fork D'),
    ('0x010000000000', '0x010000001000')])
def test_a_transcript_that_says_something_else_is_replaced(
        was: str, now: str) -> None:
    """A word, a count, low bits of a pointer, flags of an entry."""
    assert was in ALIKE
    new = ALIKE.replace(was, now)
    assert tour.renewed(document(OLD), {'one': new}) == document(new)


def test_changes_are_marked_and_what_is_alike_is_not() -> None:
    """As `make demo STEP=1` shows an answer after another."""
    before = ['PFN 0x1 is a page', 'VMA0    7  pte', 'reclaim   none', 'end']
    after = ['PFN 0x2 is a page', 'VMA0    7  pte', 'VMA1    8  pte',
             'reclaim   dirty', 'end']
    assert list(tour.changes(before, after)) == [
        '  PFN 0x2 is a page', '  VMA0    7  pte', '- reclaim   none',
        '+ VMA1    8  pte', '+ reclaim   dirty', '  end']


def test_a_document_that_breaks_a_mark_is_noticed() -> None:
    """Or its transcript would stay as it is for ever."""
    with pytest.raises(AssertionError, match='no end'):
        tour.blocks(document(OLD).replace('<!-- end -->', '<!- end -->'))


# --------------------------------------------------------- demo as a page --

# What becomes of whom, step by step.
TOLD = [
    {'parent': 'maps'},
    {'parent': 'maps', 'child': 'maps'},
    {'parent': 'maps', 'child': 'maps', 'grandchild': 'maps'},
    {'parent': 'maps', 'child': 'visited', 'grandchild': 'maps'},
    {'parent': '-', 'child': 'maps', 'grandchild': 'visited'},
    {'parent': 'maps', 'grandchild': 'maps'}]


def test_the_demo_tells_its_story_as_a_page(series: str, tmp_path: Path
                                            ) -> None:
    """Of what a guest answers at each step."""
    html = tmp_path / 'story.html'
    subprocess.run([vm.TOP / 'tests/demo', '--html', html, series], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    data = re.search('type="application/json" id="data">(.*?)</script>',
                     html.read_text(encoding='utf-8'), re.DOTALL)
    assert data
    steps = json.loads(data[1])
    assert [{vma['who'].split()[0]: vma['result'] for vma in step['vmas']}
            for step in steps] == TOLD
    assert [bool(step['changes']) for step in steps] == [False] + [True] * 5
