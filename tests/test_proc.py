"""tools/rmapviz on a /proc and a module that behave as real ones can: what
exits, is closed, has a strange name or is large, and whoever else asks.
"""

import ctypes
import errno
import io
import json
import mmap
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from rmapviz_lib import ask, audit, command, libc, listing, people, place, \
    proc, report, top, who
from rmapviz_lib.failure import Failure
from rmapviz_lib.words import Paper
from test_listing import SURVEY, Machine, answer, whole

PRESENT, SWAPPED = 1 << 63, 1 << 62

# What Python takes for the end of a line, and the kernel does not.
ENDS = ['\r', '\x0b', '\x0c', '\x1c', '\x85', '\u2028']


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Without processes."""
    return Machine(tmp_path)


def one_line(raised: 'pytest.ExceptionInfo[Failure]') -> str:
    """What the command would say."""
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    return text


class Terminal(io.StringIO):
    """Keeps what is written to it."""

    def isatty(self) -> bool:
        """What Progress asks."""
        return True


def printed(run: Any) -> str:
    """What something prints for the eye."""
    stream = io.StringIO()
    run(Paper(stream, False))
    return stream.getvalue()


# ------------------------------------------------------------------ asking --

@contextmanager
def somebody_else() -> Iterator[None]:
    """Who is not root, until this is left."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(uid)


def test_who_may_not_look_into_debugfs_is_told_to_type_sudo(tmp_path: Path
                                                            ) -> None:
    """Listings are looked for below a directory of root's."""
    debugfs = tmp_path / 'debug'
    debugfs.mkdir(mode=0)
    with somebody_else(), pytest.raises(Failure, match='sudo') as raised:
        ask.Module(str(debugfs)).listing('survey')
    assert one_line(raised)


@pytest.mark.parametrize('query', ['', ' ', 'pid', 'pid \udcff', 'pid x',
                                   '0x\u0661', '1\x1b[31m'])
def test_what_is_no_question_is_said_in_a_line(tmp_path: Path, query: str
                                               ) -> None:
    """By whichever way; the module is not asked."""
    (tmp_path / 'rmapviz').symlink_to('/dev/full')
    sources: List[ask.Source] = [ask.Module(str(tmp_path)),
                                 ask.Dump(None, None)]
    for source in sources:
        with pytest.raises(Failure, match='question|process') as raised:
            source.ask(query)
        assert one_line(raised)


class Shared(ask.Module):
    """A module under lockdown whose parameter others set, too."""

    def __init__(self, directory: Path, others: List[Tuple[str, int]]
                 ) -> None:
        super().__init__(str(directory), str(directory / 'query'))
        (directory / 'rmapviz_answer').touch()
        self.parameter = directory / 'query'
        self.others, self._locked_down = others, True

    def read(self, _: int) -> bytes:
        """Meanwhile others ask, of whose question it is told that there is
        no answer."""
        if self.others:
            line, number = self.others.pop()
            if line:
                self.parameter.write_text(line)
            raise OSError(number, '')
        made = report.load(str(Path(__file__).parent
                               / 'data/reports/anon.json'))
        return json.dumps({'rmapviz': 1, 'query':
                           self.parameter.read_text().strip(),
                           **{name: value for name, value in made.items()
                              if name not in ('rmapviz', 'query')}}).encode()


@pytest.mark.parametrize('number', [errno.ENXIO, errno.ESRCH, errno.EFAULT])
def test_an_error_of_somebody_elses_question_is_not_ours(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Under lockdown, where there is one question for all."""
    module = Shared(tmp_path, [('pid 99 json\n', number)] * 2)
    monkeypatch.setattr(ask, '_read_all', module.read)
    assert module.ask('0x10')['query'] == '0x10 json'


def test_an_error_of_our_question_is_ours(tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch
                                          ) -> None:
    """Nobody has set the parameter meanwhile."""
    module = Shared(tmp_path, [('', errno.ENXIO)])
    monkeypatch.setattr(ask, '_read_all', module.read)
    with pytest.raises(Failure, match='PFN 0x10: there is no such page'):
        module.ask('0x10')


# ----------------------------------------------------------- text of /proc --

def maps(directory: Path, *lines: str) -> None:
    """A memory map of some lines."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / 'maps').write_bytes(''.join(
        line + '\n' for line in lines).encode('utf-8', 'surrogateescape'))


@pytest.mark.parametrize('end', ENDS)
def test_a_name_with_the_end_of_a_line_is_one_line(tmp_path: Path, end: str
                                                   ) -> None:
    """The kernel escapes a line feed only, so that it forges no other."""
    name = f'/memfd:a{end}7000-8000 rw-p 00000000 00:00 0 [heap]'
    maps(tmp_path / 'proc/7', f'1000-2000 r--p 00003000 00:01 99    {name}',
         '2000-3000 rw-p 00000000 00:00 0 ')
    first, second = proc.Proc(str(tmp_path)).areas(7)
    assert (first.start, first.offset, first.inode, first.name) \
        == (0x1000, 0x3000, 99, name)
    assert (second.start, second.name) == (0x2000, '')


@pytest.mark.parametrize('end', ENDS)
def test_a_cgroup_with_the_end_of_a_line_is_one_line(end: str) -> None:
    """So that it is in no other unit."""
    assert proc.unit_of(f'0::/a{end}1:name=systemd:/b.service/c\n') \
        == 'b.service'
    assert proc.unit_of(f'0::/{end}0::/b.service\n') == 'b.service'
    assert proc.unit_of(f'0::/a.slice{end}0::/\n') != ''


def test_what_is_no_line_of_a_memory_map_is_passed_over(tmp_path: Path
                                                        ) -> None:
    """Whatever it is."""
    maps(tmp_path / 'proc/7', 'nonsense', '', '1000-2000', '-',
         '1000-2000 rw-p 00000000 00:00 0 ')
    assert len(proc.Proc(str(tmp_path)).areas(7)) == 1


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list of them and the look at it."""
    directory = tmp_path / 'proc/7/fd'
    directory.mkdir(parents=True)
    for number in range(5):
        os.symlink('/dev/null', directory / str(number))
    names = os.listdir(directory)
    readlink = os.readlink

    def closed(path: Path) -> str:
        if path.name == names[2]:
            raise FileNotFoundError
        return readlink(str(path))

    monkeypatch.setattr(os, 'readlink', closed)
    found = proc.Proc(str(tmp_path)).descriptors(7)
    assert {str(one.number) for one in found} == {*names} - {names[2]}


class Short(io.FileIO):
    """A file of which a read gives no more than a few bytes."""

    def read(self, size: Optional[int] = -1) -> bytes:
        """As a read of the kernel may."""
        return super().read(min(size or 0, 24)) or b''


def short(path: Any, *_: object, **__: object) -> Short:
    """In place of open()."""
    return Short(str(path))


def test_kpageflags_are_read_to_the_last_that_is_wanted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short a read is; or to the end of memory."""
    (tmp_path / 'proc').mkdir()
    (tmp_path / 'proc/kpageflags').write_bytes(b''.join(
        i.to_bytes(8, 'little') for i in range(100)))
    monkeypatch.setattr(proc, 'open', short, raising=False)
    tested = proc.Proc(str(tmp_path))
    assert tested.page_flags(10, 50) == list(range(10, 60))
    assert tested.page_flags(90, 50) == list(range(90, 100))
    assert tested.page_flags(200, 50) == []


# --------------------------------------------------------------- processes --

def without_leader(machine: Machine, pid: int, thread: int) -> None:
    """The first thread of a process exits: what it had is told by another."""
    directory = machine.root / f'proc/{pid}'
    for name in 'maps', 'pagemap':
        other = directory / f'task/{thread}/{name}'
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes((directory / name).read_bytes())
        (directory / name).write_bytes(b'')


def test_a_process_whose_first_thread_has_exited_has_its_memory(
        machine: Machine) -> None:
    """A thread that is left tells of it."""
    machine.process(7, {0: 0x10, 2: 0x12})
    without_leader(machine, 7, 9)
    assert [area.end for area in machine.proc.areas(7)] == [0x3000]
    assert machine.proc.pagemap(7, 0x2000, 1)[0].pfn == 0x12


# The first thread exits, another sleeps.
LEADER = '''
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print("", flush=True)
ctypes.CDLL(None).syscall(60, 0)
'''


def test_linux_tells_of_memory_without_the_first_thread() -> None:
    """As the tests here have it."""
    with subprocess.Popen([sys.executable, '-c', LEADER],
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline()
            tested = proc.Proc()
            while tested.text(process.pid, 'maps'):
                pass
            _, home = tested.maps(process.pid)
            assert home != str(process.pid)
            area = next(area for area in tested.areas(process.pid)
                        if area.name == '[heap]')
            assert any(entry.present for entry in tested.pagemap(
                process.pid, area.start, (area.end - area.start) // 4096))
        finally:
            process.kill()


def test_the_kernel_has_an_order_of_address_spaces() -> None:
    """Threads have one; another process has another, before or behind."""
    if libc.memory_order(os.getpid(), os.getpid()) is None:
        pytest.skip('this kernel has no kcmp(), or this python no ctypes')
    found: List[Optional[int]] = []
    thread = threading.Thread(target=lambda: found.append(libc.memory_order(
        os.getpid(), threading.get_native_id())))
    thread.start()
    thread.join()
    with subprocess.Popen(['sleep', '1000']) as other:
        found += [libc.memory_order(os.getpid(), other.pid),
                  libc.memory_order(other.pid, os.getpid())]
        other.kill()
    assert found in ([0, 1, -1], [0, -1, 1])


# --------------------------------------------------------------------- top --

def chosen(machine: Machine, pid: Optional[int], cgroup: Optional[str]
           ) -> top.Only:
    """What is meant by the options of top."""
    found = top.only(machine.proc, pid, cgroup)
    assert found
    return found


def frames(machine: Machine, only: top.Only) -> List[int]:
    """Those of the survey that are meant."""
    return [folio.pfn for folio in
            listing.survey(machine.root / 'rmapviz_survey')
            if only.has(folio)]


def test_a_process_that_exits_meanwhile_is_left_out_of_a_cgroup(
        machine: Machine) -> None:
    """Its pagemap is gone when it is to be read."""
    for pid, pfn in ((7, 0x10), (8, 0x12), (9, 0x13)):
        machine.process(pid, {0: pfn}, cgroup='0::/a.service\n')
    (machine.root / 'proc/8/pagemap').unlink()
    assert frames(machine, chosen(machine, None, 'a.service')) == [0x10, 0x13]


@pytest.mark.parametrize('name', [
    'user-1000.slice', 'user@1000.service', 'app.slice', '/user.slice'])
def test_a_unit_within_others_is_found_by_its_name(machine: Machine, name: str
                                                   ) -> None:
    """Whatever is above it, and below."""
    machine.process(7, {0: 1}, cgroup='0::/user.slice/user-1000.slice/'
                    'user@1000.service/app.slice/a.scope\n')
    machine.process(8, {0: 2}, cgroup='0::/system.slice/user-1000.slice.b\n')
    assert chosen(machine, None, name).pids == [7]


@pytest.mark.parametrize('pfn, meant', [
    (0x40000, True), (0x7ffff, True), (0x5abcd, True), (0x3ffff, False),
    (0x80000, False)])
def test_a_folio_of_a_gigabyte_is_meant_by_any_of_its_pages(pfn: int,
                                                            meant: bool
                                                            ) -> None:
    """And not by its neighbours."""
    only = top.Only([7])
    only.add(pfn)
    huge = listing.Folio(0x40000, 18, 'hugetlb', 1, 1, 0, 0, 1, 1, '-', 0)
    assert only.has(huge) == meant


def test_a_large_reservation_is_read_in_pieces(machine: Machine) -> None:
    """Of what top is to be about; there is little in it."""
    machine.process(7, {0: 0x10, 3: 0x2ab})
    maps(machine.root / 'proc/7', '0-100000000000 rw-p 00000000 00:00 0 ')
    assert frames(machine, chosen(machine, 7, None)) == [0x10, 0x200]


def test_a_hostile_unit_is_inert_in_the_list_of_families(machine: Machine
                                                         ) -> None:
    """As it is everywhere else."""
    machine.process(9, {0: 1}, cgroup='0::/\x1b[31m\u202e.service\n')
    text = printed(lambda paper: top.Top(
        machine.module, machine.proc, paper).print_families(list(
            listing.families(machine.root / 'rmapviz_families'))))
    assert '\\x1b[31m\\u202e.service' in text
    assert '\x1b' not in text and '\u202e' not in text


def test_a_hostile_unit_is_inert_in_a_group(machine: Machine) -> None:
    """For the eye and for programs."""
    machine.process(7, {0: 1}, cgroup='0::/\x1b[31m\u202e.service\n')
    made = report.load(str(Path(__file__).parent / 'data/reports/anon.json'))
    for mm in made['mms']:
        mm.update(pid=7, tasks=[7])
    units = {group.as_json()['unit']
             for group in people.groups(made, machine.proc)}
    assert units == {'\\x1b[31m\\u202e.service'}


# ---------------------------------------------------------------- families --

HEADING = 'FAMILY PID PROCESSES VMAS AVS AVCS DEPTH BYTES FORK_BYTES COMM\n'
NUMBERS = ' 9d0bba669e741b69     115        23      46      47      138' \
    '     3      12968        560 '


@pytest.mark.parametrize('written, comm', [
    ('tmux:\\040server', 'tmux: server'), ('a\\134b', 'a\\b'), ('', ''),
    ('\\040', ' '), ('gr\\303\\274n', 'grün'), ('\\033[1m', '\\x1b[1m')])
def test_a_family_has_the_name_of_its_process(tmp_path: Path, written: str,
                                              comm: str) -> None:
    """The module writes some bytes as octal numbers; there may be none."""
    path = tmp_path / 'rmapviz_families'
    path.write_text(f'{HEADING}{NUMBERS}{written}\n{NUMBERS}last\n')
    assert [(family.comm, family.fork_bytes)
            for family in listing.families(path)] \
        == [(comm, 560), ('last', 560)]


def test_a_line_that_is_cut_off_is_no_folio(tmp_path: Path) -> None:
    """A name may be empty, a number not."""
    path = tmp_path / 'rmapviz_survey'
    path.write_text(f'{SURVEY}0x400 0 anon 1 1 0 0 1 1 00000000deadbeef\n')
    assert 0x400 not in [folio.pfn for folio in listing.survey(path)]


# ------------------------------------------------------------------- audit --

class Answers(Machine):
    """A machine whose answers are anew each time, and may be a failure."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.failures: Dict[str, int] = {}
        self.kept: 'weakref.WeakValueDictionary[int, Kept]' \
            = weakref.WeakValueDictionary()
        self.most = 0

    def ask(self, query: str) -> report.Report:
        """A copy, of which it is known whether somebody has it still."""
        if query in self.failures:
            self.asked.append(query)
            raise Failure('no answer', self.failures[query])
        made = Kept(super().ask(query))
        self.kept[len(self.asked)] = made
        self.most = max(self.most, len(self.kept))
        return made


class Kept(Dict[str, Any]):
    """A report to which there can be a weak reference."""


@pytest.fixture
def busy(tmp_path: Path) -> Answers:
    """A machine with processes that map what its survey says."""
    made = Answers(tmp_path)
    whole(made)
    return made


def audited(machine: Machine) -> Tuple[audit.Audit, List[audit.Find]]:
    """An audit, and what stands."""
    made = audit.Audit(machine.module, machine.proc)
    return made, list(made.run())


def told(made: audit.Audit, found: List[audit.Find]) -> str:
    """The result for the eye."""
    return printed(lambda paper: audit.print_result(made, found, 1, paper))


def doubtful(machine: Machine, number: int) -> List[int]:
    """So many pages that rmap does not find, though a process maps them; what
    verify says is that there is none."""
    pfns = list(range(0x20, 0x20 + number))
    machine.process(4, dict(enumerate(pfns)))
    for pfn in pfns:
        machine.answers[f'{pfn:#x}'] = answer(pfn, set())
        machine.answers[f'{pfn:#x} verify'] = answer(
            pfn, set(), verify={'missing': [], 'extra': []})
    return pfns


def test_a_doubt_that_was_not_asked_about_is_no_find(busy: Answers) -> None:
    """But told to be one that was not settled."""
    doubtful(busy, audit.MOST + 6)
    made, found = audited(busy)
    assert (found, made.more) == ([], 6)
    assert 'and 6 more folios' in told(made, found)
    assert '6 not settled' in told(made, found)


def test_what_disagrees_is_looked_at_again_some_at_a_time(
        busy: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the same way."""
    monkeypatch.setattr(audit, 'TOGETHER', 4)
    pfns = doubtful(busy, 10)
    sizes: List[int] = []
    look_at = audit.Audit._look_at

    def noted(self: audit.Audit, doubts: List[int]) -> None:
        sizes.append(len(doubts))
        look_at(self, doubts)

    monkeypatch.setattr(audit.Audit, '_look_at', noted)
    audited(busy)
    assert sizes == [4, 4, 2] * audit.LOOKS
    assert {f'{pfn:#x} verify' for pfn in pfns} <= set(busy.asked)


def test_an_audit_keeps_no_reports(busy: Answers) -> None:
    """Of many pages that are in doubt, each may be large."""
    doubtful(busy, 50)
    audited(busy)
    assert busy.most <= 2


def test_many_doubts_are_looked_at_as_long_as_that_settles_some(
        busy: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten more at each look, as where processes come and go."""
    pfns = doubtful(busy, audit.MOST + 25)
    ask_ = busy.ask

    def settling(query: str) -> report.Report:
        if query == f'{pfns[-1]:#x}':
            for i in range(10 * (busy.asked.count(query) + 1)):
                busy.answers[f'{pfns[i]:#x}'] = answer(
                    pfns[i], {(4, i * 4096)})
        return ask_(query)

    monkeypatch.setattr(busy, 'ask', settling)
    made, found = audited(busy)
    assert (found, made.more) == ([], 0)
    assert busy.asked.count(f'{pfns[-1]:#x}') == 4


def test_memory_without_a_first_thread_is_in_an_audit(busy: Answers) -> None:
    """It is found by both sides, so that nothing is in doubt."""
    without_leader(busy, 1, 11)
    without_leader(busy, 3, 13)
    assert audited(busy)[1] == []
    assert busy.asked == ['0x11 brief']


def test_a_place_is_the_same_whoever_of_those_with_the_memory_is_named(
        busy: Answers) -> None:
    """The module names the one that comes first on a list of the kernel's."""
    for pid in (4, 9):
        busy.process(pid, {0: 0x12})
    found = answer(0x12, {(1, 0x1000), (9, 0)})
    found['mms'][1]['tasks'] = [9, 4]
    busy.answers['0x12'] = found
    assert audited(busy)[1] == []
    assert '0x12 verify' not in busy.asked


def test_memory_that_two_processes_have_is_one_address_space(
        busy: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it has changed between the looks at their maps."""
    busy.process(9, {0: 0x12}, {0: 0x13})
    memory = {1: 11, 2: 12, 3: 10, 9: 10}
    monkeypatch.setattr(audit, 'memory_order',
                        lambda task, other: memory[task] - memory[other])
    busy.proc.is_ours = True
    spaces = audit.address_spaces(busy.proc)
    assert [space.pids for space in spaces] == [[1], [2], [3, 9]]


def test_a_process_that_exits_hides_no_other_with_its_memory(
        busy: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with which a third is compared may have gone."""
    busy.process(9, {0: 0x12})
    memory = {1: 10, 3: 12, 9: 10}

    def order(task: int, other: int) -> Optional[int]:
        return None if 2 in (task, other) else memory[task] - memory[other]

    monkeypatch.setattr(audit, 'memory_order', order)
    busy.proc.is_ours = True
    assert [1, 9] in [space.pids for space in
                      audit.address_spaces(busy.proc)]


@pytest.mark.parametrize('number', [errno.ENOMEM, errno.EAGAIN, errno.EINTR])
def test_a_doubt_of_which_verify_says_nothing_is_not_settled(
        busy: Answers, number: int) -> None:
    """It is neither a find, nor do rmap and page tables agree."""
    doubtful(busy, 1)
    busy.failures['0x20 verify'] = number
    made, found = audited(busy)
    assert (found, [doubt.pfn for doubt in made.unsettled]) == ([], [0x20])
    assert 'PFN 0x20: not settled: no answer' in told(made, found)
    assert 'agree' not in told(made, found)
    assert audit.as_json(made, found, 1)['not_settled'] \
        == [{'pfn': 0x20, 'text': 'no answer'}]


def test_a_doubt_that_is_no_page_any_more_is_settled(busy: Answers) -> None:
    """Its memory has gone offline."""
    doubtful(busy, 1)
    busy.failures['0x20'] = errno.ENXIO
    made, found = audited(busy)
    assert (found, made.unsettled, made.more) == ([], [], 0)
    assert 'agree' in told(made, found)
    assert '0x20 verify' not in busy.asked


def test_a_doubt_that_is_busy_is_asked_about_again(busy: Answers) -> None:
    """And is not taken for one that has gone."""
    doubtful(busy, 1)
    busy.failures['0x20'] = errno.EAGAIN
    busy.answers['0x20 verify'] = answer(
        0x20, set(), verify={'missing': [{}], 'extra': []})
    assert [find.pfn for find in audited(busy)[1]] == [0x20]


@pytest.mark.parametrize('missed', [0, 1, 2])
def test_each_place_of_a_doubt_has_to_be_found(busy: Answers, missed: int
                                               ) -> None:
    """Whichever it is that rmap does not find."""
    busy.process(4, {0: 0x12, 1: 0x12})
    places = [(1, 0x1000), (4, 0), (4, 0x1000)]
    del places[missed]
    busy.answers['0x12'] = answer(0x12, {*places})
    busy.answers['0x12 verify'] = answer(
        0x12, set(), verify={'missing': [{}], 'extra': []})
    assert [find.pfn for find in audited(busy)[1]] == [0x12]


def test_a_report_that_is_not_whole_settles_nothing(busy: Answers) -> None:
    """Of what did not fit, verify compares nothing."""
    doubtful(busy, 1)
    busy.answers['0x20 verify'] = answer(
        0x20, set(), verify={'missing': [], 'extra': []},
        walk={'unreached': 0, 'lost': 7})
    made, found = audited(busy)
    assert (found, [doubt.pfn for doubt in made.unsettled]) == ([], [0x20])


def test_a_ksm_page_that_is_busy_is_not_settled(busy: Answers) -> None:
    """It cannot be said whether the walk comes to all of its mappings."""
    busy.failures['0x11 brief'] = errno.EAGAIN
    made, found = audited(busy)
    assert (found, [doubt.pfn for doubt in made.unsettled]) == ([], [0x11])


@pytest.mark.parametrize('unreached, extra, explained', [
    (2, 0, True), (3, 0, True), (1, 0, False), (0, 0, False), (2, 1, False)])
def test_of_a_ksm_page_only_the_gap_that_the_kernel_counts_is_explained(
        busy: Answers, unreached: int, extra: int, explained: bool) -> None:
    """What else is missing is a bug."""
    busy.answers['0x11 brief'] = {'walk': {'unreached': 2}}
    busy.answers['0x11 verify'] = answer(
        0x11, set(), kind='ksm', walk={'unreached': unreached, 'lost': 0},
        verify={'missing': [{}, {}], 'extra': [{}] * extra})
    (find,) = audited(busy)[1]
    assert find.explained == explained


def test_what_was_not_compared_is_counted(busy: Answers) -> None:
    """What somebody had at the time, and what is no System RAM."""
    (busy.root / 'rmapviz_survey').write_text(
        f'{SURVEY}0x400 0 file 1 1 0 0 1 1 00000000deadbeef 0\n')
    made, found = audited(busy)
    said = audit.as_json(made, found, 1)
    assert (said['busy'], said['beyond_memory']) == (1, 1)
    assert 'not compared: 1 that somebody else had at the time, 1 beyond ' \
        'System RAM' in told(made, found)


def test_places_of_what_rmap_does_not_know_are_not_listed(
        busy: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zero page may be in very many."""
    monkeypatch.setattr(audit, 'MANY', 8)
    busy.process(4, {i: 0x30 for i in range(20)})
    busy.answers['0x30 brief'] = answer(0x30, set(), kind='zero')
    assert audited(busy)[1] == []
    assert '0x30' not in busy.asked


# --------------------------------------------------------------------- who --

class Source(ask.Module):
    """Says of every page that it is the recorded one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: List[str] = []

    def ask(self, query: str) -> report.Report:
        """Its report."""
        self.asked.append(query)
        return report.load(str(Path(__file__).parent
                               / 'data/reports/anon.json'))


def teller(machine: Machine) -> who.Who:
    """Who has what there."""
    return who.Who(Source(), machine.proc, None, False)     # type: ignore


def counted(pages: List[who.Found]) -> Dict[str, int]:
    """How many pages have what said of them."""
    found: Dict[str, int] = {}
    for page in pages:
        found[page.gone] = found.get(page.gone, 0) + page.pages
    return found


@pytest.mark.parametrize('start, end', [(0x5000, 0x1000), (0x1000, 0x1000),
                                        (1 << 63, 0)])
def test_a_range_that_ends_before_it_begins_is_refused(
        machine: Machine, start: int, end: int) -> None:
    """Rather than all read to the end."""
    machine.process(7, {0: 0x10})
    with pytest.raises(Failure, match='does not end behind') as raised:
        teller(machine).of_range(7, start, end, 4)
    assert one_line(raised)


def test_a_range_may_be_all_that_a_process_can_have(machine: Machine) -> None:
    """Of which only what some VMA has is read."""
    machine.process(7, {0: 0x10, 2: 0x12, 5: 0x13})
    pages = teller(machine).of_range(7, 0, 0x7fffffffffff, 2)
    assert counted(pages) == {'': 2, 'not asked': 1,
                              'not there': (1 << 35) - 3}
    assert len(pages) < 10


def test_a_large_reservation_with_a_name_is_looked_through(machine: Machine
                                                           ) -> None:
    """Of which little was ever touched."""
    machine.process(7, {0: 0x10, 3: 0x12})
    maps(machine.root / 'proc/7',
         '0-100000000000 rw-p 00000000 00:00 0 [heap]')
    pages = teller(machine).of_areas(7, 'heap', 10)
    assert counted(pages) == {'': 2, 'not there': (1 << 32) - 2}


def test_pages_of_a_small_range_are_told_one_by_one(machine: Machine) -> None:
    """As those who count lines expect it."""
    machine.process(7, {0: 0x10, 9: 0x12})
    pages = teller(machine).of_range(7, 0x10, 0xa000, 1)
    assert [(page.address, page.gone, page.pages) for page in pages] == [
        (0, '', 1), *((i << 12, 'not there', 1) for i in range(1, 9)),
        (0x9000, 'not asked', 1)]


def test_what_is_swapped_out_is_told_apart(machine: Machine) -> None:
    """In its place."""
    machine.process(7, {0: 0x10, 3: 0x12})
    (machine.root / 'proc/7/pagemap').write_bytes(b''.join(
        word.to_bytes(8, 'little')
        for word in (PRESENT | 0x10, SWAPPED, SWAPPED, 0)))
    assert [(page.address, page.gone)
            for page in teller(machine).of_range(7, 0, 0x4000, 9)] \
        == [(0, ''), (0x1000, 'swapped out'), (0x2000, 'swapped out'),
            (0x3000, 'not there')]


def test_many_pages_that_are_asked_about_are_evenly_spread(machine: Machine
                                                           ) -> None:
    """Across what is there, whatever is between."""
    machine.process(7, {**{i: 0x100 + i for i in range(50)},
                        **{i: 0x100 + i for i in range(80, 130)}})
    source = teller(machine)
    source.of_range(7, 0, 200 << 12, 4)
    assert isinstance(source.source, Source)
    assert [int(query.split()[-1], 16) >> 12 for query in
            source.source.asked] == [0, 25, 80, 105]


def test_too_many_pieces_are_refused(machine: Machine,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take more memory than there is to be taken."""
    monkeypatch.setattr(place, 'MOST_RUNS', 4)
    machine.process(7, {i: 0x10 for i in range(0, 20, 2)})
    with pytest.raises(Failure, match='a part of it') as raised:
        teller(machine).of_range(7, 0, 20 << 12, 4)
    assert one_line(raised)


def test_linux_tells_of_a_large_reservation_in_little_memory() -> None:
    """64 GB, of which two pages were touched."""
    length, noreserve = 64 << 30, 0x4000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | noreserve
    try:
        memory = mmap.mmap(-1, length, flags=flags)
    except OSError:
        pytest.skip('so much memory cannot be reserved')
    memory[0] = memory[length // 2] = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    tracemalloc.start()
    try:
        runs = place.runs(proc.Proc(), os.getpid(), start, start + length)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # a huge page may be there in place of one
    there = [run for run in runs if not run.gone]
    assert [run.address <= at < run.address + (run.pages << 12)
            for run, at in zip(there, (start, start + length // 2))] \
        == [True, True]
    assert sum(run.pages for run in runs) == length >> 12
    assert peak < 32 << 20


@pytest.mark.parametrize('name', ['fifo', 'socket', '/dev/null', '/dev/zero'])
def test_what_is_no_regular_file_is_not_opened(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It might wait for somebody, or do something."""
    os.mkfifo(tmp_path / 'fifo')
    os.mknod(tmp_path / 'socket', 0o140600)
    monkeypatch.setattr(os, 'open', lambda *_: pytest.fail('it is opened'))
    for look in place.frames_of_file, place.file_runs:
        with pytest.raises(Failure, match='no regular file') as raised:
            look(str(tmp_path / name), 0, 4096)
        assert one_line(raised)


def test_only_those_pages_of_a_file_are_touched_that_are_asked_about(
        tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    """Of all others it is enough whether they are cached."""
    path = tmp_path / 'data'
    path.write_bytes(b'x' * (100 << 12))
    touched: List[int] = []

    def frames_of_file(_: str, offset: int, length: int
                       ) -> List[Optional[int]]:
        touched.append(offset)
        return [0x10] * (length >> 12)

    monkeypatch.setattr(place, 'frames_of_file', frames_of_file)
    pages = teller(machine).of_file(str(path), 0, 1 << 30, 4)
    assert touched == [0, 25 << 12, 50 << 12, 75 << 12]
    assert counted(pages) == {'': 4, 'not asked': 96}


def test_of_a_page_that_was_asked_about_only_what_is_told_is_kept(
        machine: Machine) -> None:
    """A report of a large family has megabytes."""
    machine.process(7, {0: 0x10})
    page, = teller(machine).of_range(7, 0, 4096, 1)
    assert page.report and set(page.report) == {'page', 'walk'}
    assert teller(machine).as_json(page)['who']


@pytest.mark.parametrize('words', [
    ['--pid', '{pid}', '--vma', 'heap'], ['{pid}:0-1000'],
    ['--file', '{file}']])
def test_a_dump_is_not_asked_for_what_this_machine_has(
        capfd: pytest.CaptureFixture[str], words: List[str]) -> None:
    """Its processes and files are others."""
    named = [word.format(pid=os.getpid(), file=__file__) for word in words]
    assert command.run(['who', *named, '--vmlinux', __file__]) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ('', 1)


def test_frames_that_are_not_there_are_status_1(
        capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    """As everything else that is not."""
    def none(_: ask.Module, query: str) -> report.Report:
        raise ask.sentence(errno.ENXIO, query)

    monkeypatch.setattr(ask.Module, 'ask', none)
    assert command.run(['who', '0x100-0x103']) == 1
    assert '4 not there' in capfd.readouterr().out


# -------------------------------------------------------------------- swap --

HEAD = 'Filename Type Size Used Priority\n'
LINES = [f'/dev/sd{name} partition 1 1 -2\n' for name in 'abc']


@pytest.mark.parametrize('kind, lines, words', [
    (0, 1, '5 of /dev/sda'), (3, 1, '5 of /dev/sda'), (0, 3, '5 of /dev/sda'),
    (1, 2, '5 of swap area 1: /dev/sda or /dev/sdb'),
    (1, 3, '5 of swap area 1: /dev/sda or /dev/sdb'),
    (2, 3, '5 of swap area 2: /dev/sda, /dev/sdb or /dev/sdc'),
    (30, 1, 'or being migrated'), (0, 0, 'or being migrated')])
def test_a_swap_area_is_named_where_it_can_only_be_that(
        machine: Machine, kind: int, lines: int, words: str) -> None:
    """/proc/swaps has those in use in their order, and not their numbers."""
    (machine.root / 'proc/swaps').write_text(HEAD + ''.join(LINES[:lines]))
    said = place.swapped(machine.proc, proc.entry(SWAPPED | 5 << 5 | kind))
    assert said.split('to page ')[-1].endswith(words) or words in said


# ---------------------------------------------------------------- progress --

def test_what_takes_long_says_how_far_it_is_and_is_erased(
        busy: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    """On a terminal only."""
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    top.Top(busy.module, busy.proc, None).folios(       # type: ignore
        'shared', 1, None)
    busy.process(5, {0: 0x12})
    doubtful(busy, 3)
    audited(busy)
    (tmp_path / 'data').write_bytes(b'x' * 9000)
    teller(busy).of_file(str(tmp_path / 'data'), 0, 9000, 3)
    said = terminal.getvalue()
    assert [what for what in (
        'reading the survey', 'reading page tables', 'looking again',
        'asking about what disagrees', 'asking with verify',
        'asking about KSM pages', 'looking at', 'asking')
        if f'\r{what}' not in said] == []
    assert said.endswith('\r\x1b[K')
