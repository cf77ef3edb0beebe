#!/usr/bin/python3
"""The test bench itself: what every other test relies on."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Set

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.vm import release  # noqa: E402


def check_channel(tap: Tap, guest: Guest) -> None:
    """Bytes, statuses and the shell's state come through."""
    output = guest.check('uname -r').strip()
    tap.is_equal(output, release(guest.series), 'the kernel is the right one')

    guest.check('dd if=/dev/urandom of=/tmp/noise bs=64k count=16')
    want = guest.check('sha256sum </tmp/noise').split()[0]
    status, noise = guest.run_bytes('cat /tmp/noise')
    tap.is_equal((status, len(noise), hashlib.sha256(noise).hexdigest()),
                 (0, 1 << 20, want), 'a megabyte of noise passes intact')

    tap.is_equal(guest.run('(exit 7)').status, 7, 'the status passes')
    tap.is_equal(guest.run('printf "no newline"').output, 'no newline',
                 'output passes as it is')
    guest.check('variable=kept; exec 6</tmp/noise')
    tap.is_equal(guest.run('echo $variable; head -c 5 <&6 | wc -c').output,
                 'kept\n5\n', 'variables and descriptors last')


def look(guest: Guest, name: str) -> Set[str]:
    """The PFNs of an actor's region M."""
    reply, = guest.tell([f'{name} look M'])
    return set(re.findall(r'pfn=(0x[0-9a-f]+)', reply))


def check_actors(tap: Tap, guest: Guest) -> None:
    """A page shared over three generations, until one of them writes."""
    guest.check('actor P')
    replies = guest.tell(['P map M 1', 'P write M', 'P fork C', 'C fork G'])
    if not tap.ok(all(reply.startswith('ok') for reply in replies),
                  'three generations of actors start', '\n'.join(replies)):
        return
    address = replies[0].split()[1]
    pfns = look(guest, 'P')
    pfn = ' '.join(pfns)
    tap.is_equal(guest.tell([f'{name} find {pfn}' for name in 'PCG']),
                 [f'ok {address}:pfn={pfn}'] * 3, 'all three map one page')

    guest.tell(['C write M'])
    tap.is_equal((look(guest, 'P'), look(guest, 'C') == pfns,
                  look(guest, 'G')), (pfns, False, pfns),
                 'one that writes has a page of its own')
    tap.is_equal(guest.tell([f'C find {pfn}', 'C bad', 'nobody pid']),
                 ['ok', 'error EINVAL unknown command',
                  'error ECONNREFUSED no such actor'],
                 'an actor says what it cannot do')
    guest.tell(['G exit', 'C wait G', 'C exit', 'P exit'])


def main() -> None:
    """Run it all for every kernel."""
    with Tap() as tap:
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series) as guest:
                tap.ok(True, 'a guest boots')
                check_channel(tap, guest)
                tap.ok(guest.run('grep ^rmapviz /proc/modules').status == 0,
                       'the module is loaded', guest.console())
                check_actors(tap, guest)
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
