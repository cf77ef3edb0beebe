#!/usr/bin/python3
"""Indirect branch tracking: the module calls what it borrows, and lives.

QEMU does not enforce it in the kernel, Bochs does.  One machine for each
kernel lets the module answer about two pages; then it loads the same module
with plain pointers in the place of static calls, and has to die of the first.

To boot there takes a kernel 20 seconds of CPU time, so if KERNEL does not say
which, only the oldest and the newest that can do it are tried.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Tap, build, kernels, root  # noqa: E402
from rvtest.vm import (  # noqa: E402
    TOP, VM, Unavailable, is_debug, named, release)
from rvtest.bochs import Bochs, bochs_root  # noqa: E402
from rvtest.guest import complaints  # noqa: E402
from rvtest.report import Mapping, faults, mappings  # noqa: E402

# Between what must not and what must be in the log of the kernel.
MARK = 'rmapviz-test: the other module'

# How rmapviz_ksym.c calls, and how the other module does.
PLAIN = ((r'DEFINE_STATIC_CALL_NULL\((\w+), (\w+)\);',
          r'static typeof(\2) *\1;'),
         (r'static_call_update\((\w+),\s*([^;]*)\);', r'\1 = \2;'),
         (r'static_call\((\w+)\)', r'\1'))


def has_ibt(series: str) -> bool:
    """Whether that kernel can track indirect branches."""
    headers = root(series) / f'usr/src/linux-headers-{release(series)}'
    config = (headers / '.config').read_text(encoding='ascii')
    return 'CONFIG_X86_KERNEL_IBT=y' in config.splitlines()


def why_not(series: str) -> str:
    """Why that kernel cannot be tried, or nothing."""
    if is_debug(series):
        return 'a debug kernel takes too long'
    return '' if has_ibt(series) else 'the kernel has no CONFIG_X86_KERNEL_IBT'


def choose(tap: Tap) -> List[str]:
    """The kernels to try; one that KERNEL names is tried, or skipped aloud."""
    asked = kernels()
    able = [series for series in asked if not why_not(series)]
    if named() or not able:
        for series in asked:
            if series not in able:
                tap.skip(f'{series}: indirect branch tracking',
                         why_not(series))
        return able
    for series in able[1:-1]:
        tap.note(f'not tried: {series}; KERNEL={series} does')
    return [able[0], *able[1:][-1:]]


def other_module(series: str, scratch: Path) -> Path:
    """The module with plain pointers in the place of static calls.

    It is made from the objects of the real one; only what differs is compiled.
    """
    module = scratch / 'module'
    shutil.copytree(build(series), module, ignore=shutil.ignore_patterns(
        'guest', 'kmod', 'check*', '*.cpio', '*.ko', 'lock'))
    source = (TOP / 'rmapviz_ksym.c').read_text(encoding='ascii')
    for static, plain in PLAIN:
        source, count = re.subn(static, plain, source)
        if count < 2:
            raise RuntimeError(f'no {static} in rmapviz_ksym.c')
    (module / 'rmapviz_ksym.c').write_text(source, encoding='ascii')
    done = subprocess.run(
        [VM / 'in-root', root(series), '--bind', module, '/src',
         'make', '-C', f'/lib/modules/{release(series)}/build', 'M=/src',
         'KCFLAGS=-Werror', 'modules'],
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
    made = build(series)
    shutil.copy(made / 'rmapviz.ko', tree)
    shutil.copy(other_module(series, scratch), tree / 'other.ko')
    for name in ('actor', 'ask', 'tell'):
        shutil.copy(made / 'guest' / name, tree / 'bin')
    shutil.copy(str(shutil.which('busybox')), tree / 'bin')
    shutil.copy(TOP / 'tests/guest/ibt-init', tree / 'init')
    subprocess.run([VM / 'in-root', root(series), '--bind', tree, '/src',
                    'strip', '--strip-debug', '/src/rmapviz.ko',
                    '/src/other.ko'], check=True, stdin=subprocess.DEVNULL)
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


def check_report(tap: Tap, kind: str, part: str) -> None:
    """The module's answer about a page that two processes map."""
    told, brace, answer = part.partition('{')
    try:
        report = json.loads(brace + answer)
    except ValueError:
        tap.ok(False, f'a report of a page of kind {kind}', part)
        return
    tap.is_equal(report['page']['kind'], kind,
                 f'a report of a page of kind {kind}')
    witnesses = seen(told, report['page']['pfn'])
    tap.ok(len(witnesses) == 2 and set(witnesses) == mappings(report),
           f'the two who see the page of kind {kind} are in it', part)
    tap.is_equal((faults(report), report['verify']),
                 ([], {'found': 2, 'changed': 0, 'missing': [], 'extra': []}),
                 f'no faults in the report of the page of kind {kind}, and '
                 'the scan of all memory finds the same')


def check_machine(tap: Tap, machine: Bochs) -> None:
    """What a machine left when it was over."""
    tap.note(f'{machine.series}: over after {machine.wait("survived"):.0f} s')
    console, parts = machine.console(), machine.parts()
    before, _, after = console.partition(MARK)
    for line in re.findall(r'.*(?:CET detected|Missing ENDBR|kernel BUG).*',
                           console):
        tap.note(line)
    tap.ok('CET detected: Indirect Branch Tracking enabled' in before,
           'the kernel tracks indirect branches', console[-2000:])
    for kind in ('anon', 'file'):
        check_report(tap, kind, parts.get(kind, ''))
    tap.ok('answered' in parts,
           'the module is loaded, answers, and is unloaded again',
           str(parts) + console[-2000:])
    tap.is_equal(complaints(before), [],
                 'the kernel has nothing to complain of')
    tap.ok('loaded' in parts and 'survived' not in parts
           and re.search(r'Missing ENDBR: rmap_walk\+0x0', after)
           and 'kernel BUG at' in after,
           'with a plain pointer in the place of the static call, the first '
           'question is a kernel BUG', str(parts) + after)


def main() -> None:
    """All machines at the same time."""
    with Tap() as tap, ExitStack() as stack:
        chosen = choose(tap)
        try:
            bochs_root()
        except Unavailable as error:
            for series in chosen:
                tap.skip(f'{series}: indirect branch tracking', str(error))
            return
        machines = []
        for series in chosen:
            scratch = Path(stack.enter_context(
                tempfile.TemporaryDirectory(prefix='rmapviz-ibt.')))
            machines.append(stack.enter_context(
                Bochs(series, make_initramfs(series, scratch))))
        for machine in machines:
            tap.prefix = f'{machine.series}: '
            check_machine(tap, machine)


if __name__ == '__main__':
    main()
