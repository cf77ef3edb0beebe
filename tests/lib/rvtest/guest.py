"""Virtual machines to load the module into."""

import json
import os
import re
import secrets
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Type

from . import vm

# What no guest may log.
_COMPLAINT = re.compile(
    r'\bBUG\b|\bWARNING\b|\bOops\b|Call Trace|KASAN|KCSAN|UBSAN|KFENCE'
    r'|general protection|Kernel panic|[Bb]ad page (state|map)|Bad rss-counter'
    r'|possible circular locking|possible recursive locking'
    r'|possible irq lock inversion|inconsistent lock state'
    r'|bad unlock balance|suspicious RCU|held lock freed'
    r'|lock held when returning|self-detected stall|detected stalls'
    r'|soft lockup|hard LOCKUP|blocked for more than'
    r'|scheduling while atomic|sleeping function called'
    r'|refcount_t:|kmemleak: \d+ new|unable to handle'
    r'|list_(add|del) corruption|Busy inodes after unmount'
    # who looks for mistakes has given up
    r'|turning off the locking correctness|leak detector disabled')

# What some CPUs get a warning for at boot.  And kernels have data races of
# their own, and live with them: KCSAN names the two functions, and the module
# of each.
_HARMLESS = re.compile(r'(Spectre V2|RETBleed|MDS|TAA|MMIO Stale Data|SRSO'
                       r'|Speculative Return Stack Overflow) ?: WARNING'
                       r'|BUG: KCSAN: (?!.*\[rmapviz\])'
                       r'|Reported by Kernel Concurrency Sanitizer'
                       r'|kcsan: non-strict mode')

# What the kernel says when a process has more than its cgroup allows: a trace,
# too, for which nothing is broken.
_CGROUP_FULL = re.compile(
    r'^[^\n]* invoked oom-killer:(?:(?!Out of memory:).)*?'
    r'Memory cgroup out of memory: Killed process', re.MULTILINE | re.DOTALL)

# What a debug kernel needs more: shadow memory and books on every object.
DEBUG_MEMORY = 2
_DEBUG_TIME = 6

# What comes over the console.  With PREEMPT_RT its interrupt has a thread, and
# under much output nobody cares for it in time; the log has it all.
_QUIET, _SILENT = 'quiet loglevel=5', 'quiet loglevel=1 log_buf_len=4M'

# DAMON, where it collects statistics from boot on, takes back from pages here
# and there that they were accessed.
_STILL = 'damon_stat.enabled=N'

# Seconds that a stock kernel takes to boot on an idle host.
_BOOT_TIME = 8


def complaints(log: str) -> List[str]:
    """Lines of a kernel log that mean that something is broken."""
    log = _CGROUP_FULL.sub(
        lambda found: found[0].replace('Call Trace', ''), log)
    return [line for line in log.splitlines()
            if _COMPLAINT.search(line) and not _HARMLESS.search(line)]


class GuestError(Exception):
    """The guest died, hangs, or a command in it failed."""


class Result(NamedTuple):
    """What a command in the guest left."""

    status: int
    output: str


def accelerator(parallel: bool = False) -> str:
    """TCG, unless KVM is asked for and the host can really do it.

    /dev/kvm can exist on a nested host without vmx or svm, and hang a guest.
    The TCG of QEMU 7.2, with a thread for each CPU, now and then lets one trip
    over the int3 of code that another has just finished patching, which no
    real CPU does; so what is parallel takes a newer one.
    """
    flags = Path('/proc/cpuinfo').read_text().split()
    if (os.environ.get('RMAPVIZ_ACCEL') == 'kvm'
            and ('vmx' in flags or 'svm' in flags)
            and os.access('/dev/kvm', os.R_OK | os.W_OK)):
        return 'kvm'
    return 'tcg' if parallel else 'tcg,thread=single'


def _newer() -> List[str]:
    """What runs a command of trixie, with the files of the host."""
    usr = vm.made('tool-root', 'qemu') / 'usr'
    return ['bwrap', '--dev-bind', '/', '/', '--ro-bind', str(usr), '/usr',
            '--die-with-parent']


def qemu_command(series: str, memory_mb: int = 1024, cpus: int = 2,
                 append: str = '', icount: bool = False,
                 parallel: bool = False,
                 cpu: str = 'max,la57=off') -> List[str]:
    """The QEMU command for a guest, without console and channels."""
    accel = 'tcg' if icount else accelerator(parallel)
    if vm.is_debug(series):
        memory_mb *= DEBUG_MEMORY
    # q35: a debug kernel takes 20 seconds to interpret the ACPI of the old PC
    command = [*(_newer() if parallel else []),
               'qemu-system-x86_64', '-accel', accel, '-machine', 'q35',
               '-smp', str(cpus), '-m', str(memory_mb), '-nic', 'none',
               '-no-reboot', '-display', 'none', '-device', 'vmcoreinfo',
               '-kernel', str(vm.root(series) / 'vmlinuz'),
               '-initrd', str(vm.build(series) / 'initramfs.cpio'),
               # KCSAN warns of each race, also of one of the kernel's own; the
               # self-tests of ciphers take longer than all the rest
               '-append', 'console=ttyS0 panic=-1 oops=panic '
               + ('panic_on_warn=1 ' if series.endswith('-debug') else '')
               + f'cryptomgr.notests {append}',
               '-cpu', 'host' if accel == 'kvm' else cpu]
    if icount:
        command += ['-icount', 'shift=0,sleep=off']
    return command


class Guest:
    """A booted guest with the module loaded; a context manager.

    Commands run one after the other in one shell of the guest.
    """

    def __init__(self, series: str, memory_mb: int = 1024, cpus: int = 2,
                 append: str = '', icount: bool = False,
                 extra_args: Sequence[str] = (), parallel: bool = False,
                 boot_timeout: float = 120,
                 cpu: str = 'max,la57=off') -> None:
        """Boot it; append is more kernel command line.

        icount makes the guest's clock count instructions, so that a cost
        repeats from run to run; it has one CPU.  parallel lets the CPUs of
        an emulated guest really run at the same time (see accelerator).
        Memory and timeouts, here and below, are those of a stock kernel;
        a debug kernel gets more of both.
        """
        self.series = series
        self.broken = False     # nothing more is to be had from it
        self._patience: float = _DEBUG_TIME if vm.is_debug(series) else 1
        self._heard = 0
        self._dir = Path(tempfile.mkdtemp(prefix='rmapviz-guest.'))
        self._log = self._dir / 'console'
        self._channel: Optional[socket.socket] = None
        self._received = b''
        quiet = _SILENT if series.endswith('-rt') else _QUIET
        command = qemu_command(series, memory_mb, 1 if icount else cpus,
                               f'rmapviz.port {_STILL} {quiet} {append}',
                               icount, parallel, cpu)
        # stderr in a file: a pipe that nobody reads would block QEMU
        self._stderr = open(self._dir / 'stderr', 'w+', encoding='utf-8')
        self._qemu = subprocess.Popen(
            command + self._plumbing() + list(extra_args),
            stdin=subprocess.DEVNULL, stdout=self._stderr,
            stderr=self._stderr)
        try:
            start = time.monotonic()
            self._channel = self._connect('channel')
            self._read_until(b'ready\n', boot_timeout)
            # a host that boots it slowly is slow in all that follows
            self._patience *= max(1, (time.monotonic() - start)
                                  / (_BOOT_TIME * self._patience))
        except BaseException:
            self.kill()
            raise

    def _plumbing(self) -> List[str]:
        """Console to a file, sockets for the command channel and QMP."""
        return [
            '-serial', f'file:{self._log}',
            '-device', 'virtio-serial-pci',
            '-chardev', f'socket,id=channel,path={self._dir}/channel,'
                        'server=on,wait=off',
            '-device', 'virtserialport,chardev=channel,name=rmapviz',
            '-qmp', f'unix:{self._dir}/qmp,server=on,wait=off']

    def __enter__(self) -> 'Guest':
        return self

    def __exit__(self, kind: Optional[Type[BaseException]],
                 error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _connect(self, name: str) -> socket.socket:
        """Connect to a socket that QEMU is about to make."""
        deadline = time.monotonic() + 10
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self._dir / name))
                return sock
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                if self._qemu.poll() is not None:
                    raise self._trouble('QEMU did not start') from None
                if time.monotonic() > deadline:
                    raise self._trouble(f'no {name} socket') from None
                time.sleep(0.01)

    def _trouble(self, what: str) -> GuestError:
        """An error with what QEMU and the console said last."""
        self.broken = True
        self._stderr.seek(0)
        tail = self.console().splitlines()[-40:]
        return GuestError('\n'.join(
            [f'guest {self.series}: {what}', self._stderr.read().strip(),
             'the end of its console:', *tail]))

    def _read_until(self, mark: bytes, timeout: float) -> bytes:
        """What comes through the channel before mark, which is dropped."""
        assert self._channel is not None
        timeout *= self._patience
        deadline = time.monotonic() + timeout
        seen = 0
        while (at := self._received.find(mark, seen)) < 0:
            seen = max(0, len(self._received) - len(mark))
            left = deadline - time.monotonic()
            if left <= 0 or not select.select(
                    [self._channel], [], [], left)[0]:
                raise self._trouble(f'no answer within {timeout:g} s')
            data = self._channel.recv(1 << 20)
            if not data:
                raise self._trouble('it died')
            self._received += data
        before, self._received = (self._received[:at],
                                  self._received[at + len(mark):])
        return before

    def run_bytes(self, command: str,
                  timeout: float = 60) -> Tuple[int, bytes]:
        """Evaluate one line of shell; its status and exact output."""
        assert self._channel is not None and '\n' not in command
        token = secrets.token_hex(8)
        try:
            self._channel.sendall(f'{token} {command}\n'.encode())
        except OSError:
            raise self._trouble('it died') from None
        output = self._read_until(f'{token} '.encode(), timeout)
        status = self._read_until(b'\n', timeout)
        return int(status), output

    def run(self, command: str, timeout: float = 60) -> Result:
        """Evaluate one line of shell; descriptors and jobs it makes stay."""
        status, output = self.run_bytes(command, timeout)
        return Result(status, output.decode(errors='replace'))

    def check(self, command: str, timeout: float = 60) -> str:
        """The output of a command that must not fail."""
        status, output = self.run(command, timeout)
        if status:
            raise GuestError(f'guest {self.series}: {command[:200]}: '
                             f'status {status}\n{output}')
        return output

    def undo(self, command: str, timeout: float = 60) -> None:
        """Put something back, unless the guest is past that: an error of its
        own would hide what has broken it."""
        if not self.broken:
            self.check(command, timeout)

    def wait_for(self, condition: str, timeout: float = 60) -> None:
        """Until a command of the guest's shell succeeds."""
        deadline = time.monotonic() + timeout * self._patience
        while self.run(condition, timeout).status:
            if time.monotonic() > deadline:
                raise GuestError(f'guest {self.series}: {condition[:200]}: '
                                 f'not within {timeout * self._patience:.0f} '
                                 's')
            time.sleep(0.05)

    def tell(self, lines: Sequence[str], timeout: float = 60) -> List[str]:
        """Give actors commands, "NAME COMMAND..." each; their replies."""
        words = ' '.join(shlex.quote(line) for line in lines)
        status, output = self.run(
            f"printf '%s\\n' {words} | tell "
            f'-t {int(timeout * self._patience)}', timeout + 5)
        replies = output.splitlines()
        if len(replies) != len(lines):
            raise GuestError(f'guest {self.series}: tell: {status}\n{output}')
        return [reply.split(' ', 1)[1] for reply in replies]

    def qmp(self, command: str, **arguments: object) -> Any:
        """Give QEMU a command through its monitor; what it returns."""
        with self._connect('qmp') as sock, sock.makefile('rw') as monitor:
            monitor.readline()
            answer: Dict[str, Any] = {}
            for request in ({'execute': 'qmp_capabilities'},
                            {'execute': command, 'arguments': arguments}):
                monitor.write(json.dumps(request) + '\n')
                monitor.flush()
                answer = {}
                while not answer.keys() & {'return', 'error'}:
                    answer = json.loads(monitor.readline())
        if 'error' in answer:
            raise GuestError(f'{command}: {answer["error"]["desc"]}')
        return answer['return']

    def objects(self, cache: str) -> int:
        """How many the kernel has, dead ones that somebody keeps included."""
        # what is cached for each CPU would count as used
        self.check(f'echo 1 >/sys/kernel/slab/{cache}/shrink')
        return int(self.check(f"sed -n 's/^{cache} *//p' /proc/slabinfo")
                   .split()[0])

    def address_spaces(self) -> int:
        """How many there are, as of objects."""
        return self.objects('mm_struct')

    def console(self) -> str:
        """What came over the serial console so far."""
        try:
            return self._log.read_text(errors='replace')
        except FileNotFoundError:
            return ''

    def console_news(self) -> List[str]:
        """Complaints on the console since this was asked last."""
        news = self.console()[self._heard:]
        self._heard += len(news)
        return complaints(news)

    def kernel_complaints(self) -> List[str]:
        """Lines of the kernel log that mean that something is broken.

        The log is asked for as well as the console, which is quiet.
        """
        leaks = self._leaks()
        return (complaints(self.console()) + complaints(self.check('dmesg'))
                + leaks)

    def _leaks(self) -> List[str]:
        """What kmemleak finds, if the kernel has it.

        It leaves objects alone in their first 5 seconds, and believes in a
        leak when two scans have seen it with the same contents.
        """
        file = '/sys/kernel/debug/kmemleak'
        if self.run(f'test -e {file}').status:
            return []
        return self.check(f'sleep 5; echo scan >{file}; sleep 1; '
                          f'echo scan >{file}; cat {file}').splitlines()

    def _keep_coverage(self) -> None:
        """What code of the module has run here, for tests/coverage."""
        status, ran = self.run_bytes('cat /sys/kernel/debug/rmapviz_cover')
        if status:      # it was never loaded
            return
        kept = vm.build(self.series) / 'coverage' / self._dir.name
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(' '.join(str(at.start() - len(ran) // 2)
                                 for at in re.finditer(b'\1', ran)))

    def close(self) -> None:
        """Power off."""
        try:
            if os.environ.get('COVERAGE') and not self.broken:
                self._keep_coverage()
            if self._channel is not None and self._qemu.poll() is None:
                self._channel.sendall(b'- poweroff -f\n')
                self._qemu.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            raise self._trouble('it does not power off') from None
        finally:
            self.kill()

    def kill(self) -> None:
        """Pull the plug, and clean up."""
        self._qemu.kill()
        self._qemu.wait()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._stderr.close()
        shutil.rmtree(self._dir, ignore_errors=True)
