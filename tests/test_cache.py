"""tests/vm/lib.sh and deps: what runs at the same time, or is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List

import pytest

from rvtest import vm

# Makes a directory of the cache; RESULT is how that ends, GATE what it waits
# for.
MAKER = '''
set -euo pipefail
. tests/vm/lib.sh
make() {
    echo made >>"$COUNT"
    while [ -e "${GATE:-}" ]; do sleep 0.05; done
    echo error: no luck
    ${RESULT:-true}
    touch "$1/content"
}
once "$NAME" 'a thing' 'no time' make
'''


class Cache:
    """An empty cache, and who makes things in it."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / 'rmapviz'
        self.gate = directory / 'gate'
        self.count = directory / 'count'
        self._environment = {**os.environ, 'XDG_CACHE_HOME': str(directory),
                             'COUNT': str(self.count)}

    def start(self, name: str = 'thing',
              **more: str) -> 'subprocess.Popen[str]':
        """A run that makes it, if nobody else has."""
        return subprocess.Popen(
            ['bash', '-c', MAKER], cwd=vm.TOP, text=True,
            env={**self._environment, 'NAME': name, **more},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)

    def start_and_wait(self) -> 'subprocess.Popen[str]':
        """One that is in the middle of it until the gate is gone."""
        self.gate.touch()
        running = self.start(GATE=str(self.gate))
        deadline = time.monotonic() + 60
        while not self.count.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return running

    def names(self) -> List[str]:
        """What is in it, but for logs and locks."""
        return sorted(path.name for path in self.files.iterdir()
                      if path.is_dir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """For one test."""
    return Cache(tmp_path)


def test_what_is_made_has_its_name_and_content(cache: Cache) -> None:
    """And its path is what is printed."""
    output, _ = cache.start().communicate()
    assert output == f'{cache.files}/thing\n'
    assert (cache.files / 'thing' / 'content').exists()


def test_what_is_there_is_not_made_again(cache: Cache) -> None:
    """Nor is a word said."""
    cache.start().communicate()
    assert cache.start().communicate() == (f'{cache.files}/thing\n', '')


def test_two_at_once_make_it_one_time(cache: Cache) -> None:
    """The second says that it waits, and takes what the first has made."""
    first = cache.start_and_wait()
    second = cache.start()
    assert second.stderr
    assert 'waiting for another run' in second.stderr.readline()
    cache.gate.unlink()
    assert first.communicate()[0] == second.communicate()[0]
    assert cache.count.read_text() == 'made\n'


def test_a_failure_names_its_reason_and_the_log(cache: Cache) -> None:
    """And leaves nothing behind."""
    run = cache.start(RESULT='false')
    errors = run.communicate()[1].splitlines()
    assert run.returncode == 1
    assert 'error: no luck' in errors
    assert errors[-1].endswith(f'all of it in {cache.files}/thing.log')
    assert cache.names() == []


def test_what_a_killed_run_began_is_removed_by_the_next(cache: Cache) -> None:
    """Whatever that makes."""
    run = cache.start_and_wait()
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert cache.names() == ['thing.new']
    cache.start('other').communicate()
    assert cache.names() == ['other']


def test_what_another_run_is_making_is_left_alone(cache: Cache) -> None:
    """It is not a leftover."""
    first = cache.start_and_wait()
    cache.start('other').communicate()
    assert cache.names() == ['other', 'thing.new']
    cache.gate.unlink()
    first.communicate()
    assert cache.names() == ['other', 'thing']


# -------------------------------------------------------------------- deps --

# Refuses one time, in apt's words, then does as it is told.
APT = '''#!/bin/sh
echo "$*" >>"$CALLS"
[ "$(grep -cFx -- "$*" "$CALLS")" -gt 1 ] && exit
echo "E: Could not get lock /some/lock. It is held by process 7 (dpkg)" >&2
exit 100
'''


@pytest.fixture
def machine(tmp_path: Path) -> Dict[str, str]:
    """One without any package, where we are root and another apt runs."""
    programs = {'apt-get': APT, 'dpkg-query': '#!/bin/sh\n',
                'id': '#!/bin/sh\necho 0\n'}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {**os.environ, 'CALLS': str(tmp_path / 'calls'),
            'PATH': f'{tmp_path}:{os.environ["PATH"]}'}


def test_deps_waits_for_another_apt(machine: Dict[str, str]) -> None:
    """It says for whom, and goes on with what it was at."""
    done = subprocess.run([vm.VM / 'deps', 'deb'], env=machine, text=True,
                          stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    waits = [line for line in done.stderr.splitlines()
             if 'waiting for another apt' in line]
    assert len(waits) == 2 and 'process 7 (dpkg)' in waits[0]
    calls = Path(machine['CALLS']).read_text().splitlines()
    assert ['update' in call for call in calls] == [True, True, False, False]
