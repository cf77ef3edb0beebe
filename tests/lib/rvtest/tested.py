"""docs/tested.md: what was run, when, with which kernel; written by tests."""

import datetime
import re
import subprocess
from collections import Counter
from typing import Any, Dict, List, Tuple

from . import vm

_FILE = vm.TOP / 'docs' / 'tested.md'

_HEAD = '''# What was tested, and when

`make tested` runs all tests and writes this page; nobody writes it by hand.
A kernel's rows are those of the last run that had it. Kernels are Debian's
cloud flavour in QEMU without hardware acceleration, `-debug` is one that
looks for mistakes (see [CONTRIBUTING.md](../CONTRIBUTING.md)). A row
without a kernel is of tests that need none.

| kernel | file | passed | failed | skipped | when | at commit |
|---|---|---|---|---|---|---|
'''

_ROW = re.compile(r'^\| (.*?) \| (\w+) \| (\d+) \| (\d+) \| (\d+) \| '
                  r'(\S+) \| ([\w-]+) \|$', re.MULTILINE)

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
         str(count['skipped']), today, commit)
        for (kernel, file), count in counts.items()]
    run = {(kernel.split(':')[0], file) for kernel, file, *_ in new}
    kept = [row for row in _old_rows()
            if (row[0].split(':')[0], row[1]) not in run
            and (vm.TOP / 'tests' / f'{row[1]}.py').exists()]
    _FILE.parent.mkdir(exist_ok=True)
    _FILE.write_text(_HEAD + ''.join(
        f"| {' | '.join(row)} |\n" for row in sorted(kept + new, key=_order)))


def _order(row: Row) -> Tuple[List[int], str, str]:
    """Kernels by version, then files by name."""
    return ([int(number) for number in re.findall(r'\d+', row[0])[:2]],
            row[0], row[1])
