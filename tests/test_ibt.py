"""Indirect branch tracking: the module calls what it borrows, and lives.

QEMU does not enforce it in the kernel, Bochs does.  One machine for each
kernel lets the module answer about two pages; then it loads the same module
with plain pointers in the place of static calls, and has to die of the first.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import pytest

from rvtest import vm
from rvtest.bochs import Bochs, bochs_root
from rvtest.guest import complaints
from rvtest.report import Mapping, Report, faults, mappings, parse
from rvtest.stage import Once

SECONDS = 60

Note = Callable[[str], None]

# Between what must not and what must be in the log of the kernel.
MARK = 'rmapviz-test: the other module'

# How rmapviz_ksym.c calls, and how the other module does.
PLAIN = ((r'DEFINE_STATIC_CALL_NULL\((\w+), (\w+)\);',
          r'static typeof(\2) *\1;'),
         (r'static_call_update\((\w+),\s*([^;]*)\);', r'\1 = \2;'),
         (r'static_call\((\w+)\)', r'\1'))


KINDS = ('anon', 'file')
each_kind = pytest.mark.parametrize('kind', KINDS)


def has_ibt(series: str) -> bool:
    """Whether that kernel can track indirect branches."""
    return 'CONFIG_X86_KERNEL_IBT=y' in vm.config(series)


def why_not(series: str) -> str:
    """Why that kernel cannot be tried, or nothing."""
    if vm.is_debug(series):
        return 'a debug kernel takes too long'
    return '' if has_ibt(series) else 'the kernel has no CONFIG_X86_KERNEL_IBT'


def kernels_with_ibt() -> List[str]:
    """The newest that can do it, as to boot there takes 20 seconds of CPU
    time; one that KERNEL names is tried, or skipped aloud."""
    def is_able(series: str) -> bool:
        try:
            return not why_not(series)
        except (OSError, subprocess.SubprocessError):
            return True     # its tests will say what is wrong with its root

    able = [series for series in vm.kernels() if is_able(series)]
    if vm.named() or not able:
        return vm.kernels()
    return able[-1:]


KERNELS = kernels_with_ibt


def other_module(series: str, scratch: Path) -> Path:
    """The module with plain pointers in the place of static calls.

    It is made from the objects of the real one; only what differs is compiled.
    """
    module = scratch / 'module'
    shutil.copytree(vm.build(series), module, ignore=shutil.ignore_patterns(
        'guest', 'kmod', '*.cpio', '*.ko', 'lock'))
    source = (vm.TOP / 'rmapviz_ksym.c').read_text(encoding='ascii')
    for static, plain in PLAIN:
        source, count = re.subn(static, plain, source)
        if count < 2:
            raise RuntimeError(f'no {static} in rmapviz_ksym.c')
    (module / 'rmapviz_ksym.c').write_text(source, encoding='ascii')
    done = subprocess.run(
        [vm.VM / 'in-root', vm.root(series), '--bind', module, '/src',
         'make', '-C', f'/lib/modules/{vm.release(series)}/build', 'M=/src',
         'W=1', 'KCFLAGS=-Werror', 'modules'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f'the other module: {done.stdout}')
    return module / 'rmapviz.ko'


def make_initramfs(series: str, scratch: Path) -> Path:
    """What the machine runs: little, for all of it is slow there."""
    tree = scratch / 'tree'
    for name in ('bin', 'dev', 'proc', 'sys', 'tmp'):
        (tree / name).mkdir(parents=True)
    made = vm.build(series)
    shutil.copy(made / 'rmapviz.ko', tree)
    shutil.copy(other_module(series, scratch), tree / 'other.ko')
    for name in ('actor', 'ask', 'tell'):
        shutil.copy(made / 'guest' / name, tree / 'bin')
    shutil.copy(str(shutil.which('busybox')), tree / 'bin')
    shutil.copy(vm.TOP / 'tests/guest/ibt-init', tree / 'init')
    subprocess.run(
        [vm.VM / 'in-root', vm.root(series), '--bind', tree, '/src',
         'strip', '--strip-debug', '/src/rmapviz.ko', '/src/other.ko'],
        check=True, stdin=subprocess.DEVNULL)
    names = '\n'.join(str(path.relative_to(tree))
                      for path in sorted(tree.rglob('*')))
    initramfs = scratch / 'initramfs.cpio'
    with open(initramfs, 'wb') as archive:
        subprocess.run(['cpio', '--quiet', '-o', '-H', 'newc', '-R', '0:0'],
                       cwd=tree, check=True, input=names.encode(),
                       stdout=archive)
    return initramfs


def seen(told: str, pfn: int) -> List[Mapping]:
    """Who sees the frame at which address, by what each says of itself."""
    return [(int(pid), int(address, 16)) for pid, address, frame in re.findall(
        r'^\w ok (\d+)\n\w ok 0x(\w+):pfn=0x(\w+),present=1', told, re.M)
            if int(frame, 16) == pfn]


class Record(NamedTuple):
    """What a machine left when it was over."""

    seconds: float
    console: str
    parts: Dict[str, str]

    @property
    def before(self) -> str:
        """The kernel's log until the other module was tried."""
        return self.console.partition(MARK)[0]

    @property
    def after(self) -> str:
        """And from then on."""
        return self.console.partition(MARK)[2]


class Answer(NamedTuple):
    """The module's answer about a page that two processes map."""

    report: Report
    witnesses: List[Mapping]    # what they say


def run_machine(series: str) -> Record:
    """Until the last part, or its panic."""
    with tempfile.TemporaryDirectory(prefix='rmapviz-ibt.') as name:
        initramfs = make_initramfs(series, Path(name))
        with Bochs(series, initramfs) as machine:
            seconds = machine.wait('survived')
            return Record(seconds, machine.console(), machine.parts())


def parsed(record: Record, kind: str) -> Answer:
    """The part of the results about a page of that kind."""
    part = record.parts.get(kind, '')
    told, brace, answer = part.partition('{')
    assert brace, f'no report: {part}'
    report = parse(brace + answer)
    return Answer(report, seen(told, report['page']['pfn']))


@pytest.fixture(scope='module')
def machine(series: str) -> Once[Record]:
    """It runs when the first test wants its record."""
    reason = why_not(series)
    if reason:
        pytest.skip(reason)
    try:
        bochs_root()
    except vm.Unavailable as error:
        pytest.skip(str(error))
    return Once('the machine', lambda: run_machine(series))


@pytest.fixture(scope='module')
def answers(machine: Once[Record]) -> Dict[str, Once[Answer]]:
    """Of the module, by the kind of the page."""
    def once(kind: str) -> Once[Answer]:
        return Once(f'the report of a page of kind {kind}',
                    lambda: parsed(machine(), kind))

    return {kind: once(kind) for kind in KINDS}


@pytest.fixture
def record(machine: Once[Record]) -> Record:
    """What the machine left."""
    return machine()


@pytest.fixture
def answer(answers: Dict[str, Once[Answer]], kind: str) -> Answer:
    """What the module said about a page of that kind."""
    return answers[kind]()


def test_the_kernel_tracks_indirect_branches(record: Record, note: Note
                                             ) -> None:
    """Or all that follows would show nothing."""
    note(f'over after {record.seconds:.0f} s')
    assert 'CET detected: Indirect Branch Tracking enabled' in record.before


@each_kind
def test_a_page_is_reported_under_tracking(answer: Answer, kind: str) -> None:
    """As what it is."""
    assert answer.report['page']['kind'] == kind


@each_kind
def test_those_who_see_the_page_are_in_the_report(answer: Answer) -> None:
    """Two, at the addresses where they see it."""
    assert len(answer.witnesses) == 2
    assert set(answer.witnesses) == mappings(answer.report)


@each_kind
def test_the_report_under_tracking_agrees_with_itself(answer: Answer) -> None:
    """Ids, counts, AVCs, order."""
    assert faults(answer.report) == []


@each_kind
def test_the_scan_of_all_memory_finds_the_same(answer: Answer) -> None:
    """Which calls other functions of the kernel."""
    assert answer.report['verify'] \
        == {'found': 2, 'changed': 0, 'missing': [], 'extra': []}


def test_the_module_is_unloaded_after_its_answers(record: Record) -> None:
    """That is, it lived until then."""
    assert 'answered' in record.parts, record.console[-2000:]


def test_the_kernel_has_nothing_to_complain_of_under_tracking(
        record: Record) -> None:
    """As long as the calls are static ones."""
    assert MARK in record.console
    assert complaints(record.before) == []


def test_a_plain_pointer_instead_of_a_static_call_is_a_kernel_bug(
        record: Record, note: Note) -> None:
    """At the first question, though the module could be loaded."""
    for line in re.findall('.*(?:Missing ENDBR|kernel BUG).*', record.after):
        note(line)
    assert 'loaded' in record.parts and 'survived' not in record.parts
    assert re.search(r'Missing ENDBR: rmap_walk\+0x0', record.after)
    assert 'kernel BUG at' in record.after
