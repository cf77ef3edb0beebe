"""The module against tools/drgn_dump.py: every report must be the same.

All stories are told in one guest, all at once.  When their processes wait, the
module is asked about every page that a story names; then the guest is stopped,
its memory dumped, and drgn rebuilds the same reports from the dump.  They must
be equal: anon_vmas, AVCs, VMAs, page-table entries, counts and addresses.

Frames from all over the memory are looked at in the same way; there, what the
module says in the same words before and after the dump must be equal.
"""

import copy
import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import (Any, Callable, Dict, Hashable, Iterable, Iterator, List,
                    NamedTuple, Set, Tuple)

import pytest

import stories
from compare import Unusable, counts, differences, load
from rvtest import schema, vm, witness
from rvtest.disk import Disks
from rvtest.guest import Guest, GuestError
from rvtest.report import Report, mappings, parse
from rvtest.scene import SURVEY, Scene
from rvtest.stage import Once
from rvtest.witness import NEW_SUITE, OLD_SUITE
from stories import Case, Story

NARROW = witness.ends
SECONDS = 150

STORIES = stories.FAMILIES + stories.KINDS

# Of these commands, the word that names another actor.
NAMING = {'fork': 2, 'vfork': 2, 'clone_vm': 2, 'thread': 2, 'exec': 2,
          'wait': 2, 'forkmany': 3}

# Frames to look at besides: a prime number of them apart.
STEP = 127
# So many may have been something else for a moment just when it was made.
FLEETING = 8

# What is asked about: a page, or a whole story by its first page.
Key = Tuple[str, Hashable]

each_page = pytest.mark.parametrize('case', stories.cases(STORIES))
each_folio = pytest.mark.parametrize('case', [
    case for case in stories.cases(STORIES)
    if getattr(case.values[0].page, 'order', 0)])
each_story = pytest.mark.parametrize('case', [
    pytest.param(story, id=stories.slug(story.name)) for story in STORIES])
each_drgn = pytest.mark.parametrize('suite', (NEW_SUITE, OLD_SUITE))

Note = Callable[[str], None]


class Question(NamedTuple):
    """What is asked of both, and how."""

    query: str              # of the module
    arguments: Tuple[str, ...]      # of drgn_dump.py
    whole: bool = False     # every page of the folio


class Seen(NamedTuple):
    """Questions, and what the module answered around the time of a dump."""

    questions: Dict[Key, Question]
    answers: Dict[Key, str]
    untold: Dict[Hashable, str]     # stories that failed, and why
    frames: Dict[int, str]
    survey: Set[str]        # lines that are the same before and after
    complaints: List[str]


# ------------------------------------------------------------- the guest --

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


def ask(guest: Guest, query: str) -> str:
    """What the module answers, or says that it cannot."""
    return guest.run(f"ask '{query} json ptrs'", 300).output


def questions_of(guest: Guest, story: Story, cast: str) -> Dict[Key, Question]:
    """Tell a story; all that is asked about it."""
    scene = Scene(guest, cast + 'P')
    scene.story(recast(story.told, cast))
    found: Dict[Key, Question] = {}
    pfns = [scene.pfn(cast + page.actor, page.region, page.page)
            for page in story.pages]
    for pfn, page in zip(pfns, story.pages):
        case = Case(story, page)
        found['page', case] = Question(f'{pfn}', (f'{pfn}',))
        if getattr(page, 'order', 0):
            found['folio', case] = Question(f'{pfn} folio', (f'{pfn}',), True)
    pid = scene.pids[cast + story.pages[0].actor]
    found['process', story] = Question(f'pid {pid}', ('--pid', f'{pid}'))
    found['address', story] = by_address(parse(ask(guest, f'{pfns[0]}')))
    return found


# A page that somebody holds without mapping it.
HELD = Story('a page in a pipe', '''
    P map M 1
    P write M
    P vmsplice M 0
    ''', ())


def question_of_held(guest: Guest) -> Question:
    """One that does not move."""
    scene = Scene(guest, 'held.P')
    scene.story(recast(HELD.told, 'held.'))
    pfn = scene.pfn('held.P', 'M')
    return Question(f'{pfn}', (f'{pfn}',))


def by_address(report: Report) -> Question:
    """The same page, by where a process maps it."""
    pte = report['ptes'][-1]
    pid = report['mms'][report['vmas'][pte['vma']]['mm']]['pid']
    return Question(f"pid {pid} {pte['addr']}",
                    ('--pid', f'{pid}', pte['addr']))


def settle(guest: Guest) -> None:
    """Nothing is to change between the module's answer and the dump.

    Dirty pages are written after a while, and khugepaged makes huge pages.
    """
    guest.check('cd /sys/kernel/mm/transparent_hugepage/khugepaged; '
                'echo 3600000 >scan_sleep_millisecs; cd /; '
                'echo 0 >/sys/kernel/mm/ksm/run; '
                'echo 0 >/proc/sys/vm/dirty_writeback_centisecs; '
                'drain')


def everywhere(guest: Guest) -> Dict[int, str]:
    """What the module says of frames from all over the memory."""
    answers = guest.check(
        "kb=$(sed -n '/^MemTotal/s/[^0-9]//gp' /proc/meminfo); "
        f'seq 1 {STEP} $((kb / 4)) | sed "s/$/ json ptrs/" | ask - || :', 600)
    found = {}
    for answer in answers.split('== ')[1:]:
        heading, _, text = answer.partition('\n')
        if heading.endswith(': ok'):
            found[int(heading.split()[0])] = text
    return found


def survey(guest: Guest) -> Set[str]:
    """The lines of rmapviz_survey."""
    return set(guest.check(f'cat {SURVEY}', 120).splitlines())


def alike(before: Dict[int, str], after: Dict[int, str]) -> Dict[int, str]:
    """What was said of frames, where the same was said twice."""
    return {pfn: text for pfn, text in before.items() if pfn in after
            and not differences(parse(text), parse(after[pfn]))}


def look(series: str, vmcore: Path) -> Seen:
    """Tell the stories, ask the module, and dump the guest."""
    questions: Dict[Key, Question] = {}
    untold: Dict[Hashable, str] = {}
    with Disks() as disks, \
            Guest(series, extra_args=disks.arguments()) as guest:
        stories.prepare(guest)
        witness.prepare(guest)
        settle(guest)
        for i, story in enumerate(STORIES):
            if stories.why_not(series, story):
                continue
            try:
                questions.update(questions_of(guest, story, f's{i}.'))
            except (GuestError, AssertionError) as error:
                untold[story] = str(error)
                if guest.broken:
                    raise
        questions['page', HELD] = question_of_held(guest)
        settle(guest)
        before, listed = everywhere(guest), survey(guest)
        answers = {key: ask(guest, question.query)
                   for key, question in questions.items()}
        guest.check('sleep 1')      # page tables are freed with delay
        witness.dump(guest, vmcore)
        after, listed = everywhere(guest), listed & survey(guest)
        complaints = guest.kernel_complaints()
    return Seen(questions, answers, untold, alike(before, after), listed,
                complaints)


def rebuild(series: str, vmcore: Path, questions: Dict[Key, Question],
            suite: str) -> Dict[Key, str]:
    """What the drgn of a suite answers."""
    answers: Dict[Key, str] = {}
    for whole in (False, True):
        # it answers PFNs first, then --pid in their order
        asked = sorted((key for key, question in questions.items()
                        if question.whole == whole),
                       key=lambda key: len(questions[key].arguments) > 1)
        words = [word for key in asked for word in questions[key].arguments]
        lines = witness.drgn_dump(
            series, vmcore, ['--ptrs', *(['--folio'] if whole else []),
                             *words], suite)
        assert len(lines) == len(asked)
        answers.update(zip(asked, lines))
    return answers


class Dumped:
    """A guest, and what was rebuilt from its dump; all of it when needed."""

    def __init__(self, series: str, directory: Path) -> None:
        self.series = series
        self.directory = directory
        self._vmcore = directory / 'vmcore'
        self._seen = Once('the dump', lambda: look(series, self._vmcore))
        self._frames = Once('all over memory', self._all_frames)
        self._rebuilt = {suite: self._rebuilder(suite)
                         for suite in (NEW_SUITE, OLD_SUITE)}
        self._told: Dict[Story, Once[None]] = {}

    @property
    def seen(self) -> Seen:
        """What the module said."""
        return self._seen()

    @property
    def vmcore(self) -> Path:
        """The dump."""
        assert self.seen
        return self._vmcore

    def _rebuilder(self, suite: str) -> 'Once[Dict[Key, str]]':
        """The answers by the drgn of a suite; an old one has no function to
        list the VMAs of a process."""
        return Once(f'the drgn of {suite}', lambda: rebuild(
            self.series, self.vmcore, {
                key: question for key, question in self.seen.questions.items()
                if suite == NEW_SUITE or key[0] != 'process'}, suite))

    def check(self, what: str, about: Hashable, suite: str = NEW_SUITE
              ) -> None:
        """Both must answer a question in the same way."""
        story: Any = getattr(about, 'story', about)     # of a Case
        stories.skip_unless_able(self.series, story)
        self._told.setdefault(story, Once(
            story.name, lambda: self._expect_told(story)))()
        expect_same(parse(self.seen.answers[what, about]),
                    parse(self._rebuilt[suite]()[what, about]))

    def _expect_told(self, story: Story) -> None:
        if story in self.seen.untold:
            raise AssertionError(self.seen.untold[story])

    def frames(self) -> Dict[int, Tuple[Report, Report]]:
        """By the module and by drgn, what frames all over the memory are."""
        return self._frames()

    def _all_frames(self) -> Dict[int, Tuple[Report, Report]]:
        frames = self.seen.frames
        lines = witness.drgn_dump(self.series, self.vmcore, [
            '--ptrs', *(str(pfn) for pfn in frames)])
        assert len(lines) == len(frames)
        return {pfn: (parse(text), parse(line)) for (pfn, text), line
                in zip(frames.items(), lines)}


def expect_same(module: Report, drgn: Report) -> None:
    """Fail where they differ."""
    found = differences(module, drgn)
    if found:
        pytest.fail('\n'.join(
            ['the first is the module, the second drgn', *found[:20]]))


@pytest.fixture(scope='module')
def dumped(series: str) -> Iterator[Dumped]:
    """That of a kernel, with a directory that has room for dumps."""
    try:
        witness.drgn_root()
        witness.vmlinux(series)
    except vm.Unavailable as error:
        pytest.skip(f'{series}: {error}')
    build = vm.TOP / 'build'
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='drgn.', dir=build) as new:
        yield Dumped(series, Path(new))


@pytest.fixture
def usable(series: str, suite: str) -> None:
    """The drgn of that suite can make something of such a dump."""
    try:
        witness.drgn_root(suite)
    except vm.Unavailable as error:
        pytest.skip(str(error))
    if suite == OLD_SUITE and vm.is_debug(series):
        pytest.skip('the dump of a debug kernel lacks what it needs')


# ------------------------------------------------------------- the same --

@pytest.mark.usefixtures('usable')
@each_drgn
@each_page
def test_drgn_finds_the_same(dumped: Dumped, case: Case, suite: str) -> None:
    """About every page that a story names."""
    dumped.check('page', case, suite)


@pytest.mark.usefixtures('usable')
@each_drgn
@each_folio
def test_drgn_finds_the_same_folio(dumped: Dumped, case: Case,
                                   suite: str) -> None:
    """Every page of the folio of one, at once."""
    dumped.check('folio', case, suite)


@pytest.mark.usefixtures('usable')
@each_drgn
@each_story
def test_drgn_finds_the_same_by_address(dumped: Dumped, case: Story,
                                        suite: str) -> None:
    """A page by where a process maps it."""
    dumped.check('address', case, suite)


@each_story
def test_drgn_finds_the_same_of_a_process(dumped: Dumped, case: Story
                                          ) -> None:
    """All anon_vmas of the process of a story's first page."""
    dumped.check('process', case)


def test_records_of_all_tables_were_there(dumped: Dumped,
                                          note: Note) -> None:
    """Equality of nothing would be worth nothing."""
    reports = [parse(text) for text in dumped.seen.answers.values()]
    total = [sum(column) for column in zip(*map(counts, reports))]
    assert all(total)
    left = [series for series in vm.kernels()
            if series not in witness.ends(vm.kernels())]
    if left:
        note(f"not with {' '.join(left)}, for it takes long or there is no "
             'debug information: KERNEL=... tries')
    note(f'{len(reports)} reports: {total[0]} anon_vmas, {total[1]} AVCs, '
         f'{total[2]} address spaces, {total[3]} VMAs, '
         f'{total[4]} page-table entries')


WRITTEN = {'write': 1 << 1, 'dirty': 1 << 6}    # in an entry of x86
SHELL = 1   # the process that asks


def unwritten(pte: Report) -> Report:
    """An entry without what a write changes."""
    value = int(pte['value'], 16) & ~sum(WRITTEN.values())
    return {**pte, 'value': f'{value:#x}',
            'flags': [flag for flag in pte['flags'] if flag not in WRITTEN]}


def settled(report: Report) -> Report:
    """Without what is different each time: the shell that asks forks for each
    question, and then has pages to itself again when it writes to them."""
    page = report['page']
    mms = {mm['id'] for mm in report['mms'] if mm['pid'] == SHELL}
    vmas = {vma['id'] for vma in report['vmas'] if vma['mm'] in mms}
    return {**report,
            'page': {**page, 'flags': [flag for flag in page['flags']
                                       if flag != 'anon-exclusive']},
            'ptes': [unwritten(pte) if pte['vma'] in vmas else pte
                     for pte in report['ptes']]}


def unlike(frames: Dict[int, Tuple[Report, Report]], own: bool) -> List[str]:
    """Of the frames of the kernel's own, or of all others, those of which the
    module and drgn say different things."""
    return [f'{pfn:#x}: {line}' for pfn, (module, drgn) in frames.items()
            if own == (module['page']['extra_refs'] is None)
            for line in differences(settled(module), settled(drgn))[:1]]


def test_drgn_finds_the_same_all_over_memory(dumped: Dumped, note: Note
                                             ) -> None:
    """Whatever frames there are that rmap maps."""
    kinds = Counter(module['page']['kind']
                    for module, _ in dumped.frames().values())
    assert unlike(dumped.frames(), False) == []
    assert kinds['anon']
    note('frames: ' + ', '.join(f'{count} {kind}'
                                for kind, count in kinds.items()))


def columns(lines: Iterable[str]) -> Dict[str, Tuple[Tuple[str, ...], str]]:
    """Of anonymous folios, by PFN: the family apart.

    Files are mapped by who reads the survey as well.
    """
    found = {}
    for line in lines:
        words = line.split()
        if words[2] == 'anon':
            found[words[0]] = (*words[1:9], words[10]), words[9]
    return found


def test_a_survey_of_the_dump_is_that_of_the_module(dumped: Dumped, note: Note
                                                    ) -> None:
    """Line by line, and folios are of one family if they are there, too."""
    done = witness.run_drgn(dumped.series, dumped.vmcore, ['--survey'])
    assert not done.returncode, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading in dumped.seen.survey
    want, have = columns(dumped.seen.survey), columns(lines)
    note(f'{len(want)} anonymous folios')
    assert len(want) > 1000
    # who reads the survey may get the same frame each time
    both = [pfn for pfn in want if pfn in have]
    assert len(want) - len(both) < 20
    assert [(pfn, want[pfn], have[pfn]) for pfn in both
            if want[pfn][0] != have[pfn][0]] == []
    families = {(want[pfn][1], have[pfn][1]) for pfn in both}
    assert len(families) == len({one for one, _ in families}) \
        == len({other for _, other in families}) > 10


def test_drgn_knows_the_frames_of_the_kernel(dumped: Dumped) -> None:
    """It takes and gives them back all the time; KASAN gives back late, and
    then much at once."""
    found = unlike(dumped.frames(), True)
    bound = FLEETING * (8 if vm.is_debug(dumped.series) else 1)
    assert len(found) <= bound, '\n'.join(found)


def test_the_kernel_has_nothing_to_complain_of(dumped: Dumped) -> None:
    """With all stories told at once."""
    assert dumped.seen.complaints == []


def test_drgn_reads_its_own_guest(dumped: Dumped) -> None:
    """A story on a kernel that runs, not on a dump."""
    if vm.is_debug(dumped.series):
        pytest.skip('a debug kernel is too slow for drgn inside')
    if dumped.series not in vm.named() + vm.newest_kernel():
        pytest.skip('drgn inside takes long, so one kernel has it')
    story = next(story for story in STORIES if story.name == 'three storeys')
    page = story.pages[0]
    disks = witness.live_disks(dumped.series, dumped.directory)
    with Guest(dumped.series, memory_mb=2048, extra_args=disks) as guest, \
            Scene(guest) as scene:
        scene.story(story.told)
        settle(guest)
        pfn = scene.pfn(page.actor, page.region, page.page)
        rebuilt = witness.drgn_live(guest, f'--ptrs {pfn}')
        expect_same(parse(ask(guest, f'{pfn}')), rebuilt)


# ---------------------------------------------------------- the comparison --

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


def _count(report: Report) -> None:
    report['page']['mapcount'] += 1


def _list(report: Report) -> None:
    report['history']['objrmap']['list'] += 1


def _layout(report: Report) -> None:
    report['history']['pte_chain']['layouts'][3]['blocks'] += 1


def _way(report: Report) -> None:
    report['history']['pte_chain'] = None


def _scan(report: Report) -> None:
    report['history']['scan'] = {'visits': 1}


def _ids(report: Report) -> None:
    for avc in report['avcs']:
        avc['id'] += 1
    report['avcs'].reverse()


MUTATIONS: Dict[str, Tuple[Callable[[Report], None], str]] = {
    'another parent of an anon_vma': (_parent, 'parent is'),
    'an AVC that is missing': (_chain, 'AVC between'),
    'a flag of an entry': (_flag, 'flags is'),
    'a VMA that is missing': (_vma, 'VMA'),
    'another count': (_count, 'mapcount is'),
    'a list of other length': (_list, 'history objrmap: list is'),
    'chains of other blocks': (_layout, 'history pte_chain: layouts is'),
    'a way of the past that is missing': (_way, 'history: pte_chain is'),
}


@pytest.fixture(params=['with addresses', 'without'])
def deep(request: pytest.FixtureRequest) -> Report:
    """A report of three storeys."""
    sample = vm.TOP / 'tests' / 'data' / 'reports' / 'drgn.json'
    report = parse(sample.read_text())
    if request.param == 'without':
        for record in [report['page'], *(
                record for table in ('anon_vmas', 'avcs', 'mms', 'vmas')
                for record in report[table])]:
            del record['ptr']
    return report


@pytest.mark.parametrize('what', MUTATIONS)
def test_compare_notices_what_differs(deep: Report, what: str) -> None:
    """A difference."""
    change, sign = MUTATIONS[what]
    changed = copy.deepcopy(deep)
    change(changed)
    assert any(sign in line for line in differences(deep, changed))


def test_compare_does_not_mind_ids_and_order(deep: Report) -> None:
    """They are no facts."""
    changed = copy.deepcopy(deep)
    _ids(changed)
    assert differences(deep, changed) == []


def test_compare_does_not_mind_a_scan(deep: Report) -> None:
    """Which only the module makes."""
    changed = copy.deepcopy(deep)
    _scan(changed)
    assert differences(deep, changed) == []


def test_compare_tells_a_failure_from_a_report(tmp_path: Path) -> None:
    """What drgn_dump.py prints where it has no answer."""
    file = tmp_path / 'failure.json'
    file.write_text('{"rmapviz": 1, "query": "pfn 0x9", "error": "no page"}')
    with pytest.raises(Unusable, match='pfn 0x9: no page'):
        load(str(file))


# -------------------------------------------------------------- the script --

@pytest.fixture
def pfn(dumped: Dumped) -> str:
    """A page that has been found."""
    key = next(key for key in dumped.seen.questions if key[0] == 'page')
    return dumped.seen.questions[key].arguments[0]


@pytest.fixture
def pid(dumped: Dumped) -> str:
    """A process that has been found."""
    key = next(key for key in dumped.seen.questions if key[0] == 'process')
    return dumped.seen.questions[key].arguments[1]


def test_a_question_without_an_answer_does_not_end_a_batch(
        dumped: Dumped, pfn: str, pid: str) -> None:
    """Answers stay in step; each failure is a line on standard error."""
    done = witness.run_drgn(dumped.series, dumped.vmcore, [
        '0x99999999999', pfn, '--pid', '999999999', '--pid', pid, '0x10',
        '--pid', pid])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [schema.faults(line) for line in lines] == [[]] * 5
    assert [line.get('error') for line in lines] == [
        'no such page', None, 'no such process',
        'the process maps no page there', None]
    assert done.stderr.splitlines() == [
        f"drgn_dump.py: {line['query']}: {line['error']}"
        for line in lines if 'error' in line]
    assert done.returncode == 2


def command(dumped: Dumped, *words: str) -> 'subprocess.CompletedProcess[str]':
    """Run tools/rmapviz on the dump."""
    return witness.in_drgn_root(
        NEW_SUITE, '--ro-bind', witness.vmlinux(dumped.series),
        '/tmp/vmlinux', '--ro-bind', dumped.vmcore, '/tmp/vmcore',
        '/src/rmapviz', *words, '--vmcore', '/tmp/vmcore',
        '--vmlinux', '/tmp/vmlinux')


@pytest.fixture
def module(dumped: Dumped) -> Report:
    """What the module said of the page of the same moment."""
    key = next(key for key in dumped.seen.questions if key[0] == 'page')
    return parse(dumped.seen.answers[key])


def test_drgn_finds_the_same_of_a_page_that_is_held(dumped: Dumped) -> None:
    """Which does not move, nor is it reclaimed."""
    module = parse(dumped.seen.answers['page', HELD])
    assert module['migrate'] == {'verdict': 'not now',
                                 'reasons': ['extra-refs']}
    dumped.check('page', HELD)


def test_the_command_says_of_a_dump_whose_page_it_is(
        dumped: Dumped, pfn: str, module: Report) -> None:
    """As the module said."""
    done = command(dumped, 'who', '--json', pfn)
    assert done.returncode == 0, done.stderr
    assert {pid for group in json.loads(done.stdout)['who']
            for pid in group['mapping_pids']} \
        == {pid for pid, _ in mappings(module)}


@pytest.mark.parametrize('status', (0, 1))
def test_the_command_says_of_a_dump_whether_a_page_moves(
        dumped: Dumped, pfn: str, module: Report, status: int) -> None:
    """And whether it would be reclaimed, as the module said."""
    if status:
        module = parse(dumped.seen.answers['page', HELD])
        pfn = f"{module['page']['pfn']:#x}"
    done = command(dumped, 'why', '--json', pfn)
    said = json.loads(done.stdout)
    assert done.returncode == status, done.stderr
    assert (said['migrate'], said['reclaim']) \
        == (module['migrate'], module['reclaim'])


def test_the_command_says_what_is_on_top_in_a_dump(dumped: Dumped) -> None:
    """By the survey of the module, the most shared page of a family."""
    done = command(dumped, 'top', '--shared', '-n', '300', '--json')
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    want = columns(dumped.seen.survey)
    anon = {f"{folio['pfn']:#x}": folio for folio in found
            if folio['kind'] == 'anon'}
    assert len(anon) > 10
    for pfn, folio in anon.items():
        assert int(want[pfn][0][-2]) == folio['mapped']
    least = found[-1]['mapped']
    assert {pfn for pfn, (words, _) in want.items()
            if int(words[-2]) > least} <= anon.keys()
    assert all(folio['who'] for folio in anon.values())


def test_as_text_a_failure_is_on_standard_error_only(dumped: Dumped, pfn: str
                                                     ) -> None:
    """The eye sees reports."""
    done = witness.run_drgn(dumped.series, dumped.vmcore,
                            ['--text', '0x99999999999', pfn])
    assert done.stderr == 'drgn_dump.py: pfn 0x99999999999: no such page\n'
    assert done.stdout.startswith(f'page {int(pfn):#x}: ')
    assert len(re.findall('^page ', done.stdout, re.M)) == 1
    assert done.returncode == 2


def test_text_of_a_page_ends_in_visits_and_what_comes_of_it(
        dumped: Dumped, pfn: str) -> None:
    """The cost of the walk, and of those of other kernels; two verdicts."""
    done = witness.run_drgn(dumped.series, dumped.vmcore, ['--text', pfn])
    effort = r'\d+ visits, \d+ in vain, \d+ bytes\n'
    assert re.search(
        r'^\d+ VMAs visited, \d+ map it\n'
        fr'2\.6\.0 pte_chain: {effort}2\.6\.11 objrmap: {effort}'
        fr'2\.6\.34 av_avc: {effort}'
        r'migrate: yes\nreclaim: SWAP_\w+: [a-z ]+\n\Z', done.stdout, re.M)
    assert (done.returncode, done.stderr) == (0, '')


def test_text_of_a_process_tells_of_no_visits(dumped: Dumped, pid: str
                                              ) -> None:
    """No page was asked about, so nothing was visited for it."""
    done = witness.run_drgn(dumped.series, dumped.vmcore,
                            ['--text', '--pid', pid])
    assert done.stdout.startswith('AV0')
    assert 'visit' not in done.stdout
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.usefixtures('usable')
@each_drgn
def test_without_debug_information_it_names_the_package(
        dumped: Dumped, suite: str) -> None:
    """In one line."""
    done = witness.run_drgn(dumped.series, dumped.vmcore, ['1', '2'], suite,
                            symbols=False)
    assert (done.returncode, done.stdout) == (2, '')
    line, = done.stderr.splitlines()
    release = vm.release(dumped.series)
    assert line.startswith(
        f'drgn_dump.py: no debug information of the kernel {release}: ')
    assert f' linux-image-{release}-dbg' in line


def test_without_drgn_it_names_the_package() -> None:
    """Run by a Python that has none: that of a host, without its packages."""
    done = subprocess.run(
        ['/usr/bin/python3', '-I', '-S', vm.TOP / 'tools' / 'drgn_dump.py',
         '1'], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, '')
    line, = done.stderr.splitlines()
    assert line.endswith('apt-get install python3-drgn')


def in_drgn_root(*words: object) -> 'subprocess.CompletedProcess[str]':
    """Run a command where drgn is, if it is to be had."""
    try:
        return witness.in_drgn_root(NEW_SUITE, *words)
    except vm.Unavailable as error:
        pytest.skip(str(error))


def test_without_a_kernel_it_says_how_to_run_it() -> None:
    """By drgn, not by Python."""
    done = in_drgn_root('python3', '/src/drgn_dump.py', '1')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == \
        'drgn_dump.py: run it by drgn: drgn -k drgn_dump.py ...\n'


# Prints as text a report of many VMAs, and says how many records were read.
COUNTING = '''
import json, sys
sys.path.insert(0, '/src')
import drgn_dump

class Counted(list):
    read = 0
    def __iter__(self):
        for record in super().__iter__():
            Counted.read += 1
            yield record

report = json.loads(sys.argv[1])
many = int(sys.argv[2])
for table in 'vmas', 'avcs', 'ptes':
    key = 'id' if table == 'vmas' else 'vma'
    report[table] = Counted({**report[table][0], key: i} for i in range(many))
lines = list(drgn_dump.text_lines(report))
print(len(lines), Counted.read)
'''


def test_text_reads_every_record_once(deep: Report) -> None:
    """However many VMAs there are."""
    done = in_drgn_root('python3', '-c', COUNTING, json.dumps(deep), 500)
    assert (done.returncode, done.stderr) == (0, '')
    lines, read = map(int, done.stdout.split())
    assert lines >= 2 * 500     # VMAs, entries, and some more
    assert read == 3 * 500
