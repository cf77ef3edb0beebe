"""The guests themselves: what every other test relies on."""

import hashlib
import re
from typing import Set

import pytest

from rvtest.guest import Guest
from rvtest.scene import Scene
from rvtest.vm import release


def look(guest: Guest, name: str) -> Set[str]:
    """The PFNs of an actor's region M."""
    reply, = guest.tell([f'{name} look M'])
    return set(re.findall(r'pfn=(0x[0-9a-f]+)', reply))


def test_the_kernel_is_the_right_one(guest: Guest) -> None:
    """That of the root of this series."""
    assert guest.check('uname -r').strip() == release(guest.series)


def test_the_module_is_loaded(guest: Guest) -> None:
    """By the guest's init."""
    assert guest.run('grep ^rmapviz /proc/modules').status == 0


def test_a_megabyte_of_noise_passes_intact(guest: Guest) -> None:
    """Whatever bytes a command prints."""
    guest.check('dd if=/dev/urandom of=/tmp/noise bs=64k count=16')
    want = guest.check('sha256sum </tmp/noise').split()[0]
    status, noise = guest.run_bytes('cat /tmp/noise')
    assert (status, len(noise)) == (0, 1 << 20)
    assert hashlib.sha256(noise).hexdigest() == want


def test_a_status_passes(guest: Guest) -> None:
    """Of a command that fails."""
    assert guest.run('(exit 7)').status == 7


def test_output_without_a_newline_passes(guest: Guest) -> None:
    """As it is."""
    assert guest.run('printf "no newline"').output == 'no newline'


def test_variables_and_descriptors_last(guest: Guest) -> None:
    """Commands run in one shell."""
    guest.check('echo 12345 >/tmp/five; variable=kept; exec 6</tmp/five')
    assert guest.run('echo $variable; head -c 5 <&6 | wc -c').output \
        == 'kept\n5\n'


def test_three_generations_map_one_page(scene: Scene) -> None:
    """Until somebody writes."""
    replies = scene.guest.tell(['P map M 1', 'P write M', 'P fork C',
                                'C fork G'])
    assert all(reply.startswith('ok') for reply in replies), replies
    address = replies[0].split()[1]
    pfn, = look(scene.guest, 'P')
    assert scene.guest.tell([f'{name} find {pfn}' for name in 'PCG']) \
        == [f'ok {address}:pfn={pfn}'] * 3


def test_one_that_writes_has_a_page_of_its_own(scene: Scene) -> None:
    """The others keep theirs."""
    scene.play('P map M 1\nP write M\nP fork C\nC fork G')
    pfns = look(scene.guest, 'P')
    scene.play('C write M')
    assert look(scene.guest, 'P') == look(scene.guest, 'G') == pfns
    assert look(scene.guest, 'C') != pfns


@pytest.mark.parametrize('line, reply', (
    ('P find 0x1', 'ok'),
    ('P bad', 'error EINVAL unknown command'),
    ('nobody pid', 'error ECONNREFUSED no such actor')))
def test_an_actor_says_what_it_cannot_do(scene: Scene, line: str,
                                         reply: str) -> None:
    """And does not die of it."""
    assert scene.guest.tell([line, 'P pid'])[0] == reply
