"""What tests stand on has to fail where it should; no guest boots for this."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import List

import pytest

from rvtest import tested, vm
from rvtest.guest import complaints
from rvtest.stage import Once

ALARMING = (
    'WARNING: CPU: 0 PID: 91 at mm/rmap.c:12 rmap_walk+0x0/0x30',
    'BUG: KASAN: use-after-free in rv_walk+0x12/0x80 [rmapviz]',
    'BUG: sleeping function called from invalid context at mm/slab.h:1',
    'general protection fault, probably for non-canonical address',
    'WARNING: possible circular locking dependency detected',
    'rcu: INFO: rcu_sched self-detected stall on CPU',
    'watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [ask:91]',
    'BUG: Bad page state in process ask  pfn:1d2f3',
    'refcount_t: underflow; use-after-free.',
    'BUG: KCSAN: data-race in rv_write [rmapviz] / rv_write [rmapviz]',
    'BUG: KCSAN: data-race in list_del / rv_walk [rmapviz]',
)
CGROUP_FULL = (
    'hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0',
    'Call Trace:', '%s', 'Memory cgroup out of memory: Killed process 9 (hog)')
HARMLESS = (
    'rmapviz: loading out-of-tree module taints kernel.',
    'Spectre V2 : WARNING: Unprivileged eBPF is enabled',
    'BUG: KCSAN: data-race in list_del / folio_lru_gen',
    'BUG: KCSAN: data-race in race [rmapviz_race] / race [rmapviz_race]',
    'Reported by Kernel Concurrency Sanitizer on:',
    'kcsan: non-strict mode configured - use CONFIG_KCSAN_STRICT=y to see all',
    'random: crng init done',
)


@pytest.mark.parametrize('line', ALARMING)
def test_a_line_that_means_trouble_is_a_complaint(line: str) -> None:
    """In the middle of a log."""
    log = f'[    1.0] before\n[    1.1] {line}\n[    1.2] after\n'
    assert complaints(log) == [f'[    1.1] {line}']


@pytest.mark.parametrize('line', HARMLESS)
def test_a_line_that_means_nothing_is_no_complaint(line: str) -> None:
    """Some CPUs are warned of at boot, and kernels race with themselves."""
    assert complaints(f'[    1.0] {line}\n') == []


@pytest.mark.parametrize('line, number', [
    ('memory: usage 16384kB, limit 16384kB, failcnt 9', 0),
    ('BUG: KASAN: use-after-free in rv_walk+0x12/0x80 [rmapviz]', 1)])
def test_a_full_cgroup_is_no_complaint_but_what_comes_amidst_is(
        line: str, number: int) -> None:
    """Another CPU goes on while one tells who is killed."""
    log = '\n'.join(CGROUP_FULL) % line
    assert len(complaints(log)) == number


def failing(calls: List[str]) -> Once[int]:
    """A look that fails, and notes that it was taken."""
    def look() -> int:
        calls.append('look')
        raise ValueError('broken')

    return Once('the look', look)


def test_what_fails_fails_once() -> None:
    """The one who wanted it first is told."""
    with pytest.raises(ValueError):
        failing([])()


def test_who_needs_what_failed_is_skipped() -> None:
    """And it is not tried again."""
    calls: List[str] = []
    once = failing(calls)
    for error in ValueError, pytest.skip.Exception:
        with pytest.raises(error):
            once()
    assert calls == ['look']


def test_a_look_that_is_skipped_stays_skipped() -> None:
    """It is not taken for one that has seen nothing."""
    def look() -> int:
        pytest.skip('not here')

    once = Once('the look', look)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception):
            once()


def test_what_is_seen_is_looked_at_once() -> None:
    """However many want it."""
    calls: List[str] = []
    once = Once('the look', lambda: calls.append('look'))
    once()
    once()
    assert calls == ['look']


def git(tree: Path, *words: str) -> str:
    """What git says in a directory."""
    return subprocess.run(
        ['git', '-c', 'user.name=t', '-c', 'user.email=t@t', *words], cwd=tree,
        check=True, text=True, stdout=subprocess.PIPE).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What is here, in a repository of its own, all of it committed."""
    for name in git(vm.TOP, 'ls-files').splitlines():
        if (vm.TOP / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(vm.TOP / name, tmp_path / name)
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'add', '-A', '-f')
    git(tmp_path, 'commit', '-qm', 'all of it')
    return tmp_path


def commits_named(tree: Path) -> List[str]:
    """The commits of docs/tested.md, after tests by two workers."""
    subprocess.run(
        ['/usr/bin/python3', '-m', 'pytest', '-q', '--numprocesses=2',
         'tests/test_harness.py', '-k', 'complaint'], cwd=tree, check=True,
        env={**os.environ, 'TESTED': '1', 'PYTHONDONTWRITEBYTECODE': '1'},
        stdout=subprocess.DEVNULL)
    return re.findall(r'\| test_harness .* (\S+) \|  \|',
                      (tree / 'docs/tested.md').read_text())


def test_what_was_tested_is_dirty_only_if_something_was_changed(
        checkout: Path) -> None:
    """The page that says so is no change, nor are workers who write it."""
    head = git(checkout, 'rev-parse', '--short=12', 'HEAD').strip()
    for _ in range(2):
        assert commits_named(checkout) == [head]
    (checkout / 'Kbuild').write_text('')
    assert commits_named(checkout) == [f'{head}-dirty']


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page like docs/tested.md, without rows."""
    monkeypatch.setattr(tested, '_FILE', tmp_path / 'tested.md')
    monkeypatch.setattr(tested, '_commit', lambda: '0123456789ab')
    return tmp_path / 'tested.md'


def passed(file: str) -> List[SimpleNamespace]:
    """What pytest has of a test that needs no kernel."""
    return [SimpleNamespace(nodeid=f'tests/{file}.py::test', outcome='passed',
                            user_properties=[])]


def rows(page: Path) -> List[str]:
    """The end of each row: from the commit on."""
    return re.findall(r'\| (\w{12}(?:-dirty)? \| .*)\|$',
                      page.read_text(), re.MULTILINE)


def test_a_long_run_has_a_row_beside_that_of_a_short_one(
        page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows more, and says with what."""
    for seconds in ('', '1800', ''):
        monkeypatch.setenv('STORM_SECONDS', seconds)
        tested.write(passed('test_storm'))
        tested.write(passed('test_house'))
    assert rows(page) == ['0123456789ab |  ', '0123456789ab |  ',
                          '0123456789ab | STORM_SECONDS=1800 ']


def test_what_was_tested_dirty_is_not_kept(
        page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at once, and forgotten with the next run."""
    monkeypatch.setattr(tested, '_commit', lambda: '0123456789ab-dirty')
    tested.write(passed('test_storm'))
    assert rows(page) == ['0123456789ab-dirty |  ']
    monkeypatch.setattr(tested, '_commit', lambda: '0123456789ab')
    tested.write(passed('test_house'))
    assert rows(page) == ['0123456789ab |  ']
