"""The module's own life, and what it does when it cannot have a lock."""

from itertools import islice
from typing import Callable, Iterator, List, NamedTuple, Optional

import pytest

from rvtest.guest import Guest, Result
from rvtest.report import Report, parse
from rvtest.scene import FILE, Scene
from rvtest.stage import Stage
from rvtest.vm import is_debug, some_kernels
from stories import slug

KERNELS = some_kernels
SECONDS = 35

Note = Callable[[str], None]

ROUNDS = 30
AT = '0x10000000000'    # where an actor's first region is

# A file to map, in a file system that can be taken away.
DISK = '/tmp/fs'

# Many processes that map a file and memory of their own.
CROWD = f'''
    P map F 1 file {DISK}/data 0
    P read F
    P map M 1
    P write M
    P forkmany 300 C
    '''

# Pages of two processes each, and locks of theirs.
CONTENDED = '''
    ! head -c 65536 </bin/busybox >/tmp/data
    ! echo 1 >/proc/sys/vm/nr_hugepages
    P map M 1
    P write M
    P map F 1 shared file /tmp/data 1
    P write F
    P map H 512 shared hugetlb
    P write H 0
    P fork C
    C read F
    C read H 0
    '''


class Lock(NamedTuple):
    """A lock, and how to hold it."""

    name: str
    region: str
    parameter: str

    @property
    def story(self) -> str:
        """Whose pages they are."""
        return CONTENDED


LOCKS = (
    Lock('folio lock', 'M', ''),
    Lock('rmap lock', 'M', 'rmap=1'),
    Lock('lock of a file', 'F', 'rmap=1'),
    Lock('lock of a file of hugetlb', 'H', 'rmap=1'),
)
each_lock = pytest.mark.parametrize('case', [
    pytest.param(lock, id=slug(lock.name)) for lock in LOCKS])


# -------------------------------------------------------------- lifecycle --

@pytest.fixture
def loaded_again(guest: Guest) -> Iterator[Guest]:
    """A guest that has the module afterwards too, and it is not in use."""
    yield guest
    if not guest.broken:
        guest.run(f'exec 3>&-; test -e {FILE} || insmod /rmapviz.ko')


def remains(guest: Guest) -> List[str]:
    """How many modules the kernel has, and how many symbols of this one."""
    return guest.check('grep -c . /proc/modules; cat /proc/kallsyms'
                       ' | grep -c "\\[rmapviz\\]"; true').split()


def test_rmmod_is_refused_while_the_file_is_open(loaded_again: Guest) -> None:
    """It is in use."""
    loaded_again.check(f'exec 3<>{FILE}; echo 0 >&3')
    status, output = loaded_again.run('rmmod rmapviz')
    assert status and 'unavailable' in output


def test_a_descriptor_still_answers_after_a_refused_rmmod(
        loaded_again: Guest) -> None:
    """Nothing of it is gone."""
    loaded_again.check(f'exec 3<>{FILE}; echo 0 >&3')
    assert loaded_again.run('rmmod rmapviz').status
    assert loaded_again.check('cat <&3').startswith('PFN 0x0')


def test_rmmod_takes_the_files_along(loaded_again: Guest) -> None:
    """Both."""
    loaded_again.check('rmmod rmapviz')
    assert loaded_again.run(f'ls -d {FILE}* 2>/dev/null').output == ''


def test_it_is_loaded_asked_and_unloaded_many_times(loaded_again: Guest
                                                    ) -> None:
    """And nothing of it is left: no module, no symbol."""
    loaded_again.check('rmmod rmapviz')
    before = remains(loaded_again)
    output = loaded_again.run(
        f'for i in $(seq {ROUNDS}); do insmod /rmapviz.ko && echo $i >{FILE} '
        '&& rmmod rmapviz || break; done; echo $i', 300).output
    assert output == f'{ROUNDS}\n'
    assert remains(loaded_again) == before
    assert before[1] == '0'


# ------------------------------------------------------------- references --

def test_a_page_that_was_asked_for_100_times_has_no_reference_too_many(
        scene: Scene) -> None:
    """Those of its two mappings."""
    guest = scene.guest
    guest.check('head -c 65536 </bin/busybox >/tmp/data')
    scene.play('P map F 1 file /tmp/data 1\nP write F\nP fork C')
    pfn = scene.pfn('P', 'F')
    guest.check(f'for i in $(seq 100); do echo {pfn}; done | ask - '
                '>/dev/null')
    page = scene.ask(f'pfn {pfn}')['page']
    assert (page['mapcount'], page['refcount'], page['dma_pins'],
            page['extra_refs']) == (2, 2, 0, 0)


@pytest.fixture
def descriptors(guest: Guest) -> Iterator[Guest]:
    """A guest that closes 3 and 4 in the end."""
    yield guest
    if not guest.broken:
        guest.run('exec 3>&- 4>&-')


def test_an_answer_that_nobody_has_read_yet_keeps_no_page(
        descriptors: Guest) -> None:
    """It may still wait in an LRU batch, or be somebody else's by now."""
    with Scene(descriptors) as scene:
        scene.play('P map M 1\nP write M\nP fork C')
        pfn = scene.pfn('P', 'M')
        descriptors.check(f'exec 3<>{FILE}; echo {pfn} >&3')
    with Scene(descriptors) as scene:
        page = scene.ask(f'pfn {pfn}')['page']
    assert not page['dma_pins'] and not page['extra_refs'], page


class Remains(NamedTuple):
    """What is left when all who were in two answers have gone."""

    unmounted: Result
    kept: int       # address spaces
    answers: str    # which are read only then


def outlive(guest: Guest) -> Remains:
    """Ask about a crowd, let it go, and take its file system away."""
    guest.check(f'mkdir -p {DISK}; mount -t tmpfs fs {DISK}; '
                f'head -c 65536 </bin/busybox >{DISK}/data')
    before = guest.address_spaces()
    with Scene(guest) as scene:
        scene.play(CROWD)
        pid = scene.pids['P']
        guest.check(f'exec 3<>{FILE}; echo pid {pid} >&3; '
                    f'exec 4<>{FILE}; echo pid {pid} {AT} >&4')
    unmounted = guest.run(f'umount {DISK}')
    kept = guest.address_spaces() - before
    return Remains(unmounted, kept, guest.run('cat <&3; cat <&4').output)


@pytest.fixture
def outlived(stage: Stage) -> Remains:
    """Seen once; there is no actor but the crowd."""
    def look() -> Remains:
        try:
            return outlive(stage.guest)
        finally:
            if not stage.guest.broken:
                stage.guest.run(f'exec 3>&- 4>&-; umount {DISK}')

    return stage.record('answers that outlive a crowd', look)


def test_a_file_in_an_answer_keeps_no_file_system_mounted(
        outlived: Remains) -> None:
    """umount does not wait for who reads it."""
    assert outlived.unmounted == (0, '')


def test_processes_in_an_answer_leave_no_address_spaces(
        outlived: Remains, series: str, note: Note) -> None:
    """Give or take the slab."""
    if is_debug(series):
        pytest.skip('KASAN keeps what was freed for a while')
    note(f'{max(0, outlived.kept)} of 300')
    assert outlived.kept < 50


def test_an_answer_still_has_the_name_of_a_file_that_has_gone(
        outlived: Remains) -> None:
    """It was looked up when the question was asked."""
    assert f'{DISK}/data' in outlived.answers


# -------------------------------------------------------------- contention --

class Contended(NamedTuple):
    """A page of which somebody else has a lock."""

    scene: Scene
    lock: Lock
    pfn: int
    before: Report      # while the lock was free

    def hold(self, command: str) -> str:
        """A command in the background, while the lock is held."""
        return (f'insmod /lib/rmapviz_hold.ko pfn={self.pfn} '
                f'{self.lock.parameter}; {command} & asker=$!')


# It sleeps when nothing but the scheduler is above the module in its stack.
# The shell itself looks, as a loaded guest takes longer to start a program
# than the asker waits.  One that has gone was not seen waiting, either.
UNTIL_IT_WAITS = (
    'until read -r top </proc/$asker/stack && '
    'case $top in *rmapviz*) echo waits;; *) false;; esac || '
    '{ ! test -e /proc/$asker/exe && echo gone; }; do :; done 2>/dev/null')


@pytest.fixture
def contended(stage: Stage, case: Lock) -> Iterator[Contended]:
    """Pages of two processes; whatever happens, the lock is given back."""
    scene = stage.scene(CONTENDED, lambda new: new.story(CONTENDED))
    pfn = scene.pfn('P', case.region)
    yield Contended(scene, case, pfn, scene.ask(f'pfn {pfn}'))
    if not stage.guest.broken:
        stage.guest.run('rmmod rmapviz_hold; wait', 120)


@each_lock
def test_eagain_when_a_lock_is_never_free(contended: Contended, note: Note
                                          ) -> None:
    """In the end, that is, and not for ever."""
    guest = contended.scene.guest
    guest.check('rm -f /tmp/done; ' + contended.hold(
        f'{{ time ask {contended.pfn} json; echo over >/tmp/done; }}'
        ' >/tmp/late 2>&1'))
    guest.wait_for('test -s /tmp/done', 20)
    output = guest.check('wait $asker; cat /tmp/late')
    note(' '.join(output.split('real')[-1].split()[:2]))
    assert 'EAGAIN' in output


@pytest.mark.parametrize('case', LOCKS[:1], ids=['folio-lock'])
def test_eagain_for_who_skips_the_beginning_when_a_lock_is_never_free(
        contended: Contended) -> None:
    """seq_file would try again for as long as it is told so."""
    guest = contended.scene.guest
    guest.check(f'echo {contended.pfn} >{FILE}; rm -f /tmp/done; '
                + contended.hold(f'{{ dd if={FILE} bs=1 skip=9 count=9; '
                                 'echo over >/tmp/done; } >/tmp/late 2>&1'))
    guest.wait_for('test -s /tmp/done', 20)
    assert 'unavailable' in guest.check('wait $asker; cat /tmp/late')


@each_lock
def test_an_answer_when_a_lock_becomes_free_meanwhile(contended: Contended
                                                      ) -> None:
    """Who has waited for it gets it."""
    guest = contended.scene.guest
    if is_debug(guest.series):
        pytest.skip('a debug kernel unloads who holds it for longer than a '
                    'question waits')
    seen = guest.check(
        contended.hold(f'ask {contended.pfn} json >/tmp/late 2>&1')
        + f'; {UNTIL_IT_WAITS}; rmmod rmapviz_hold; wait $asker')
    assert seen.strip() == 'waits', 'it never waited'
    assert parse(guest.check('cat /tmp/late'))['walk']['mapped'] == 2


def kill_who_waits(contended: Contended) -> Optional[float]:
    """How long it took, in seconds; None if the question was over before.

    That can be on a debug kernel, where to look takes long.
    """
    guest = contended.scene.guest
    seen, status, killed, gone = guest.check(
        f'ask {contended.pfn} >/dev/null 2>&1 & asker=$!; '
        f'{UNTIL_IT_WAITS}; up=$(cat /proc/uptime); '
        'kill -9 $asker 2>/dev/null; '
        'wait $asker 2>/dev/null; echo $? ${up% *}; '
        'cut -d " " -f 1 /proc/uptime').split()
    if is_debug(guest.series) and (seen, status) != ('waits', '137'):
        return None
    assert (seen, status) == ('waits', '137')
    return float(gone) - float(killed)


@each_lock
def test_who_waits_for_a_lock_can_be_killed(contended: Contended) -> None:
    """At once, though nobody gives it back; to give up takes half a second.

    A busy host can make that of one that was killed as long, but not of five.
    """
    contended.scene.guest.check(contended.hold(':'))
    tries = (kill_who_waits(contended) for _ in range(30))
    took = list(islice((one for one in tries if one is not None), 5))
    assert took and min(took) < 0.2, took


@each_lock
def test_the_page_is_as_before_when_who_waited_was_killed(
        contended: Contended) -> None:
    """No reference is lost, and all its mappings are found."""
    contended.scene.guest.run(
        contended.hold(f'ask {contended.pfn} >/dev/null 2>&1')
        + f'; {UNTIL_IT_WAITS}; kill -9 $asker; '
        'wait $asker; rmmod rmapviz_hold')
    after = contended.scene.ask(f'pfn {contended.pfn}')
    assert (after['walk']['mapped'], after['page']['refcount']) \
        == (2, contended.before['page']['refcount'])
