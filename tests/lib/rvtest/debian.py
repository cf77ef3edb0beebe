"""A Debian system with a server, for guests to go on with after boot."""

import subprocess
from pathlib import Path
from typing import List

from . import vm
from .disk import mkfs_of

# What such a guest needs on the command line of its kernel.
APPEND = 'rmapviz.root=/dev/vda'


def _disk(series: str) -> Path:
    """An image of a system of that kernel's suite; made if need be."""
    done = subprocess.run(
        [vm.VM / 'tool-root', 'server', vm.suites(series)[0]], check=True,
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    root = Path(done.stdout.rstrip('\n'))
    image = vm.TOP / 'build' / f'{root.name}.img'
    if not image.exists():
        new = image.with_suffix(f'.{series}')
        mkfs_of(root, new)
        new.rename(image)
    return image


def arguments(series: str) -> List[str]:
    """For QEMU: the disk, as which it begins at every boot."""
    return ['-drive',
            f'if=virtio,format=raw,snapshot=on,file={_disk(series)}']
