"""tools/rmapviz without a kernel: what it reads, and what it makes of it."""

import argparse
import copy
import errno
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, \
    Optional, Set, Tuple, Union

import pytest

from rmapviz_lib import (ask, command, holders, libc, people, place, proc,
                         report, target, why, words)
from rmapviz_lib.failure import Failure
from rvtest import vm

COMMAND = vm.TOP / 'tools' / 'rmapviz'
DATA = Path(__file__).parent / 'data'


def sample(name: str) -> report.Report:
    """A recorded answer."""
    return report.load(str(DATA / 'reports' / f'{name}.json'))


def family() -> report.Report:
    """A page at 0x10000000000 of three processes: 109, 123 and 128."""
    made = sample('anon')
    for mm, pid in zip(made['mms'], (109, 123, 128)):
        mm.update(pid=pid, tasks=[pid])
    assert {address for _, address in report.mappings(made)} \
        == {0x10000000000}
    return made


def run(*arguments: str, text: str = '', env: Optional[Dict[str, str]] = None
        ) -> 'subprocess.CompletedProcess[str]':
    """The command, as a program of its own."""
    return subprocess.run(
        ['/usr/bin/python3', str(COMMAND), *arguments], input=text,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})})


# -------------------------------------------- lines that the kernel prints --

@pytest.mark.parametrize('line, first, pages', [
    ('[  1.0] migrating pfn a90e failed ret:1 ', 0xa90e, 1),
    ('migrating pfn 28070 failed ret:2', 0x28070, 1),
    ('failed to isolate pfn 28070', 0x28070, 1),
    ('page:000000006166e0b9 refcount:4 mapcount:2 mapping:0000000000000000 '
     'index:0x10015e02 pfn:0x28070', 0x28070, 1),
    ('page: refcount:3 mapcount:1 mapping:0000000000000000 index:0x10000001 '
     'pfn:0x30859', 0x30859, 1),
    ('alloc_contig_range: [1b8000, 1c0000) PFNs busy', 0x1b8000, 0x8000),
    ('cma: cma_alloc(): memory range at pfn 0x12400 00000000abcdef01 is '
     'busy, retrying', 0x12400, 1),
    ('memory offlining [mem 0x138000000-0x13fffffff] failed due to signal '
     'backoff', 0x138000, 0x8000),
    ('removing memory fails, because memory '
     '[0x0000000138000000-0x000000013fffffff] is onlined', 0x138000, 0x8000),
    ('Soft offlining pfn 0x1d2f3 at process virtual address 0x7f0000000000',
     0x1d2f3, 1),
    ('BUG: Bad page state in process pfn bad  pfn:1d2f3', 0x1d2f3, 1),
    ('BUG: Bad page state in process cat  pfn:1d2f3', 0x1d2f3, 1),
    ('PFN 119539 type Movable Block 233 type Movable Flags 0x1(a)', 119539, 1),
    ('PFN 0x1d2f3 type Movable Block 233 type Movable Flags a', 0x1d2f3, 1),
    ('Memory failure: 0x1d2f3: recovery action for dirty page', 0x1d2f3, 1),
    ('soft_offline_page: 0x1d2f3 page already poisoned', 0x1d2f3, 1),
    ('EDAC MC0: 1 CE read (channel:0 slot:1 page:0x1d2f3 offset:0x40 '
     'grain:8)', 0x1d2f3, 1),
])
def test_a_line_of_the_log_gives_its_frames(line: str, first: int, pages: int
                                            ) -> None:
    """Hex where the kernel means it; page_owner was decimal up to 6.1."""
    found, = target.of_lines([line])
    assert (found.first, found.pages) == (first, pages)


@pytest.mark.parametrize('line', [
    'cma: cma_alloc: reserved: alloc failed, req-size: 512 pages, ret: -16',
    'page dumped because: migration failure', 'Offlined Pages 32768', '',
    'BIOS-e820: [mem 0x0000000000100000-0x00000000bffd9fff] usable',
    'last_pfn = 0x640000 max_arch_pfn = 0x400000000'])
def test_a_line_without_a_frame_gives_none(line: str) -> None:
    """Some are near those that have."""
    assert list(target.of_lines([line])) == []


@pytest.mark.parametrize('log, first, pages', [
    ('5.10', 0x2e800, 65536), ('6.12', 0xfc00, 65536),
    ('7.2', 0x100000, 262144), ('7.3', 0x100000, 262144)])
def test_a_real_log_of_cma_gives_all_that_it_could_not_have(
        log: str, first: int, pages: int) -> None:
    """The kernel names the first page; how many, it said before."""
    text = (DATA / 'cma' / log).read_text()
    found, = target.of_lines(text.splitlines())
    assert (found.first, found.pages) == (first, pages)


def test_a_real_log_of_cma_on_6_1_names_no_page() -> None:
    """A hash of an address is none."""
    text = (DATA / 'cma/6.1').read_text()
    assert 'is busy, retrying' in text
    assert list(target.of_lines(text.splitlines())) == []


def test_cma_that_has_not_said_how_many_pages_it_wants_gives_the_first(
        ) -> None:
    """Or has named more than there can be; and the next is another's."""
    busy = 'cma: cma_alloc(): memory range at pfn 0x100 0 is busy, retrying'
    line = 'cma: cma_alloc(cma 00000000d2938dc4, count %s, align 9)'
    other = busy.replace('0x100', '0x900')
    for lines, pages in (([busy], [1]), ([line % ('9' * 30), busy], [1]),
                         ([line % 512, busy, line % 64, other], [512, 64])):
        assert [found.pages for found in target.of_lines(lines)] == pages


def test_the_log_of_a_boot_names_no_page() -> None:
    """Though it tells where all of memory is, and what devices have."""
    text = (DATA / 'dmesg/boot').read_text()
    assert text.count('[mem ') > 20
    assert list(target.of_lines(text.splitlines())) == []


@pytest.mark.parametrize('line, first', [
    ('PFN 012 type Movable Block 0 type Movable', 12),
    ('PFN 0x12 type Movable Block 0 type Movable', 0x12)])
def test_a_decimal_pfn_may_begin_with_0(line: str, first: int) -> None:
    """Which Python takes for nothing."""
    found, = target.of_lines([line])
    assert found.first == first


@pytest.mark.parametrize('line', [
    'memory offlining [mem 0x2000-0x1000] failed due to signal backoff',
    'alloc_contig_range: [5, 5) PFNs busy',
    'migrating pfn ffffffffffffffff failed ret:1',
    f"PFN {'9' * 5000} type Movable", f"migrating pfn {'f' * 5000} failed"])
def test_a_line_that_cannot_be_true_does_not_end_the_log(line: str) -> None:
    """The next is read."""
    found, = target.of_lines([line, 'migrating pfn 28070 failed ret:1'])
    assert found.first == 0x28070


@pytest.mark.parametrize('log', sorted(
    path.name for path in (DATA / 'dmesg').iterdir() if path.name != 'boot'))
def test_a_real_log_gives_the_pages_that_did_not_move(log: str) -> None:
    """Each once, though the kernel says everything twice."""
    text = (DATA / 'dmesg' / log).read_text()
    wanted = [int(line.split('migrating pfn ')[1].split()[0], 16)
              for line in text.splitlines() if 'migrating pfn' in line]
    assert wanted
    assert [found.first for found in target.of_lines(text.splitlines())] \
        == list(dict.fromkeys(wanted))


@pytest.mark.parametrize('word, pfn', [
    ('28070', 28070), ('0x28070', 0x28070), ('pfn:28070', 0x28070),
    ('pfn:0x28070', 0x28070), ('a90e', 0xa90e)])
def test_a_number_is_read_as_the_module_reads_it(word: str, pfn: int) -> None:
    """Decimal, unless something says hex."""
    found, = target.of_words([word], proc.Proc())
    assert (found.first, found.pages) == (pfn, 1)


def test_a_line_need_not_be_quoted() -> None:
    """The shell takes it to pieces."""
    found, = target.of_words('migrating pfn 28070 failed ret:1'.split(),
                             proc.Proc())
    assert found.first == 0x28070


@pytest.mark.parametrize('word', [
    '0x10-0x1f', '16-31', 'pfn:10-1f', 'pfn:10-pfn:1f', '0x10-1f', '10-1f'])
def test_a_range_has_its_last_page(word: str) -> None:
    """As one would say it; hex if one end is."""
    found, = target.of_words([word], proc.Proc())
    assert (found.first, found.pages) == (0x10, 16)


@pytest.mark.parametrize('words_', [
    ['pfn:28070', 'pfn:28071'], ['0x28070', 'pfn:28071'],
    ['migrating pfn 28070 failed ret:1', 'failed to isolate pfn 28071'],
    ['migrating pfn 28070 failed ret:1', '0x28071'],
    'migrating pfn 28070 failed migrating pfn 28071 failed'.split()])
def test_each_of_several_targets_is_asked_about(words_: List[str]) -> None:
    """Numbers and lines of the log, in quotes or not."""
    assert [found.first for found in target.of_words(words_, proc.Proc())] \
        == [0x28070, 0x28071]


@pytest.mark.parametrize('words_', [
    ['nonsense'], ['0x'], ['5-3'], ['0xffffffffffffffffff'], ['-5'], [''],
    ['1' * 5000], ['0x' + 'f' * 5000], ['phys', '9' * 5000],
    [f"5-{'1' * 5000}"], ['two words'], ['\u0665'], ['0x10', '0x2O', 'pfn:5'],
    ['163952', 'pfn:28070', 'memory99999'], ['pfn:28070-'],
    ['pfn:28070-2807g'], ['pfn:28080-28070']])
def test_nonsense_is_no_target(words_: List[str]) -> None:
    """And does not raise anything else."""
    with pytest.raises(Failure):
        target.of_words(words_, proc.Proc())


def test_a_block_is_as_large_as_the_machine_says(tmp_path: Path) -> None:
    """In hex, without 0x."""
    memory = tmp_path / 'sys/devices/system/memory'
    (memory / 'memory42').mkdir(parents=True)
    (memory / 'block_size_bytes').write_text('8000000\n')
    (memory / 'memory42/phys_index').write_text('0000002a\n')
    found, = target.of_words(['/sys/devices/system/memory/memory42'],
                             proc.Proc(str(tmp_path)))
    assert (found.first, found.pages) == (42 * 32768, 32768)


# ----------------------------------------------------------------- reports --

@pytest.mark.parametrize('name', sorted(
    path.stem for path in (DATA / 'reports').glob('*.json')
    if path.stem != 'failure'))
def test_a_recorded_answer_is_a_report(name: str) -> None:
    """Of the module and of the script."""
    assert sample(name)['rmapviz'] == 1


def without(path: str) -> str:
    """The sample without a field, or with another value: FIELD=JSON."""
    broken = json.loads((DATA / 'reports/anon.json').read_text())
    *parents, last = path.split('=')[0].split('.')
    where: Any = broken
    for parent in parents:
        where = where[int(parent) if parent.isdigit() else parent]
    if '=' in path:
        where[int(last) if last.isdigit() else last] \
            = json.loads(path.split('=')[1])
    else:
        del where[last]
    return json.dumps(broken)


@pytest.mark.parametrize('text', [
    '', ' \n', '{', 'null', '[]', '3', '{"rmapviz": 2}', '[' * 100000,
    '{"rmapviz": 1}', '\x00\x01', '{"rmapviz": 1, "error": 5}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    """Whatever it is."""
    with pytest.raises(Failure):
        report.parse(text, 'it')


@pytest.mark.parametrize('path', [
    'page.pfn', 'page.flags', 'vmas', 'vmas.0.start', 'vmas.0.start="x"',
    'vmas.0.mm=17', 'vmas.1.anon_vma=-1', 'avcs.0.vma=true', 'walk',
    'ptes.0.addr=5', 'anon_vmas.1.parent=2', 'page=5', 'mms.0=null',
    'mms.0.tasks=["x"]', 'page.flags=[1]', 'page.order=64',
    'migrate="yes"', 'migrate.reasons=[{}]', 'kernel=5', 'reclaim=3'])
def test_a_report_that_is_not_whole_is_refused(path: str) -> None:
    """So nobody who reads one has to ask whether a field is there."""
    with pytest.raises(Failure):
        report.parse(without(path), 'it')


def test_a_report_that_is_cut_off_is_refused_at_every_byte() -> None:
    """A pipe that broke, a disk that was full."""
    text = (DATA / 'reports/anon.json').read_text().rstrip()
    for end in range(0, len(text), 7):
        with pytest.raises(Failure):
            report.parse(text[:end], 'it')


# ------------------------------------------------------------------- names --

HOSTILE = ['\x1b[31mred', 'a\nb', '\x9b31m', '\u202egnp.exe', 'a\rb', '\x07',
           '\ud800', '\u2028']


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_name_is_inert(name: str) -> None:
    """No line more, no colour, no other direction."""
    shown = words.plain(name)
    assert shown.isprintable() and name not in shown


def test_a_name_of_the_kernel_is_utf8_where_it_can_be() -> None:
    """A report has a character for each byte."""
    assert words.kernel_name('gr\xc3\xbc\xc3\x9fe') == 'grüße'
    assert words.kernel_name('gr\xfc\xdfe') == 'grüße'


@pytest.mark.parametrize('name, stem', [
    ('worker17', 'worker'), ('kworker/3', 'kworker'), ('7', '7'),
    ('apache2', 'apache'), ('P', 'P'), ('php-fpm7.4', 'php-fpm7')])
def test_a_number_at_the_end_of_a_name_does_not_count(name: str, stem: str
                                                      ) -> None:
    """Unless it is all that there is."""
    assert words.stem(name) == stem


# ------------------------------------------------------------------- units --

@pytest.mark.parametrize('cgroups, unit', [
    ('0::/system.slice/apache2.service\n', 'apache2.service'),
    ('0::/user.slice/user-0.slice/session-1.scope\n', 'session-1.scope'),
    ('1:name=systemd:/system.slice/cron.service\n0::/\n', 'cron.service'),
    ('12:pids:/docker/abc\n1:name=systemd:/docker/abc\n', '/docker/abc'),
    ('0::/\n', ''), ('', '')])
def test_the_unit_of_a_process(cgroups: str, unit: str) -> None:
    """systemd's, or else the cgroup; of both versions."""
    assert proc.unit_of(cgroups) == unit


def test_processes_of_a_name_and_a_unit_are_one_line(tmp_path: Path) -> None:
    """Which says how many, and what came of them."""
    made = family()
    for i, mm in enumerate(made['mms']):
        mm['comm'] = f'worker{i}'
    for pid in (109, 123):
        (tmp_path / f'proc/{pid}').mkdir(parents=True)
        (tmp_path / f'proc/{pid}/cgroup').write_text('0::/a.service\n')
    made['vmas'][1]['mapped'] = False
    there, elsewhere = people.groups(made, proc.Proc(str(tmp_path)))
    assert (there.title(), there.unit, there.result()) \
        == ('worker x2', 'a.service', 'maps 1, visited in vain 1')
    assert elsewhere.title() == 'worker2 (128)'


# ----------------------------------------------------------------- holders --

FDINFO = '''pos:\t0
flags:\t02000002
UserFiles:\t1
    0: /root/UserBufs:
UserBufs:\t3
    0: 0x10000001000/8192
    1: <none>
    2: 0x7f0000000000/100
PollList:
'''


def test_registered_buffers_are_read_from_fdinfo() -> None:
    """Empty places have none."""
    assert holders.ring_buffers(FDINFO) \
        == [(0, 0x10000001000, 8192), (2, 0x7f0000000000, 100)]


def test_a_file_that_is_called_like_a_title_hides_no_buffers() -> None:
    """Of 5.10, which prints a newline in a name as it is."""
    text = FDINFO.replace('/root/UserBufs:', 'a\nUserBufs:\t0\nPollList:')
    assert holders.ring_buffers(text) \
        == [(0, 0x10000001000, 8192), (2, 0x7f0000000000, 100)]


@pytest.mark.parametrize('text', [
    '', 'pos:\t0\n', 'UserFiles:\t0\nUserBufs:\t3\nPollList:\n',
    'UserBufs:\t2\n    0: 0x1000/4096\n'])
def test_a_ring_that_is_in_use_does_not_tell_its_buffers(text: str) -> None:
    """Which is not the same as to have none: the kernel tries its lock, and
    prints less without it."""
    assert holders.ring_buffers(text) is None
    assert holders.ring_buffers('UserBufs:\t0\nPollList:\n') == []


class Machine:
    """A /proc and a /sys that a test makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / 'proc').mkdir()
        self.proc = proc.Proc(str(root))

    def write(self, path: str, text: str) -> None:
        """A file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def opens(self, pid: int, number: int, name: str, info: str = '') -> None:
        """A process has something open."""
        self.write(f'proc/{pid}/fdinfo/{number}', info)
        self.write(f'proc/{pid}/comm', f'process{pid}\n')
        link = self.root / f'proc/{pid}/fd/{number}'
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(name, link)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Without processes."""
    return Machine(tmp_path)


def held(pins: int, extra: int) -> report.Report:
    """That page, with pins and other references."""
    made = family()
    made['page'].update(dma_pins=pins, extra_refs=extra)
    return made


def found(machine: Machine, pins: int, extra: int) -> List[Any]:
    """Who is found: sure?, how, pid."""
    return [(holder.sure, holder.how, holder.pid)
            for holder in holders.find(held(pins, extra), machine.proc)]


RING = 'anon_inode:[io_uring]'


@pytest.mark.parametrize('buffer, sure', [
    ('0xffffffffff/2', True), ('0x10000000fff/1', True),
    ('0x10000000000/4096', True), ('0x10000001000/4096', False)])
def test_a_buffer_holds_the_pages_that_it_touches(
        machine: Machine, buffer: str, sure: bool) -> None:
    """And is a candidate for those that it does not: memory moves."""
    machine.opens(109, 3, RING, f'UserBufs:\t1\n    0: {buffer}\n')
    assert found(machine, 1, 0) == [(sure, 'io_uring', 109)]


def test_a_ring_of_somebody_else_is_a_candidate_if_there_is_no_other(
        machine: Machine) -> None:
    """Its buffers may be of memory that is no longer mapped."""
    machine.opens(700, 3, RING, 'UserBufs:\t1\n    0: 0x1000/4096\n')
    assert found(machine, 1, 0) == [(False, 'io_uring', 700)]
    machine.opens(109, 3, RING, 'UserBufs:\t1\n    0: 0x10000000000/1\n')
    assert found(machine, 1, 0) == [(True, 'io_uring', 109)]


@pytest.mark.parametrize('name', [
    '/root/io_uring.c', '/root/anon_inode:[io_uring]', '/tmp/dev/vfio/12',
    '/root/dmabuf:x'])
def test_a_file_is_no_ring_nor_device_because_of_its_name(
        machine: Machine, name: str) -> None:
    """What counts is the whole name."""
    machine.opens(109, 3, name)
    assert found(machine, 1, 0) == []


def test_a_socket_of_af_xdp_is_a_candidate_for_pins(
        machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is pinned for a network card; that of others is not."""
    monkeypatch.setattr(machine.proc, 'is_ours', True)
    monkeypatch.setattr(holders, 'family_of_socket',
                        lambda pid, number: {5: 44, 6: 2}[number])
    machine.opens(123, 5, 'socket:[88]')
    machine.opens(123, 6, 'socket:[89]')
    holder, = holders.find(held(1, 0), machine.proc)
    assert (holder.sure, holder.how) == (False, 'dma')
    assert 'AF_XDP: socket:[88]' in holder.text


def test_a_socket_tells_its_family() -> None:
    """Another process's too, by a copy of its descriptor."""
    ends = socket.socketpair()
    reader, writer = os.pipe()
    try:
        if libc.bytes_in_pipe(os.getpid(), reader) is None:
            pytest.skip('no pidfd_getfd() here')
        assert [libc.family_of_socket(os.getpid(), number)
                for number in (ends[0].fileno(), reader)] \
            == [socket.AF_UNIX, None]
    finally:
        for end in ends:
            end.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize('name, pins, extra, how', [
    ('/dev/vfio/12', 1, 0, ['dma']), ('/dev/vfio/12', 0, 1, []),
    ('/dev/infiniband/uverbs0', 1, 0, ['dma']),
    ('pipe:[77]', 0, 1, ['pipe']), ('pipe:[77]', 1, 0, []),
    ('socket:[88]', 0, 1, ['socket']), ('socket:[88]', 1, 0, []),
    ('/etc/passwd', 1, 1, []), ('/dev/null', 1, 1, [])])
def test_what_a_mapper_has_open_is_a_candidate_for_its_kind_of_reference(
        machine: Machine, name: str, pins: int, extra: int, how: List[str]
        ) -> None:
    """DMA pins are not a pipe's, plain references not a device's."""
    machine.opens(123, 5, name)
    assert [kind for _, kind, _ in found(machine, pins, extra)] == how


def test_a_file_open_for_direct_io_is_a_candidate(machine: Machine) -> None:
    """By the flags that the kernel shows."""
    machine.opens(109, 5, '/data', 'pos:\t0\nflags:\t0140002\n')
    machine.opens(109, 6, '/other', 'pos:\t0\nflags:\t0100002\n')
    holder, = holders.find(held(1, 0), machine.proc)
    assert '/data' in holder.text


def test_a_page_that_nobody_holds_has_no_holders(machine: Machine) -> None:
    """Whatever is open."""
    machine.opens(109, 3, RING, 'UserBufs:\t1\n    0: 0x10000000000/1\n')
    assert found(machine, 0, 0) == []


def test_a_loop_device_is_a_candidate_for_its_file(machine: Machine) -> None:
    """And for no other file."""
    machine.write('sys/block/loop0/loop/backing_file', '/tmp/data\n')
    machine.write('sys/block/loop1/loop/backing_file', '/tmp/other\n')
    made = sample('file')
    made['page']['extra_refs'] = 1
    holder, = holders.find(made, machine.proc)
    assert holder.how == 'loop' and '/dev/loop0' in holder.text


# --------------------------------------------------------------------- why --

def test_every_reason_of_the_module_has_words() -> None:
    """A reader need not know our names."""
    documented = report_reasons()
    assert documented and set(why.REASONS) == documented


def report_reasons() -> Any:
    """Those that docs/report.schema.json allows for migrate."""
    schema = json.loads((vm.TOP / 'docs/report.schema.json').read_text())
    return set(schema['$defs']['migrate']['properties']['reasons']['items'][
        'enum'])


# ------------------------------------------------------------ command line --

@pytest.mark.parametrize('arguments', [[], ['nonsense'], ['why'],
                                       ['why', '--nonsense', '1']])
def test_a_wrong_command_line_is_status_2(arguments: List[str]) -> None:
    """And a line on standard error."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    line, = done.stderr.splitlines()
    assert line.startswith('rmapviz: ') and line.endswith(' --help')


def test_help_is_of_every_command() -> None:
    """What there is, and what it takes."""
    assert 'why' in run('--help').stdout
    assert 'TARGET' in run('why', '--help').stdout


def test_a_log_without_a_page_is_said_in_a_line() -> None:
    """Status 2."""
    done = run('why', '-', text='nothing happened\n')
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_dump_that_is_not_there_is_said_in_a_line() -> None:
    """Status 2."""
    done = run('why', '0x100', '--vmcore', '/nonexistent')
    assert (done.returncode, done.stdout) == (2, '')
    assert '/nonexistent' in done.stderr
    assert len(done.stderr.splitlines()) == 1


ERRNOS = ['ENXIO', 'ESRCH', 'EFAULT', 'EAGAIN', 'ENOMEM', 'EINTR', 'EINVAL',
          'EPERM']


@pytest.mark.parametrize('name', ERRNOS)
def test_an_errno_is_a_sentence(name: str) -> None:
    """Not what the C library calls it."""
    number = getattr(errno, name)
    text = str(ask.sentence(number, 'pid 91 0x1000'))
    assert os.strerror(number) not in text and len(text.split()) > 3


def test_the_errnos_are_those_of_the_documents() -> None:
    """Another one would be the C library's word."""
    text = (vm.TOP / 'docs/report.md').read_text()
    rows = text.split('| errno | when |')[1].split('\n\n')[0].splitlines()[2:]
    assert {row.split('|')[1].strip() for row in rows} == set(ERRNOS)


# ---------------------------------------------- ranges, dumps and failures --

Said = Union[report.Report, Failure]


class Fake:
    """Whoever is asked: a report of every page, but for what a test says."""

    def __init__(self, said: Optional[Dict[int, Said]] = None,
                 live: bool = True) -> None:
        self.said, self.live = said or {}, live
        self.at_once = 1 if live else 256
        self.asked: List[List[str]] = []

    def ask(self, query: str) -> report.Report:
        """One."""
        answer, = self.ask_all([query])
        if isinstance(answer, Failure):
            raise answer
        return answer

    def ask_all(self, queries: Iterable[str]) -> List[Said]:
        """Many; which have been asked at a time is kept."""
        self.asked.append(list(queries))
        return [self._answer(query) for query in self.asked[-1]]

    def _answer(self, query: str) -> Said:
        if query.startswith('pid'):
            return self.said.get(0, page(0))
        pfn = int(query.split()[0], 16)
        return self.said.get(pfn, page(pfn))


def page(pfn: int, *reasons: str, **fields: Any) -> report.Report:
    """A page that moves, unless there are reasons why it does not."""
    made = sample('anon')
    made['page'].update(pfn=pfn, head=pfn, **fields)
    made['migrate'] = {'verdict': 'not now' if reasons else 'yes',
                       'reasons': list(reasons)}
    return made


def failure(name: str, pfn: int) -> Failure:
    """What the module says of a page, by errno."""
    return ask.sentence(getattr(errno, name), f'{pfn:#x}')


class Done(NamedTuple):
    """What a command line came to."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process, and asking a fake; there are no other
    processes, and no kpageflags."""
    (tmp_path / 'proc').mkdir()

    def answered_(source: Any, *arguments: str) -> Done:
        monkeypatch.setattr(command, 'Module', lambda: source)
        monkeypatch.setattr(command, 'Dump', lambda vmcore, vmlinux: source)
        status = command.run([*arguments, '--root', str(tmp_path)])
        return Done(status, *capsys.readouterr())
    return answered_


def write_kpageflags(root: Path, flags: Iterable[int]) -> None:
    """What it says of the frames from 0 on."""
    (root / 'proc/kpageflags').write_bytes(
        b''.join(word.to_bytes(8, 'little') for word in flags))


@pytest.mark.parametrize('name', ['why', 'who'])
def test_a_range_says_once_that_the_module_is_not_loaded(
        answered: Command, tmp_path: Path, name: str) -> None:
    """It is not said to be empty, nor each page to be missing."""
    nobody = ask.Module(str(tmp_path), str(tmp_path / 'a/b/query'))
    done = answered(nobody, name, '0x100-0x1ff')
    assert (done.status, done.out) == (2, '')
    assert len(done.err.splitlines()) == 1


def test_a_range_that_is_free_is_not_answered_without_the_module(
        answered: Command, tmp_path: Path) -> None:
    """Or what it takes would depend on what is in the range just now."""
    write_kpageflags(tmp_path, [1 << 10] * 8)
    nobody = ask.Module(str(tmp_path), str(tmp_path / 'a/b/query'))
    done = answered(nobody, 'why', '0x0-0x7')
    assert (done.status, done.out) == (2, '')
    assert answered(Fake(), 'why', '0x0-0x7').status == 0


def test_a_log_says_once_that_the_module_is_not_loaded(
        answered: Command, tmp_path: Path) -> None:
    """Not of each of its pages."""
    nobody = ask.Module(str(tmp_path), str(tmp_path / 'a/b/query'))
    done = answered(nobody, 'why', '0x100', '0x200')
    assert (done.status, len(done.err.splitlines())) == (2, 1)


def test_a_page_that_is_busy_is_not_said_to_be_absent(answered: Command
                                                      ) -> None:
    """Nor is the range said to be known; it is asked about twice."""
    fake = Fake({0x101: failure('EAGAIN', 0x101)})
    done = answered(fake, 'why', '0x100-0x103')
    assert done.status == 2
    assert '3 would move, 0 not there, 1 not answered' in done.out
    assert 'could be emptied' not in done.out
    assert len(done.err.splitlines()) == 1
    assert fake.asked.count(['0x101 brief']) == 2


def test_a_page_that_there_is_not_keeps_no_range(answered: Command) -> None:
    """What is left can be emptied."""
    done = answered(Fake({0x101: failure('ENXIO', 0x101)}), 'why',
                    '0x100-0x103')
    assert (done.status, done.err) == (0, '')
    assert '3 would move, 1 not there' in done.out


def test_a_range_without_memory_is_said_in_a_line(answered: Command) -> None:
    """With the status of a page that there is not."""
    fake = Fake({pfn: failure('ENXIO', pfn) for pfn in (0x100, 0x101)})
    done = answered(fake, 'why', '0x100-0x101')
    assert (done.status, done.out) == (2, '')
    assert 'no such memory' in done.err
    assert len(done.err.splitlines()) == 1


def test_no_answer_outweighs_a_page_that_stays(answered: Command) -> None:
    """In whatever order: there is no status 3."""
    fake = Fake({0x100: failure('EAGAIN', 0x100),
                 0x101: page(0x101, 'writeback')})
    for words_ in ['0x100', '0x101'], ['0x101', '0x100']:
        assert answered(fake, 'why', *words_).status == 2
    assert answered(fake, 'why', '0x101', '0x102').status == 1


def test_every_frame_is_asked_about_without_kpageflags(tmp_path: Path
                                                       ) -> None:
    """Also behind those of which it would be read at a time."""
    frames = target.Frames(0, why.CHUNK + 5, '')
    assert len(why.candidates(frames, proc.Proc(str(tmp_path)),
                              why.Fates(frames))) == frames.pages


def test_a_range_beyond_memory_is_not_gone_through(tmp_path: Path) -> None:
    """kpageflags ends where memory does."""
    (tmp_path / 'proc').mkdir()
    write_kpageflags(tmp_path, [0] * 16)
    frames = target.Frames(8, 1 << 39, '')
    fates = why.Fates(frames)
    assert list(why.candidates(frames, proc.Proc(str(tmp_path)), fates)) \
        == list(range(8, 16))
    assert fates.count(why.Fate.ABSENT) == (1 << 39) - 8


# A folio of four pages, and a free one.
COMPOUND = [0, *[proc.KPF_TAIL] * 3, proc.KPF_BUDDY]


def outcome(answered: Command, tmp_path: Path, flags: List[int],
            said: Dict[int, Said]) -> Tuple[str, Fake]:
    """Of a range of which kpageflags said that, and then the module this."""
    write_kpageflags(tmp_path, flags)
    fake = Fake(said)
    return answered(fake, 'why', f'0-{len(flags) - 1}').out, fake


def test_a_frame_that_was_free_counts_once_in_a_folio_made_since(
        answered: Command, tmp_path: Path) -> None:
    """The folio is asked about by a frame in its middle that was not free."""
    made = page(1, order=3)
    made['page']['head'] = 0
    out, _ = outcome(answered, tmp_path,
                     [proc.KPF_BUDDY, 0, *[proc.KPF_BUDDY] * 6], {1: made})
    assert '1 page free, 7 would move, 0 not there' in out


def test_tails_of_a_folio_that_was_split_since_are_asked_about(
        answered: Command, tmp_path: Path) -> None:
    """Or they would not count at all."""
    out, fake = outcome(answered, tmp_path, COMPOUND, {})
    assert '1 page free, 4 would move, 0 not there' in out
    assert fake.asked == [[f'{pfn:#x} brief'] for pfn in range(4)]


def test_tails_of_a_folio_that_does_not_answer_are_not_asked_about(
        answered: Command, tmp_path: Path) -> None:
    """Each would take as long as it."""
    out, fake = outcome(answered, tmp_path, COMPOUND,
                        {0: failure('EAGAIN', 0)})
    assert '1 page free, 0 would move, 0 not there, 1 not answered' in out
    assert fake.asked == [['0x0 brief']] * 2


def test_who_of_a_range_counts_what_is_not_there(answered: Command) -> None:
    """In one line, and the others are answered."""
    fake = Fake({pfn: failure('ENXIO', pfn) for pfn in (0x101, 0x102)})
    done = answered(fake, 'who', '0x100-0x103')
    assert (done.status, done.err) == (0, '')
    assert 'asked about 2; 2 not there' in done.out


def test_who_of_a_range_asks_about_some_of_many_pages(answered: Command
                                                      ) -> None:
    """Evenly spread, as of an area."""
    fake = Fake()
    done = answered(fake, 'who', '0x0-0xff', '--max', '4')
    assert [query for query, in fake.asked] == ['0x0', '0x40', '0x80', '0xc0']
    assert 'asked about 4; 252 not asked' in done.out


def test_who_says_that_a_page_of_a_range_was_busy(answered: Command) -> None:
    """By its status, too."""
    done = answered(Fake({0x100: failure('EAGAIN', 0x100)}), 'who',
                    '0x100-0x101')
    assert done.status == 2 and 'too busy' in done.out
    assert len(done.err.splitlines()) == 1


DUMP = ['--vmcore', '/dump']


def test_a_dump_says_whether_a_range_stays(answered: Command) -> None:
    """And who holds what, it does not: that is in the /proc of its kernel."""
    fake = Fake({0x102: page(0x102, 'extra-refs', extra_refs=1)}, live=False)
    done = answered(fake, 'why', '0x100-0x103', *DUMP)
    assert (done.status, done.err) == (1, '')
    assert 'stays: 1 folio would not move' in done.out
    assert '3 would move' in done.out
    assert 'PFN 0x102' in done.out and 'PFN 0x101' not in done.out
    assert 'a dump does not tell' in done.out


def test_a_dump_is_asked_once(answered: Command) -> None:
    """It does not change."""
    fake = Fake({0x100: page(0x100, 'locked')}, live=False)
    answered(fake, 'why', '0x100-0x101', *DUMP)
    assert len(fake.asked) == 1


def of_dump(pfn: int, error: str) -> Failure:
    """What drgn_dump.py says of a page that it cannot tell of."""
    with pytest.raises(Failure) as raised:
        report.check({'rmapviz': 1, 'query': f'pfn {pfn:#x}', 'error': error},
                     'the dump')
    return raised.value


@pytest.mark.parametrize('words', ['why', 'who'])
def test_pages_that_a_dump_cannot_tell_of_are_counted(
        answered: Command, words: str) -> None:
    """The others are told of; and nobody is told to ask the dump again."""
    fake = Fake({0x100: of_dump(0x100, 'it changed while it was read'),
                 0x101: of_dump(0x101, 'no such page')}, live=False)
    done = answered(fake, words, '0x100-0x103', *DUMP)
    assert done.status == 2 and '1 not there' in done.out
    line, = done.err.splitlines()
    assert '1 of its pages' in line and 'dump' in line
    assert 'busy' not in line and 'again' not in line


def test_what_a_process_does_not_map_in_a_dump_is_not_there(
        answered: Command) -> None:
    """As on the running kernel: there is an answer, and the exit status 1."""
    said = of_dump(0, 'the process maps no page there')
    assert "'the process maps no page there'" in (
        vm.TOP / 'tools/drgn_dump.py').read_text()
    done = answered(Fake({0: said}, live=False), 'who', '1:10000', *DUMP)
    assert (done.status, done.err) == (1, '')
    assert 'not there' in done.out


FAKE_DRGN = '''#!/bin/sh
case "$*" in
*--survey*) echo "$SURVEY"; [ -z "$FAILS" ] || echo "$FAILS" >&2
   [ -z "$FAILS" ] ;;
*) echo "$*" >>"$0.asked"; [ -z "$SILENT" ] || exit 1
   for word; do case $word in 0x*) cat "$SAMPLE" ;; esac; done ;;
esac
'''

SURVEY = (
    'PFN ORDER KIND MAPCOUNT REFCOUNT DMA_PINS EXTRA_REFS VISITED MAPPED '
    'FAMILY CHAIN_BYTES\n0x10 0 anon 3 3 0 0 3 3 a 64\n'
    '0x20 0 anon 2 2 0 0 2 2 a 64')


@pytest.fixture
def fake_drgn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A drgn that has two folios, and one report of whatever is asked."""
    drgn = tmp_path / 'drgn'
    drgn.write_text(FAKE_DRGN)
    drgn.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    monkeypatch.setenv('SURVEY', SURVEY)
    monkeypatch.setenv('SAMPLE', str(vm.TOP / 'tests/data/reports/drgn.json'))
    (tmp_path / 'dump').touch()
    return drgn


def top_of_dump(fake_drgn: Path, *words: str) -> Done:
    """Run it as a program, for it has files of its own."""
    done = run('top', '--shared', '--vmcore', str(fake_drgn.parent / 'dump'),
               *words)
    return Done(done.returncode, done.stdout, done.stderr)


def test_what_is_on_top_of_a_dump_is_asked_about_at_once(fake_drgn: Path
                                                         ) -> None:
    """drgn starts twice: for the survey, and for all that is shown."""
    done = top_of_dump(fake_drgn, '--json')
    assert (done.status, done.err) == (0, '')
    assert [(line['pfn'], bool(line['who'])) for line in
            map(json.loads, done.out.splitlines())] \
        == [(0x10, True), (0x20, True)]
    asked, = Path(f'{fake_drgn}.asked').read_text().splitlines()
    assert asked.endswith('--folio 0x10 0x20')


def test_what_is_on_top_is_shown_though_drgn_fails_then(
        fake_drgn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who has it is not."""
    monkeypatch.setenv('SILENT', '1')
    done = top_of_dump(fake_drgn, '--json')
    assert done.status == 0
    assert [json.loads(line)['who'] for line in done.out.splitlines()] \
        == [[], []]


def test_a_dump_has_no_families_to_list(fake_drgn: Path) -> None:
    """It is said in a line, and drgn is not asked."""
    done = run('top', '--families', '--vmcore', str(fake_drgn.parent / 'dump'))
    assert (done.returncode, done.stdout) == (2, '')
    assert len(done.stderr.splitlines()) == 1
    assert not Path(f'{fake_drgn}.asked').exists()


def test_half_a_survey_is_none(fake_drgn: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why, the last of drgn's."""
    monkeypatch.setenv('FAILS', 'it broke')
    done = top_of_dump(fake_drgn)
    assert (done.status, done.out) == (2, '')
    assert done.err.splitlines() == ['rmapviz: drgn failed: it broke']


def test_a_range_of_a_dump_is_asked_about_at_once(answered: Command) -> None:
    """drgn takes seconds to start; and a dump does not change."""
    fake = Fake(live=False)
    answered(fake, 'why', '0x100-0x1ff', *DUMP)
    assert len(fake.asked) == 1 and len(fake.asked[0]) == 256


def test_a_range_of_a_dump_is_not_looked_up_in_this_kernels_flags(
        answered: Command, tmp_path: Path) -> None:
    """In which another kernel's pages are free."""
    write_kpageflags(tmp_path, [proc.KPF_BUDDY] * 8)
    fake = Fake(live=False)
    done = answered(fake, 'why', '0x0-0x7', *DUMP)
    assert len(fake.asked[0]) == 8 and '0 pages free' in done.out


def test_a_page_that_a_dump_lacks_is_not_there(answered: Command) -> None:
    """By the words of tools/drgn_dump.py."""
    said = of_dump(0x101, 'no such page')
    text = (vm.TOP / 'tools/drgn_dump.py').read_text()
    assert "Failure('no such page')" in text
    done = answered(Fake({0x101: said}, live=False), 'why', '0x100-0x101',
                    *DUMP)
    assert '1 not there' in done.out


@pytest.mark.parametrize('arguments', [
    ['why', 'memory0'], ['who', '--pid', '1', '--vma', 'heap'],
    ['who', '--file', '/etc/passwd'], ['who', '1:1000-2000'],
    ['watch', '0x100'], ['top', '--prometheus'],
    ['top', '--shared', '--pid', '1'], ['audit']])
def test_a_dump_is_not_mixed_with_the_running_kernel(
        answered: Command, arguments: List[str]) -> None:
    """What only /proc and /sys have is refused in a line."""
    done = answered(Fake(live=False), *arguments, *DUMP)
    assert (done.status, done.out) == (2, '')
    assert len(done.err.splitlines()) == 1


# ------------------------------------------------------------------- watch --

class Changing(Fake):
    """Gives one answer after the other."""

    def __init__(self, *answers: Said) -> None:
        super().__init__()
        self._left = list(answers)

    def _answer(self, query: str) -> Said:
        return self._left.pop(0)


def watched(answered: Command, *answers: Said, json_: bool = False) -> Done:
    """What watch says to them."""
    return answered(Changing(*answers), 'watch', '0x100', '-i', '0',
                    '--times', str(len(answers)),
                    *(['--json'] if json_ else []))


@pytest.mark.parametrize('name', ['EAGAIN', 'ENXIO', 'EFAULT'])
def test_watch_goes_on_when_a_page_does_not_answer(answered: Command,
                                                   name: str) -> None:
    """A lock was taken, or it is swapped out for a while."""
    done = watched(answered, page(1), failure(name, 1),
                   page(1, 'writeback'))
    assert (done.status, done.err) == (0, '')
    assert str(failure(name, 1)) in done.out
    assert 'will it move? not now; yes before' in done.out


def test_watch_ends_when_the_process_has_gone(answered: Command) -> None:
    """With status 1; its pid may be given to another."""
    done = watched(answered, page(1), failure('ESRCH', 1), page(1))
    assert done.status == 1 and 'no process' in done.out


@pytest.mark.parametrize('name', ['ENXIO', 'EFAULT', 'ESRCH'])
def test_watch_does_not_begin_where_nothing_is(answered: Command, name: str
                                               ) -> None:
    """A wrong address is said in a line."""
    done = watched(answered, failure(name, 1), page(1))
    assert (done.status, done.out) == (2, '')
    assert len(done.err.splitlines()) == 1


def test_watch_without_any_answer_is_status_2(answered: Command) -> None:
    """Though it went on."""
    done = watched(answered, failure('EAGAIN', 1), failure('EAGAIN', 1))
    assert done.status == 2 and len(done.out.splitlines()) == 2


def test_watch_tells_programs_of_a_failure_in_json(answered: Command) -> None:
    """Each line is an object."""
    done = watched(answered, page(1), failure('EAGAIN', 1), page(1),
                   json_=True)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) == 3
    assert lines[1] == {'rmapviz': 1, 'query': '0x100',
                        'error': str(failure('EAGAIN', 1))}


@pytest.mark.parametrize('arguments', [
    ['watch', '1', '-i', '-1'], ['watch', '1', '-i', 'nan'],
    ['watch', '1', '-i', 'inf'], ['watch', '1', '--times', '0'],
    ['why', '1', '-n', '-1'], ['who', '1', '--max', '0'],
    ['why', '1', '-n', '1' * 5000]])
def test_a_number_that_means_nothing_is_status_2(arguments: List[str]
                                                 ) -> None:
    """Before anything is asked."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'expected' in done.stderr and 'Traceback' not in done.stderr


# ------------------------------------------------------- options and output --

ANON = str(DATA / 'reports/anon.json')


@pytest.mark.parametrize('arguments', [
    ['draw', '--dot', ANON, '--json'], ['story', ANON, '--json'],
    ['top', '--prometheus', '--json'], ['diff', ANON, ANON, '--html',
                                        '--json'],
    ['story', ANON, '--vmcore', '/dump'], ['diff', ANON, ANON, '-o', '/x'],
    ['draw', '--dot', ANON, '--verify'], ['who', '5', '--vma', 'heap'],
    ['who', '5', '--offset', '1'], ['draw', 'pid'], ['watch', 'pid', 'x'],
    ['draw', 'pid', '1', 'f000'], ['draw', 'pid', '1', '--verify'],
    ['draw', 'pid', '1', '--folio'], ['draw', ANON, '--vmcore', '/dump'],
    ['watch', ANON, '--vmlinux', '/dump'], ['diff', ANON, ANON, '--all'],
    ['top', '--prometheus', '--pid', '1'], ['top', '--prometheus', '-n', '0'],
    ['top', '--prometheus', '--cgroup', 'x'],
    ['who', '--file', ANON, '--length', '0']])
def test_an_option_that_would_do_nothing_is_refused(arguments: List[str]
                                                    ) -> None:
    """Rather than that somebody waits for it to have an effect."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    last = done.stderr.splitlines()[-1]
    assert last.startswith('rmapviz') and 'Traceback' not in done.stderr
    assert 'module' not in last     # it was not asked


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.parametrize('arguments', [
    ['draw', '--dot', ANON], ['diff', ANON, str(DATA / 'reports/file.json')],
    ['--help'], ['story', ANON]])
def test_a_disk_that_is_full_is_said_in_a_line(
        arguments: List[str], unbuffered: str) -> None:
    """Status 2, and nothing of Python's."""
    with open('/dev/full', 'w', encoding='ascii') as full:
        done = subprocess.run(
            ['/usr/bin/python3', str(COMMAND), *arguments], stdout=full,
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': unbuffered})
    assert (done.returncode, done.stderr) == (
        2, 'rmapviz: standard output: No space left on device\n')


@pytest.mark.parametrize('closed', ['>&-', '>&- 2>&-', '<&- >&-'])
def test_a_closed_output_is_said_in_a_line(closed: str) -> None:
    """If there is somewhere to say it."""
    done = subprocess.run(
        ['sh', '-c', f'/usr/bin/python3 "$0" draw --dot "$1" {closed}',
         str(COMMAND), ANON], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == ('' if '2>&-' in closed else
                           'rmapviz: standard output is closed\n')


def test_a_closed_input_is_a_log_without_a_page() -> None:
    """Status 2."""
    done = subprocess.run(
        ['sh', '-c', '/usr/bin/python3 "$0" why - <&-', str(COMMAND)],
        stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    """By the signal, as it does other commands."""
    done = subprocess.run(
        ['bash', '-c', '/usr/bin/python3 "$0" draw --dot "$1" | exec true; '
         'echo ${PIPESTATUS[0]}', str(COMMAND),
         str(DATA / 'pictures/crowd.json')],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert (done.stdout, done.stderr) == ('141\n', '')


def test_a_graphviz_that_dies_early_is_said_in_a_line(tmp_path: Path) -> None:
    """Though the pipe to it breaks."""
    dot = tmp_path / 'dot'
    dot.write_text('#!/bin/sh\nexec <&-\nsleep 1\nexit 3\n')
    dot.chmod(0o755)
    done = run('draw', '--svg', str(DATA / 'pictures/crowd.json'), '--all',
               env={'PATH': f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.returncode, done.stdout) == (2, '')
    assert 'Graphviz failed' in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Terminal(io.StringIO):
    """What standard error is, as a rule."""

    def isatty(self) -> bool:
        """It says so."""
        return True


@pytest.mark.parametrize('name', ['why', 'who'])
def test_progress_is_gone_before_the_answer(
        answered: Command, monkeypatch: pytest.MonkeyPatch, name: str
        ) -> None:
    """Each line of it, also of what is asked again."""
    screen = Terminal()
    monkeypatch.setattr(sys, 'stderr', screen)
    monkeypatch.setattr(command, '_prepare_streams', lambda: True)
    answered(Fake({5: page(5, 'writeback')}), name, '0x0-0x7')
    written = screen.getvalue()
    assert 'asking' in written and written.endswith('\r\033[K')
    assert ('asking again' in written) == (name == 'why')


# ------------------------------------------------- hostile names, all along --

EVIL = '\x1b[31m\n\x9b5m\u202e'


def hostile() -> report.Report:
    """A held page whose every name is meant for the reader's terminal."""
    made = page(0x100, 'extra-refs', file=EVIL, kind=f'kind{EVIL}',
                extra_refs=1)
    made['migrate']['verdict'] = f'no{EVIL}'
    made['migrate']['reasons'].append(f'because{EVIL}')
    made['reclaim'] = {'outcome': f'out{EVIL}', 'reasons': [EVIL]}
    for i, mm in enumerate(made['mms']):
        mm.update(pid=109 + i, tasks=[109 + i], comm=f'{EVIL}{i}')
    for vma in made['vmas']:
        vma['name'] = EVIL
    return made


@pytest.mark.parametrize('arguments', [
    ['why', '0x100'], ['why', '0x100-0x101'], ['who', '0x100'],
    ['who', '0x100', '--all'], ['who', '0x100-0x101'],
    ['watch', '0x100', '--times', '2', '-i', '0'], ['why', '0x100', *DUMP],
    ['why', '0x100-0x101', *DUMP], ['why', '0x100', '--json']])
def test_no_hostile_name_reaches_the_terminal(
        answered: Command, tmp_path: Path, arguments: List[str]) -> None:
    """Of a process, a file, a VMA, a cgroup, an open file, nor a word that
    this command does not know."""
    machine = Machine.__new__(Machine)
    machine.root, machine.proc = tmp_path, proc.Proc(str(tmp_path))
    machine.opens(109, 5, f'/{EVIL}', 'flags:\t0140002\n')
    machine.opens(700, 6, 'pipe:[7]')
    machine.write('proc/109/cgroup', f'0::/{EVIL}.service\n')
    machine.write('proc/109/comm', EVIL)
    reports = hostile()
    again = copy.deepcopy(reports)
    again['mms'][0]['pid'] += 7
    fake = Fake({0x100: reports}, live=DUMP[0] not in arguments)
    if arguments[0] == 'watch':
        fake = Changing(reports, again)
    done = answered(fake, *arguments)
    assert done.out
    for line in (done.out + done.err).split('\n'):
        assert all(c.isprintable() for c in line), ascii(line)


def test_what_a_failure_quotes_is_inert(answered: Command) -> None:
    """In the one line that there is, and among those of a range."""
    fake = Fake({1: Failure(f'evil {EVIL}', errno.EAGAIN)})
    for words_ in ['0x1', '0x2'], ['0x1-0x2']:
        done = answered(fake, 'who', *words_)
        assert all(c.isprintable() for c in
                   (done.out + done.err).replace('\n', ''))
        assert 'evil' in done.out + done.err


# --------------------------------------------------------------------- who --

def word(**bits: int) -> int:
    """A word of pagemap."""
    return bits.get('present', 0) << 63 | bits.get('swap', 0) << 62 \
        | bits.get('rest', 0)


def with_memory(machine: Machine, *entries: int) -> None:
    """Process 7 has a heap, from address 0 on, of which pagemap says that."""
    machine.write('proc/7/maps', f'0-{len(entries) * 4096:x} rw-p 00000000 '
                  '00:00 0                          [heap]\n')
    path = machine.root / 'proc/7/pagemap'
    path.write_bytes(b''.join(entry.to_bytes(8, 'little')
                              for entry in entries))
    machine.write('proc/swaps', 'Filename Type Size Used Priority\n'
                  '/dev/vdb partition 1 1 -2\n/a\\040b file 1 1 -3\n')


@pytest.mark.parametrize('bits, words_', [
    ({'swap': 1, 'rest': 5 << 5 | 1}, 'to page 5 of swap area 1: /dev/vdb or '
     '/a b'),
    ({'swap': 1, 'rest': 5 << 5 | 30}, 'being migrated'),
    ({}, 'never touched'), ({'present': 1, 'rest': 9}, 'ask again')])
def test_pagemap_says_why_no_page_is_there(
        machine: Machine, bits: Dict[str, int], words_: str) -> None:
    """Swapped out and where to, on its way, or never touched."""
    with_memory(machine, word(**bits))
    assert words_ in place.absent(machine.proc, 7, 0x10)


def test_an_area_that_there_is_not_names_those_there_are(machine: Machine
                                                         ) -> None:
    """Which one can then type."""
    with_memory(machine, 0)
    with pytest.raises(Failure, match=r'it has \[heap\]'):
        place.areas(machine.proc, 7, 'stack')


@pytest.mark.parametrize('text', ['7', '7:', ':5', '7:g', '7:0x', 'a:5'])
def test_an_address_is_pid_and_hex(text: str) -> None:
    """Nothing else."""
    with pytest.raises(Failure):
        place.address_of(text)


def test_a_file_that_is_cached_has_frames(tmp_path: Path) -> None:
    """As far as this process may know them."""
    path = tmp_path / 'data'
    path.write_bytes(b'x' * 9000)
    assert len(place.frames_of_file(str(path), 0, 1 << 20)) == 3


@pytest.mark.parametrize('name, offset', [
    ('nothing', 0), ('data', 9000), ('.', 0), ('empty', 0)])
def test_a_file_without_such_a_page_is_said_in_a_line(
        tmp_path: Path, name: str, offset: int) -> None:
    """It is not there, too short, a directory, or empty."""
    (tmp_path / 'data').write_bytes(b'x' * 9000)
    (tmp_path / 'empty').touch()
    with pytest.raises(Failure) as raised:
        place.frames_of_file(str(tmp_path / name), offset, 4096)
    assert len(str(raised.value).splitlines()) == 1


# ------------------------------------------------- man page and completion --

def options() -> Dict[str, Set[str]]:
    """The options of every command, by the parser."""
    actions: Any = command.parser()._actions
    commands = next(action for action in actions
                    if isinstance(action, argparse._SubParsersAction))
    return {name: {option for action in sub._actions
                   for option in action.option_strings
                   if action.help != argparse.SUPPRESS}
            for name, sub in commands.choices.items()}


def test_the_man_page_has_every_command_and_option() -> None:
    """And the document every command."""
    page = (vm.TOP / 'tools/man/rmapviz.1').read_text().replace('\\-', '-')
    document = (vm.TOP / 'docs/command.md').read_text()
    for name, known in options().items():
        assert f'rmapviz {name}' in page
        assert f'`{name}`' in document
        for option in known - {'-h', '--help'}:
            assert re.search(rf'(?<![-\w]){option}(?![-\w])', page), option


@pytest.mark.parametrize('name', ['rmapviz.1', 'rmapviz.4'])
def test_a_man_page_is_well_formed(name: str) -> None:
    """groff has nothing to say."""
    if not shutil.which('groff'):
        pytest.skip('groff is not installed')
    done = subprocess.run(
        ['groff', '-man', '-Tutf8', '-ww', '-z', str(vm.TOP / 'tools/man'
                                                     / name)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, '')


def completed(*line: str) -> Set[str]:
    """What bash offers for the last word of a line."""
    script = vm.TOP / 'tools/completion/rmapviz'
    done = subprocess.run(
        ['bash', '-c', f'. {script}; COMP_WORDS=("$@"); '
         'COMP_CWORD=$(($# - 1)); _rmapviz; printf "%s\\n" "${COMPREPLY[@]}"',
         'bash', *line], check=True, text=True, stdout=subprocess.PIPE,
        cwd=vm.TOP)
    return set(done.stdout.split())


def test_bash_completes_every_command_and_option() -> None:
    """As the parser has them."""
    known = options()
    assert completed('rmapviz', '') == {*known, '--help', '--version'}
    for name, wanted in known.items():
        assert completed('rmapviz', name, '-') == wanted - {'-h'}


@pytest.mark.parametrize('name', ['draw', 'diff', 'story'])
def test_bash_completes_files_where_reports_are_taken(name: str) -> None:
    """From nothing on, though not where an option was begun."""
    assert 'README.md' in completed('rmapviz', name, '')
    assert 'README.md' not in completed('rmapviz', name, '-')
