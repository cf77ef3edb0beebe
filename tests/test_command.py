"""tools/rmapviz without a kernel: what it reads, and what it makes of it."""

import argparse
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import pytest

from rmapviz_lib import (ask, command, holders, people, place, proc, report,
                         target, why, words)
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
    ('BUG: Bad page state in process cat  pfn:1d2f3', 0x1d2f3, 1),
    ('PFN 119539 type Movable Block 233 type Movable Flags 0x1(a)', 119539, 1),
    ('PFN 0x1d2f3 type Movable Block 233 type Movable Flags a', 0x1d2f3, 1),
    ('Memory failure: 0x1d2f3: recovery action for dirty page', 0x1d2f3, 1),
    ('EDAC MC0: 1 CE read (channel:0 slot:1 page:0x1d2f3 offset:0x40 '
     'grain:8)', 0x1d2f3, 1),
])
def test_a_line_of_the_log_gives_its_frames(line: str, first: int, pages: int
                                            ) -> None:
    """Hex where the kernel means it; page_owner was decimal up to 6.1."""
    found = target.of_line(line)
    assert found and (found.first, found.pages) == (first, pages)


@pytest.mark.parametrize('line', [
    'cma: cma_alloc: reserved: alloc failed, req-size: 512 pages, ret: -16',
    'page dumped because: migration failure', 'Offlined Pages 32768', ''])
def test_a_line_without_a_frame_gives_none(line: str) -> None:
    """Some are near those that have."""
    assert target.of_line(line) is None


@pytest.mark.parametrize('log', sorted(
    path.name for path in (DATA / 'dmesg').iterdir()))
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


def test_a_range_has_its_last_page() -> None:
    """As one would say it."""
    found, = target.of_words(['0x10-0x1f'], proc.Proc())
    assert (found.first, found.pages) == (0x10, 16)


@pytest.mark.parametrize('words_', [
    ['nonsense'], ['0x'], ['5-3'], ['0xffffffffffffffffff'], ['-5']])
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
UserFiles:\t0
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


@pytest.mark.parametrize('name, pins, extra, how', [
    ('/dev/vfio/12', 1, 0, ['dma']), ('/dev/vfio/12', 0, 1, []),
    ('/dev/infiniband/uverbs0', 1, 0, ['dma']),
    ('pipe:[77]', 0, 1, ['pipe']), ('pipe:[77]', 1, 0, []),
    ('socket:[88]', 0, 1, ['socket']), ('socket:[99]', 0, 1, []),
    ('/etc/passwd', 1, 1, []), ('/dev/null', 1, 1, [])])
def test_what_a_mapper_has_open_is_a_candidate_for_its_kind_of_reference(
        machine: Machine, name: str, pins: int, extra: int, how: List[str]
        ) -> None:
    """DMA pins are not a pipe's, plain references not a device's."""
    machine.write('proc/net/tcp', 'head\n   0: 0100007F:0050 00000000:0000 01 '
                  '00000300:00000000 00:00000000 00000000 0 0 88 1 0 100\n')
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
    """And an explanation on standard error."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'usage' in done.stderr


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
    import errno
    number = getattr(errno, name)
    text = str(ask.sentence(number, 'pid 91 0x1000'))
    assert os.strerror(number) not in text and len(text.split()) > 3


def test_the_errnos_are_those_of_the_documents() -> None:
    """Another one would be the C library's word."""
    text = (vm.TOP / 'docs/report.md').read_text()
    rows = text.split('| errno | when |')[1].split('\n\n')[0].splitlines()[2:]
    assert {row.split('|')[1].strip() for row in rows} == set(ERRNOS)


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
    ({'swap': 1, 'rest': 5 << 5 | 1}, 'to page 5 of /a b'),
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
         'bash', *line], check=True, text=True, stdout=subprocess.PIPE)
    return set(done.stdout.split())


def test_bash_completes_every_command_and_option() -> None:
    """As the parser has them."""
    known = options()
    assert completed('rmapviz', '') == {*known, '--help'}
    for name, wanted in known.items():
        assert completed('rmapviz', name, '-') == wanted - {'-h'}
