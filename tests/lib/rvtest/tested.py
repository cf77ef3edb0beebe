"""docs/tested.md: what was run, when, with which kernel; written by tests."""

import datetime
import os
import re
import subprocess
from collections import Counter
from typing import Any, Dict, List, Tuple

from . import vm

_FILE = vm.TOP / 'docs' / 'tested.md'

_HEAD = '''# What was tested, and when

Tests write this page when `TESTED=1` is set, as `make tested` does, which runs
all; nobody writes it by hand. A row is of the last run of this file with this
kernel: an older commit says that there was none since. `with` is what made a
run longer, or another one, than `make test` has it.

Kernels are Debian's cloud flavour; `-generic` and `-rt` are its other two,
`-debug` and `-kcsan` look for mistakes and for data races, and `make
test-flavours`, `test-debug` and `test-races` run them
([CONTRIBUTING.md](../CONTRIBUTING.md#the-machines)). All are guests of QEMU,
without hardware acceleration if the last column has no `RMAPVIZ_ACCEL=kvm`. A
row without a kernel is of tests that need none. What was done to break the
module is told in [safety.md](safety.md).

| kernel | file | passed | failed | skipped | when | at commit | with |
|---|---|---|---|---|---|---|---|
'''

_ROW = re.compile(r'^\| (.*?) \| (\w+) \| (\d+) \| (\d+) \| (\d+) \| '
                  r'(\S+) \| ([\w-]+) \| (.*?) ?\|$', re.MULTILINE)

Row = Tuple[str, ...]


def _old_rows() -> List[Row]:
    return _ROW.findall(_FILE.read_text()) if _FILE.exists() else []


def _kernel(report: Any) -> str:
    """The kernel that a test was run with, by its release."""
    for name, series in report.user_properties:
        if name == 'series':
            return f'{series}: {vm.release(series)}'
    return ''


def _git(*words: str) -> str:
    return subprocess.run(['git', *words], cwd=vm.TOP, check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def _commit() -> str:
    """What was tested; what runs have written here before is no change."""
    changed = _git('status', '--porcelain', '--untracked-files=no', '--', '.',
                   f':!{_FILE.relative_to(vm.TOP)}')
    return _git('rev-parse', '--short=12', 'HEAD') + '-dirty' * bool(changed)


def _with(file: str) -> str:
    """Settings that a test reads, and RMAPVIZ_ACCEL, which all of them do."""
    source = (vm.TOP / 'tests' / f'{file}.py').read_text()
    names = {'RMAPVIZ_ACCEL',
             *re.findall(r"os\.environ\.get\('(\w+)'", source)}
    return ' '.join(f'{name}={os.environ[name]}' for name in sorted(names)
                    if os.environ.get(name))


def _is_kept(row: Row) -> bool:
    """Nobody can check out again what was tested dirty."""
    return ((vm.TOP / 'tests' / f'{row[1]}.py').exists()
            and not row[6].endswith('-dirty'))


def write(reports: List[Any]) -> None:
    """Replace the rows of what was run by what came out."""
    counts: Dict[Tuple[str, str], Counter[str]] = {}
    for report in reports:
        file = report.nodeid.split('::')[0].rsplit('/', 1)[-1][:-len('.py')]
        counts.setdefault((_kernel(report), file),
                          Counter())[report.outcome] += 1
    today, commit = datetime.date.today().isoformat(), _commit()
    new: List[Row] = [
        (kernel, file, str(count['passed']), str(count['failed']),
         str(count['skipped']), today, commit, _with(file))
        for (kernel, file), count in counts.items()]
    run = set(map(_what, new))
    kept = [row for row in _old_rows()
            if _what(row) not in run and _is_kept(row)]
    _FILE.parent.mkdir(exist_ok=True)
    _FILE.write_text(_HEAD + ''.join(
        f"| {' | '.join(row)} |\n" for row in sorted(kept + new, key=_order)))


def _what(row: Row) -> Row:
    """Of which there is one row: series, file, and with what."""
    return row[0].split(':')[0], row[1], row[7]


def _order(row: Row) -> Tuple[List[int], Row]:
    """Kernels by version, then files by name."""
    return [int(number) for number in re.findall(r'\d+', row[0])[:2]], row
