"""A Debian system with a server, for guests to go on with after boot."""

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Sequence

from . import vm
from .disk import mkfs_of
from .guest import Guest

# What such a guest needs on the command line of its kernel.
APPEND = 'rmapviz.root=/dev/vda'
APPEND_TOOLS = f'{APPEND} rmapviz.tools=/dev/vdb'

# Where tools/ is in a guest with_tools().
TOOLS = '/mnt'


def _disk(series: str) -> Path:
    """An image of a system of that kernel's suite; made if need be."""
    done = subprocess.run(
        [vm.VM / 'tool-root', 'server', vm.suites(series)[0]], check=True,
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    root = Path(done.stdout.rstrip('\n'))
    image = vm.TOP / 'build' / f'{root.name}.img'
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        new = image.with_suffix(f'.{series}')
        mkfs_of(root, new)
        new.rename(image)
    return image


def arguments(series: str) -> List[str]:
    """For QEMU: the disk, as which it begins at every boot."""
    return _drive(_disk(series))


def _drive(image: Path) -> List[str]:
    return ['-drive', f'if=virtio,format=raw,snapshot=on,file={image}']


def tools(image: Path) -> List[str]:
    """For QEMU: another disk, which is made with tools/ of now on it."""
    mkfs_of(vm.TOP / 'tools', image)
    return _drive(image)


@contextmanager
def with_tools(series: str, directory: Path, append: str = '',
               extra_args: Sequence[str] = ()) -> Iterator[Guest]:
    """A guest with such a system, its server at work and tools/ at hand.

    directory is for an image.
    """
    with Guest(series, append=f'{APPEND_TOOLS} {append}',
               extra_args=[*arguments(series),
                           *tools(directory / 'tools.img'),
                           *extra_args]) as running:
        running.wait_for('[ $(pgrep -c apache2) -gt 5 ]')
        yield running
        assert not running.kernel_complaints()
