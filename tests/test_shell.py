"""make shell ROOT=debian: a guest with a libc, a shell and a server."""

import os
import pty
import re
import select
import shlex
import time
from functools import lru_cache
from typing import Iterator, List, Set

import pytest

from rvtest import debian, vm
from rvtest.guest import Guest
from rvtest.report import Report, parse, mappings

# A root is made for each suite, so not with all kernels.  Always the same
# list: a fixture lives as long as its parameter is the same object.
KERNELS = lru_cache(maxsize=None)(vm.some_kernels)

PROMPT = b'root@debian:~# '


@pytest.fixture(scope='module')
def system(served: str) -> Iterator[Guest]:
    """A guest that has gone on with a Debian system of its kernel's suite."""
    with Guest(served, append=debian.APPEND,
               extra_args=debian.arguments(served)) as running:
        running.wait_for('[ $(pgrep -c apache2) -gt 5 ]')
        yield running
        assert not running.kernel_complaints()


def bash(system: Guest, *commands: str) -> str:
    """What commands print in the shell that a person has."""
    return system.check(f"bash -c {shlex.quote('; '.join(commands))}")


def server(system: Guest) -> Set[int]:
    """The pids of its processes."""
    return {int(pid) for pid in system.check('pgrep apache2').split()}


def page_of_heap(system: Guest, number: int) -> Report:
    """What rmapviz says of one, asked by the parent's address."""
    answer = bash(
        system, 'pid=$(pgrep -o apache2)',
        "heap=0x$(sed -n '/\\[heap]/s/-.*//p' /proc/$pid/maps)",
        'exec 3<>/sys/kernel/debug/rmapviz',
        f'echo "pid $pid $((heap + {number} * 4096)) json" >&3', 'cat <&3')
    return parse(answer)


def test_the_root_is_of_the_kernels_suite(system: Guest, series: str) -> None:
    """And not a busybox."""
    name = system.check('. /etc/os-release; echo $VERSION_CODENAME')
    assert name.strip() == vm.suites(series)[0]


def test_the_kernel_is_that_of_the_series(system: Guest, series: str) -> None:
    """The suite may have another one."""
    assert system.check('uname -r').strip() == vm.release(series)


def test_the_server_answers(system: Guest) -> None:
    """It is at work, not only started."""
    status = bash(system, 'exec 3<>/dev/tcp/127.0.0.1/80',
                  r'printf "GET / HTTP/1.0\r\n\r\n" >&3', 'head -n 1 <&3')
    assert '200 OK' in status


def test_the_server_has_a_process_a_connection(system: Guest) -> None:
    """One parent, whose children are all the others."""
    parent = system.check('pgrep -o apache2').strip()
    children = system.check(f'pgrep -P {parent} apache2').split()
    assert len(children) >= 5
    assert server(system) == {int(parent), *map(int, children)}


def test_a_page_that_nobody_wrote_is_everybodys(system: Guest) -> None:
    """The page of the heap that the greeting asks about first."""
    report = page_of_heap(system, 8)
    assert {pid for pid, _ in mappings(report)} == server(system)


def test_a_page_written_since_is_its_writers(system: Guest) -> None:
    """The page that it asks about then: all are visited, one maps it."""
    report = page_of_heap(system, 0)
    assert {pid for pid, _ in mappings(report)} < server(system)
    visited = {pid for mm in report['mms'] for pid in mm['tasks']}
    assert visited == server(system)


def test_a_pid_that_nobody_has_is_said_by_name(system: Guest) -> None:
    """By the shell's own echo, where the greeting shows how to ask."""
    said = bash(system, 'exec 3<>/sys/kernel/debug/rmapviz',
                'echo "pid 99999 0" 2>&1 >&3 || :')
    assert 'No such process' in said


def test_tell_at_a_terminal_says_how(guest: Guest) -> None:
    """A person who types nothing more would wait for it forever."""
    status, output = guest.run('tell </dev/ttyS0', timeout=10)
    assert status == 2
    assert output.startswith('usage: tell')


# -------------------------------------------------------------- a terminal --

class Terminal:
    """A person at a terminal with tests/vm/shell."""

    def __init__(self, *arguments: str) -> None:
        command = [str(vm.VM / 'shell'), *arguments]
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self._seen = b''

    def type(self, keys: bytes) -> None:
        """Whatever they do."""
        os.write(self._fd, keys)

    def read_until(self, mark: bytes, timeout: float = 600) -> str:
        """What the screen shows before mark."""
        deadline = time.monotonic() + timeout
        while mark not in self._seen:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._fd], [], [], left)[0]:
                pytest.fail(f'no {mark!r} within {timeout} s after '
                            f'{self._seen!r}')
            self._seen += os.read(self._fd, 1 << 16)
        text, _, self._seen = self._seen.partition(mark)
        return text.decode()

    def command(self, line: str) -> str:
        """What a line makes the screen show, the line included.

        The prompt is no mark: it is shown again where a line is too long.
        """
        self.type(line.encode() + b'\necho d"o"ne\n')
        return self.read_until(b'done')

    def leave(self) -> int:
        """Ctrl-A X; the status that the shell of the host gets."""
        self.type(b'\x01x')
        self.read_until(b'Terminated')
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._fd)
        return status


def recipe(greeting: str) -> List[str]:
    """The commands that a greeting says to type: the lines set off."""
    return re.findall(r'^ {2}(\S.*?)\r?$', greeting, re.MULTILINE)


def test_what_the_greeting_says_works_when_typed() -> None:
    """Word for word, and Ctrl-A X leaves."""
    terminal = Terminal(vm.newest_kernel()[0], 'debian')
    commands = recipe(terminal.read_until(PROMPT))
    shown = ''.join(terminal.command(line) for line in commands)
    assert terminal.leave() == 0
    everybody, writer = re.findall(r'(\d+) process(?:es)? maps? it', shown)
    assert int(everybody) > int(writer), shown
    assert re.search(r'apache2 x\d+ +- +maps', shown), shown
    assert re.search(r'candidate\S* +a \(\d+\): pipe:', shown), shown
