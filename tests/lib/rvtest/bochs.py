"""Machines in Bochs, for what QEMU does not emulate: it has IBT enforced."""

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Dict, Optional, Type

from .vm import VM, made, root
from .guest import GuestError

# The model is one with CET.  Time does not follow the host's, and a second has
# few instructions, for firmware and drivers wait in loops.  The display is a
# VNC server that nobody can reach: in-root has no network.
_CONFIG = '''
cpu: model=tigerlake, count=1, ips=20000000
clock: sync=none
memory: guest=192, host=192
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
display_library: rfb, options="timeout=0"
plugin_ctrl: speaker=0
com1: enabled=1, mode=file, dev=/src/console
com2: enabled=1, mode=file, dev=/src/results
ata0-master: type=cdrom, path=/src/cd.iso, status=inserted
boot: cdrom
log: /src/log
panic: action=fatal
error: action=ignore
info: action=ignore
'''

# Its clocks do not agree on how long a second is.
_APPEND = 'console=ttyS0,115200 ignore_loglevel oops=panic tsc=reliable'

# Without what takes seconds there and has nothing to do with modules; and
# without retpolines, for these are no indirect branches.
_FASTER = ('nokaslr mitigations=off cryptomgr.notests initcall_blacklist='
           'jent_mod_init,load_system_certificate_list,trace_eval_init')


def bochs_root() -> Path:
    """A Debian root with Bochs."""
    return made('tool-root', 'bochs')


def _make_cd(scratch: Path, series: str, initramfs: Path) -> None:
    """A CD that boots the kernel, as soon as it is put in."""
    boot = scratch / 'cd' / 'boot'
    (boot / 'grub').mkdir(parents=True)
    shutil.copy(root(series) / 'vmlinuz', boot / 'vmlinuz')
    shutil.copy(initramfs, boot / 'initramfs.cpio')
    (boot / 'grub' / 'grub.cfg').write_text(
        f'linux /boot/vmlinuz {_APPEND} {_FASTER}\n'
        'initrd /boot/initramfs.cpio\nboot\n', encoding='ascii')
    done = subprocess.run(
        [VM / 'in-root', bochs_root(), '--bind', scratch, '/src',
         'grub-mkrescue', '--directory=/usr/lib/grub/i386-pc',
         '--install-modules=linux normal iso9660 biosdisk', '--locales=',
         '--themes=', '--fonts=', '--output=/src/cd.iso', '/src/cd'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise GuestError(f'grub-mkrescue: {done.stdout}')


class Bochs:
    """A machine that runs the init of an initramfs; a context manager.

    The kernel's log comes out of its first serial port, results out of the
    second.
    """

    def __init__(self, series: str, initramfs: Path) -> None:
        self.series = series
        self._dir = Path(tempfile.mkdtemp(prefix='rmapviz-bochs.'))
        self._start = time.monotonic()
        try:
            _make_cd(self._dir, series, initramfs)
            (self._dir / 'config').write_text(_CONFIG, encoding='ascii')
            with open(self._dir / 'stderr', 'w', encoding='utf-8') as stderr:
                self._bochs = subprocess.Popen(
                    [VM / 'in-root', bochs_root(), '--bind', self._dir,
                     '/src', 'bochs', '-q', '-f', '/src/config'],
                    stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
        except BaseException:
            shutil.rmtree(self._dir, ignore_errors=True)
            raise

    def __enter__(self) -> 'Bochs':
        return self

    def __exit__(self, kind: Optional[Type[BaseException]],
                 error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self._bochs.kill()
        self._bochs.wait()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _text(self, name: str) -> str:
        try:
            return (self._dir / name).read_text(errors='replace')
        except FileNotFoundError:
            return ''

    def console(self) -> str:
        """The kernel's log so far."""
        return self._text('console')

    def parts(self) -> Dict[str, str]:
        """The results so far: what follows a line "== NAME", by that name."""
        found = {}
        for part in re.split('^== ', self._text('results'), flags=re.M)[1:]:
            name, _, rest = part.partition('\n')
            found[name] = rest
        return found

    def wait(self, last: str, timeout: float = 1200) -> float:
        """Until there is that part or a panic; the seconds since the start.

        An idle host needs some 30.
        """
        while True:
            took = time.monotonic() - self._start
            died = self._bochs.poll() is not None
            if last in self.parts() or 'Kernel panic' in self.console():
                return took
            if died or took > timeout:
                raise self._trouble('Bochs is no more' if died else
                                    f'not done within {timeout:g} s')
            time.sleep(0.2)

    def _trouble(self, what: str) -> GuestError:
        """An error with what Bochs and the console said last."""
        tails = [line for name in ('stderr', 'log', 'console', 'results')
                 for line in [f'the end of its {name}:',
                              *self._text(name).splitlines()[-20:]]]
        return GuestError('\n'.join([f'{self.series} in Bochs: {what}',
                                     *tails]))
