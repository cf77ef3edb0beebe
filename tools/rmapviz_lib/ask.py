"""Questions to the module, or to a dump of a kernel; each errno in words."""

import errno
import os
import re
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Dict, Iterable, List, Optional, Tuple, Union

from . import report
from .failure import ONLY_ROOT, Failure
from .report import Report
from .words import hexa, plain

DEBUGFS = '/sys/kernel/debug'
PARAMETER = '/sys/module/rmapviz/parameters/query'
LOCKDOWN = '/sys/kernel/security/lockdown'

# How often to ask again where others set the same parameter.
ATTEMPTS = 20

LOAD = 'sudo modprobe rmapviz, or sudo insmod rmapviz.ko'

Answer = Union[Report, Failure]


def checked(query: str) -> str:
    """A question that can be put, if not one that has an answer."""
    words = query.split()
    if not words or not query.isascii() or not query.isprintable():
        raise Failure(f'"{query}": it is no question')
    if words[0] == 'pid' and not re.match(r'pid\s+[0-9]', query):
        raise Failure(f'"{query}": the number of a process is expected behind '
                      'pid')
    return query


def target_words(query: str) -> Tuple[str, List[str]]:
    """What a question is about, in words, and the words of the target."""
    words = query.split()
    if words[0] == 'pid' and len(words) > 2 and words[2][:1].isdigit():
        return (f'process {words[1]} at {words[2]}', words[:3])
    if words[0] == 'pid':
        return f'process {words[1]}', words[:2]
    if words[0] in ('pfn', 'phys'):
        return ' '.join(words[:2]), words[:2]
    return f'PFN {words[0]}', words[:1]


def sentence(number: int, query: str) -> Failure:
    """What an errno of a question means."""
    about, words = target_words(query)
    sentences: Dict[int, str] = {
        errno.EFAULT: f'{about}: it maps no page there',
        errno.ENXIO: f'{about}: there is no such page: it is beyond memory, '
                     'in a hole, or offline',
        errno.ESRCH: f'there is no process {words[-1]}' if len(words) < 3
                     else f'there is no process {words[1]}',
        errno.EAGAIN: f'{about}: it is too busy: its lock was taken each of '
                      '64 times; ask again',
        errno.ENOMEM: f'{about}: there is no memory for the answer',
        errno.EINTR: f'{about}: interrupted',
        errno.EINVAL: f'the module does not understand "{query}"; is it '
                      'older than this command?',
        errno.EPERM: f'{about}: not permitted',
    }
    return Failure(sentences.get(
        number, f'{about}: {os.strerror(number)}'), number)


class Module:
    """The module of the running kernel; one descriptor a question."""

    live = True
    # how many questions it is worth to put together
    at_once = 1

    def __init__(self, debugfs: str = DEBUGFS, parameter: str = PARAMETER,
                 lockdown: str = LOCKDOWN) -> None:
        self._root = Path(debugfs)
        self._file = self._root / 'rmapviz'
        self._answer = self._root / 'rmapviz_answer'
        self._parameter = Path(parameter)
        self._lockdown = Path(lockdown)
        self._locked_down = False

    def ask(self, query: str) -> Report:
        """The answer to a question, which is without json."""
        line = f'{checked(query)} json'
        data = None if self._locked_down else self._ask_file(line, query)
        if data is None:
            self._locked_down = True
            data = self._ask_parameter(line, query)
        return report.parse(data.decode('utf-8', 'replace'), 'the module')

    def ask_all(self, queries: Iterable[str]) -> List[Answer]:
        """Answers to many; a Failure where there is none."""
        found: List[Answer] = []
        for query in queries:
            try:
                found.append(self.ask(query))
            except Failure as failure:
                found.append(failure)
        return found

    def _ask_file(self, line: str, query: str) -> Optional[bytes]:
        """By the query file; None where lockdown forbids to open it."""
        try:
            fd = os.open(self._file, os.O_RDWR)
        except OSError as error:
            if error.errno == errno.EPERM and os.geteuid() == 0:
                return None
            raise self._not_open(error) from None
        try:
            os.write(fd, line.encode())
            return _read_all(fd)
        except OSError as error:
            raise sentence(error.errno or 0, query) from None
        finally:
            os.close(fd)

    def _ask_parameter(self, line: str, query: str) -> bytes:
        """By the parameter and the file with the answer.

        There is one question for all; so the answer says to which it is one.
        """
        mark = f'"query": "{line}"'.encode()
        for attempt in range(ATTEMPTS):
            self._set_parameter(line, query)
            try:
                data = self._read_answer()
            except OSError as error:
                # which does not say to what question it is the answer
                if self._is_asked(line):
                    raise sentence(error.errno or 0, query) from None
            else:
                if mark in data[:1024]:
                    return data
            time.sleep(0.01 * attempt)
        raise Failure('under lockdown there is one question for all, and '
                      f'somebody else asked {ATTEMPTS} times in between')

    def _set_parameter(self, line: str, query: str) -> None:
        try:
            with open(self._parameter, 'w', encoding='ascii') as file:
                file.write(line)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise sentence(errno.EINVAL, query) from None
            raise self._not_open(error) from None

    def _read_answer(self) -> bytes:
        """An OSError is the answer, if to read it fails."""
        try:
            fd = os.open(self._answer, os.O_RDONLY)
        except OSError as error:
            raise self._not_open(error) from None
        try:
            return _read_all(fd)
        finally:
            os.close(fd)

    def _is_asked(self, line: str) -> bool:
        """Whether the parameter is still as it was set."""
        try:
            text = self._parameter.read_bytes()
        except OSError as error:
            raise self._not_open(error) from None
        return text.split() == line.encode().split()

    def _answers_nobody(self) -> bool:
        """Whether the kernel is locked down that far."""
        try:
            return b'[confidentiality]' in self._lockdown.read_bytes()
        except OSError:
            return False

    def _not_open(self, error: OSError) -> Failure:
        """Why a file of the module cannot be opened, and what to type."""
        if os.geteuid() != 0:
            return Failure(ONLY_ROOT)
        if error.errno in (errno.EPERM, errno.EACCES):
            return Failure(
                'the kernel is locked down for confidentiality, under which '
                'rmapviz answers nobody' if self._answers_nobody() else
                'not permitted: it takes CAP_SYS_ADMIN, which this shell does '
                'not have (is it in a container?)')
        if not os.path.exists(self._parameter.parent.parent):
            return Failure(f'the module is not loaded: {LOAD}')
        if not _has_files(self._root):
            return Failure('debugfs is not mounted: sudo mount -t debugfs '
                           f'debugfs {self._root}')
        if not os.path.exists(self._file):
            return Failure(f'there is no {self._file}: is another module of '
                           'that name loaded?')
        return Failure(f'{self._file}: {os.strerror(error.errno or 0)}')

    def listing(self, name: str) -> Path:
        """The path of another file of the module, such as survey."""
        path = self._root / f'rmapviz_{name}'
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            if error.errno != errno.ENOENT or not os.path.exists(self._file):
                raise self._not_open(error) from None
            raise Failure(f'there is no {path}: the module is older than this '
                          'command') from None
        return path


def _has_files(path: Path) -> bool:
    """Whether something is in a directory, as far as that may be known."""
    try:
        return bool(os.listdir(path))
    except OSError:
        return False


def _read_all(fd: int) -> bytes:
    """What a descriptor has, to its end."""
    parts: List[bytes] = []
    while True:
        part = os.read(fd, 1 << 20)
        if not part:
            return b''.join(parts)
        parts.append(part)


class Dump:
    """A dump of a kernel, or the running one, by tools/drgn_dump.py."""

    live = False
    # drgn starts anew each time
    at_once = 256

    def __init__(self, vmcore: Optional[str], vmlinux: Optional[str]) -> None:
        for path in filter(None, (vmcore, vmlinux)):
            if not os.path.exists(path):
                raise Failure(f'{path}: there is no such file')
        script = Path(__file__).resolve().parents[1] / 'drgn_dump.py'
        self._command = ['drgn']
        self._command += ['-c', vmcore] if vmcore else ['-k']
        if vmlinux:
            self._command += ['-s', vmlinux]
        self._command += [str(script)]
        self._listing: Optional[IO[str]] = None

    def ask(self, query: str) -> Report:
        """The answer to one question."""
        answer, = self.ask_all([query])
        if isinstance(answer, Failure):
            raise answer
        return answer

    def listing(self, name: str) -> Path:
        """The path of what is like a file of the module; it goes when this
        command ends."""
        if name != 'survey':
            raise Failure(f'a dump has no listing of {name}')
        if self._listing is None:
            listing: IO[str] = TemporaryFile('w', encoding='utf-8')
            done = self._drgn(['--survey'], listing)
            if done.returncode:
                raise _failed(done)
            self._listing = listing
        # it has no name, so that nothing stays of it, however this ends
        return Path(f'/proc/self/fd/{self._listing.fileno()}')

    def ask_all(self, queries: Iterable[str]) -> List[Answer]:
        """Answers to many, in the order of the questions.

        The script has options that are for all of its questions, and answers
        PFNs first; so each question is a run of its own, unless all are PFNs
        and ask for the same of them.
        """
        asked = [checked(query) for query in queries]
        if all(map(_is_pfn, asked)) and len(set(map(_folio, asked))) == 1:
            return self._run([*_folio(asked[0]), *(
                query.split()[0] for query in asked)], len(asked))
        return [self._run(_arguments(query), 1)[0] for query in asked]

    def _drgn(self, arguments: List[str], output: Union[int, IO[str]]
              ) -> 'subprocess.CompletedProcess[bytes]':
        try:
            return subprocess.run(
                [*self._command, *arguments], check=False,
                stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise Failure('a dump takes drgn, which is not installed: sudo '
                          'apt-get install python3-drgn') from None

    def _run(self, arguments: List[str], wanted: int) -> List[Answer]:
        if not wanted:
            return []
        done = self._drgn(['--json', *arguments], subprocess.PIPE)
        lines = done.stdout.decode('utf-8', 'replace').splitlines()
        if len(lines) != wanted:
            raise _failed(done)
        found: List[Answer] = []
        for line in lines:
            try:
                found.append(report.parse(line, 'the dump'))
            except Failure as failure:
                found.append(failure)
        return found


def _failed(done: 'subprocess.CompletedProcess[bytes]') -> Failure:
    """By the last line that drgn says."""
    said = done.stderr.decode('utf-8', 'replace').strip()
    last = said.splitlines()[-1] if said else 'it says nothing'
    return Failure(f'drgn failed: {plain(last)[:300]}')


def _is_pfn(query: str) -> bool:
    words = query.split()
    return words[0][:1].isdigit() and set(words[1:]) <= {'brief', 'folio'}


def _folio(query: str) -> Tuple[str, ...]:
    return ('--folio',) if 'folio' in query.split() else ()


def _arguments(query: str) -> List[str]:
    """A question as drgn_dump.py takes it."""
    folio = _folio(query)
    if 'verify' in query.split():
        raise Failure('verify is a question for the module; a dump has none')
    _, target = target_words(query)
    if target[0] == 'pid':
        return [*folio, '--pid', *target[1:]]
    if target[0] == 'phys':
        return [*folio, hexa(int(target[1], 0) >> 12)]
    return [*folio, target[-1]]


Source = Union[Module, Dump]
