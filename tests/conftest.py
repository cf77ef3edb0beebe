"""Kernels, guests and scenes as fixtures; what runs where, in which order.

A test that takes `series` is run for every kernel that the function KERNELS of
its file names (all, if there is none).  One that takes `guest`, `scene` or
`stage` runs in the guest that MACHINE of its file describes; tests of equal
kernel and machine share one, and when the last of them is done its kernel log
must be clean.
"""

import os
import sys
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from _pytest.terminal import TerminalReporter

from rvtest import tested, vm
from rvtest.guest import Guest
from rvtest.machine import PLAIN, Machine, Pool
from rvtest.scene import Scene
from rvtest.stage import Stage

pytest_plugins = ['rvtest.narrow']

_IN_GUEST = {'guest', 'scene', 'stage'}
_POOL = Pool()
_MACHINES: Dict[str, Machine] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each kernel."""
    if 'series' in metafunc.fixturenames:
        choose = getattr(metafunc.module, 'KERNELS', vm.kernels)
        # pytest compares by identity, and would set up a fixture of a module
        # anew for each test
        metafunc.parametrize('series', map(sys.intern, choose()),
                             indirect=True, scope='module')


@pytest.fixture(scope='module')
def series(request: pytest.FixtureRequest) -> str:
    """The kernel, as tests/kernels names it.

    A fixture, for pytest would sort tests by a parameter that is none: the
    second of each function after the first of all.
    """
    chosen: str = request.param
    return chosen


@pytest.fixture(scope='module')
def served(series: str) -> str:
    """The kernel, if a server of the Debian system can listen on it."""
    if 'CONFIG_INET=y' not in vm.config(series):
        pytest.skip(f'the kernel of {series} has no TCP/IP for a server')
    return series


@pytest.fixture
def guest(request: pytest.FixtureRequest, series: str) -> Guest:
    """The guest of that kernel and of this file's MACHINE, without actors."""
    machine = getattr(request.module, 'MACHINE', PLAIN)
    running = _POOL.guest(series, machine)
    _POOL.end_scene()
    return running


@pytest.fixture
def scene(guest: Guest) -> Iterator[Scene]:
    """An actor P in it, who is alone at first, for this test only."""
    with Scene(guest) as new:
        yield new


@pytest.fixture
def stage(request: pytest.FixtureRequest, series: str) -> Stage:
    """Where a story is told that many tests look at."""
    return _POOL.stage(series, getattr(request.module, 'MACHINE', PLAIN))


@pytest.fixture
def note(record_property: Callable[[str, object], None]
         ) -> Callable[[str], None]:
    """Say something about a result, which the summary repeats."""
    return lambda text: record_property('note', text)


# -------------------------------------------------------- order and groups --

def _series(item: pytest.Item) -> Optional[str]:
    """The kernel that a test is run with, if any."""
    callspec = getattr(item, 'callspec', None)
    series: Optional[str] = callspec.params.get('series') if callspec else None
    return series


def _group(item: pytest.Item) -> str:
    """Tests of one group run one after another, by one worker."""
    assert isinstance(item, pytest.Function)
    series = _series(item)
    if series is None:
        return item.path.stem
    if not _IN_GUEST & set(item.fixturenames):
        return f'{item.path.stem}-{series}'
    machine: Machine = getattr(item.module, 'MACHINE', PLAIN)
    if _MACHINES.setdefault(machine.name, machine) != machine:
        raise pytest.UsageError(f'two machines are called {machine.name}')
    return f'{machine.name}-{series}'


def _story(item: pytest.Item) -> Optional[object]:
    """The story that a test looks at, which its parameter `case` names."""
    callspec = getattr(item, 'callspec', None)
    case = callspec.params.get('case') if callspec else None
    story: object = getattr(case, 'story', case)
    return story


@pytest.hookimpl(tryfirst=True)     # type: ignore[misc]
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Groups that take longest first; in a group, story by story."""
    groups: Dict[str, float] = {}
    stories: Dict[Tuple[str, object], int] = {}
    keys = {}
    for i, item in enumerate(items):
        group = _group(item)
        item.add_marker(pytest.mark.xdist_group(group))
        series = _series(item)
        if series:
            item.user_properties.append(('series', series))
        cost = getattr(getattr(item, 'module', None), 'SECONDS', 0)
        groups[group] = max(groups.get(group, 0), cost)
        story = _story(item)
        place = i if story is None else stories.setdefault((group, story), i)
        keys[item] = (group, place, i)
    items.sort(key=lambda item: (-groups[keys[item][0]], *keys[item]))


# last, since a failure here would keep fixtures from being torn down
@pytest.hookimpl(trylast=True)      # type: ignore[misc]
def pytest_runtest_teardown(item: pytest.Item,
                            nextitem: Optional[pytest.Item]) -> None:
    """What the kernel complained of is this test's failure, or the guest's
    when its last test is done."""
    if not _IN_GUEST & set(getattr(item, 'fixturenames', ())):
        return
    news = _POOL.news()
    last = nextitem is None or _group(nextitem) != _group(item)
    log = _POOL.close() if last else news
    if log:
        pytest.fail('the kernel complained:\n' + '\n'.join(log),
                    pytrace=False)


def pytest_sessionfinish() -> None:
    """A guest outlives its last test if that one's fixtures fail."""
    _POOL.close()


# ---------------------------------------------------------- the last word --

def pytest_report_header() -> str:
    """Which kernels."""
    kernels = ' '.join(vm.kernels())
    return f'kernels: {kernels}' + (
        '' if vm.named() else
        '; what takes long with fewer of them, unless KERNEL names more')


@pytest.hookimpl(trylast=True)      # type: ignore[misc]
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Notes, and what goes into docs/tested.md."""
    stats = terminalreporter.stats
    reports = [report for kind in ('passed', 'failed', 'error', 'skipped')
               for report in stats.get(kind, ())]
    notes = [f'{report.nodeid.split("@")[0]}: {text}' for report in reports
             if getattr(report, 'when', '') == 'call'
             for name, text in report.user_properties if name == 'note']
    if notes:
        terminalreporter.section('notes')
        for line in notes:
            terminalreporter.line(line)
    # a worker of xdist has seen some of them only, and is not the last
    worker = hasattr(terminalreporter.config, 'workerinput')
    if os.environ.get('TESTED') and not worker:
        tested.write(reports)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line: what passed, failed and was skipped."""
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if hasattr(config, 'workerinput') or not reporter:
        return
    count = {kind: len(reporter.stats.get(kind, ()))
             for kind in ('passed', 'failed', 'error', 'skipped')}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} "
          f"failed, {count['skipped']} skipped")
