"""What a question does to the machine it is asked on, at its worst.

`make harm` asks of as much as harm was once seen with; without HARM there is
less of it where more would take long.
"""

import os
import re
from contextlib import contextmanager
from functools import lru_cache
from typing import Callable, Dict, Iterator, List, NamedTuple, Set

import pytest

from rvtest import vm
from rvtest.guest import Guest
from rvtest.machine import Machine
from rvtest.scene import Scene
from rvtest.stage import Stage

FULL = bool(os.environ.get('HARM'))

VMAS = 151000
LEFT_MB = 8
ENTRIES, SEPARATE, SECONDS_EACH = (2000000, 20000, 10) if FULL \
    else (500000, 2000, 1)
SCANNED = 3000000

Note = Callable[[str], None]


def prepare(guest: Guest) -> None:
    """A file system that can be unmounted, and no swap; a group for those who
    ask."""
    guest.check('insmod /lib/virtio_blk.ko; mkdir -p /mnt /group; '
                'mount -t ext4 /dev/vda /mnt; '
                'head -c 4096 /bin/busybox >/mnt/page; sync')
    guest.check('mount -t cgroup2 none /group; '
                'echo +memory >/group/cgroup.subtree_control; '
                'mkdir /group/asker')


KERNELS = vm.some_kernels
MACHINE = Machine(name='harm', memory_mb=1024, disks=True, prepare=prepare)
SECONDS = 60


# ------------------------------------------------------------- their crowd --

class Crowd(NamedTuple):
    """The page to ask about, and a process that maps it."""

    pfn: int
    pid: int


@contextmanager
def crowd(guest: Guest, scene: str, number: int, program: str = 'crowd'
          ) -> Iterator[Crowd]:
    """Processes around it, until this is left."""
    pfn, pid, _ = guest.check(': >/tmp/where; '
                              f'{program} {scene} {number} >/tmp/where & '
                              'until grep -q . /tmp/where; do usleep 20000; '
                              'done; cat /tmp/where; rm /tmp/where',
                              300).split()
    try:
        yield Crowd(int(pfn, 16), int(pid))
    finally:
        guest.run(f'kill -9 -{pid}; wait {pid}; while pidof crowd | '
                  f'grep -qw {pid}; do usleep 20000; done', 120)


def outcome(guest: Guest, query: str) -> str:
    """ok, or the errno that the question ends with."""
    status, said = guest.run(f"ask '{query}' 2>&1 >/dev/null", 600)
    return re.sub(r'.*: (E\w+) .*\n', r'\1', said) if status else 'ok'


# ------------------------------------------------------------------ memory --

class Short(NamedTuple):
    """What came of questions while memory was short."""

    outcomes: Dict[str, str]
    before: Set[str]
    after: Set[str]
    log: List[str]


def ask_when_memory_is_short(guest: Guest) -> Short:
    """Of families of many VMAs, while another process has all the rest."""
    with crowd(guest, 'families', VMAS) as families, \
            crowd(guest, 'full', LEFT_MB):
        queries = (f'pid {families.pid} brief', f'pid {families.pid}',
                   f'{families.pfn} json', f'{families.pfn} verify json')
        guest.check('dmesg -c')
        before = set(guest.check('pidof crowd').split())
        outcomes = {query: outcome(guest, query) for query in queries}
        after = set(guest.check('pidof crowd').split())
    return Short(outcomes, before, after, [
        line for line in guest.check('dmesg').splitlines()
        if re.search(r'[Oo]ut of memory|oom|allocation failure', line)])


@pytest.fixture
def short(stage: Stage) -> Short:
    """Asked once."""
    if vm.is_debug(stage.guest.series):
        pytest.skip('a debug kernel looks at all VMAs of a process for each '
                    'that it makes: half an hour was not enough for so many')
    return stage.record('memory is short',
                        lambda: ask_when_memory_is_short(stage.guest))


def test_a_question_is_answered_or_refused_when_memory_is_short(
        short: Short, note: Note) -> None:
    """It gets no other error."""
    note(f'{VMAS} VMAs, {LEFT_MB} MB left: {list(short.outcomes.values())}')
    assert set(short.outcomes.values()) <= {'ok', 'ENOMEM'}


def test_memory_is_short_enough_to_refuse_a_question(short: Short) -> None:
    """Or the other tests would show nothing."""
    assert 'ENOMEM' in short.outcomes.values()


def test_no_process_dies_of_a_question_when_memory_is_short(short: Short
                                                            ) -> None:
    """Neither who is asked about nor who has taken most memory."""
    assert len(short.before) == 4
    assert short.after == short.before


def test_a_question_is_refused_quietly_when_memory_is_short(short: Short
                                                            ) -> None:
    """The log has neither the OOM killer nor an allocation that failed."""
    assert short.log == []


# -------------------------------------------------------------- whose it is --

IN_GROUP = "sh -c 'echo 0 >/group/asker/cgroup.procs; {}'"


@contextmanager
def limited(guest: Guest, limit: str) -> Iterator[None]:
    """So much memory for those in the group, until this is left."""
    guest.check(f'echo {limit} >/group/asker/memory.max')
    try:
        yield
    finally:
        guest.check('echo max >/group/asker/memory.max')


MANY = 30000    # VMAs, an answer about which takes more than 2 MB


class Charged(NamedTuple):
    """What it cost a group to ask about a family of so many."""

    used: int           # bytes, while the answer is open
    status: int         # of who asks with a limit of 2 MB,
    said: str
    events: str         # and what came of it in the group


def ask_of_many(guest: Guest) -> Charged:
    """Without a limit, then with one; the family takes a debug kernel a
    quarter of an hour to make."""
    usage = 'read used </group/asker/memory.current; echo $used'
    with crowd(guest, 'families', MANY) as families:
        before, after = map(int, guest.check(IN_GROUP.format(
            f'exec 7<>/sys/kernel/debug/rmapviz; {usage}; '
            f'echo "pid {families.pid}" >&7; {usage}'), 300).split())
        with limited(guest, '2M'):
            status, said = guest.run(IN_GROUP.format(
                f'exec ask pid {families.pid}') + ' 2>&1 >/dev/null', 300)
            events = guest.check('cat /group/asker/memory.events')
    return Charged(after - before, status, said, events)


@pytest.fixture
def charged(stage: Stage) -> Charged:
    """Asked once."""
    return stage.record('a group asks', lambda: ask_of_many(stage.guest))


def test_an_open_answer_is_charged_to_who_asked(charged: Charged, note: Note
                                                ) -> None:
    """Or a group could take memory of all."""
    note(f'{charged.used} bytes for {MANY} VMAs')
    assert charged.used > 2 << 20


def test_a_question_beyond_the_limit_of_who_asks_is_refused(charged: Charged
                                                            ) -> None:
    """Who asks is not killed, nor is anybody else of the group."""
    assert (charged.status, 'ENOMEM' in charged.said) == (1, True)
    assert 'oom_kill 0' in charged.events


SAME = 6000     # equal pages, records of which take 2 MB


@contextmanager
def merged(guest: Guest) -> Iterator[int]:
    """The page that they are, in one VMA, until this is left."""
    ksm = '/sys/kernel/mm/ksm'
    names = ('sleep_millisecs', 'pages_to_scan', 'max_page_sharing')
    usual = guest.check('cd /; cat '
                        + ' '.join(f'{ksm}/{name}' for name in names)).split()
    guest.check(f'cd {ksm}; echo 10000 >pages_to_scan; '
                f'echo {2 * SAME} >max_page_sharing; '
                'echo 0 >sleep_millisecs; cd /')
    try:
        with crowd(guest, 'ksm-vma', SAME) as same:
            guest.check(f'echo 1 >{ksm}/run')
            guest.wait_for(f'[ $(cat {ksm}/pages_sharing) -ge {SAME - 1} ]',
                           300)
            guest.check(f'echo 0 >{ksm}/run')
            entry = guest.check(
                f'dd if=/proc/{same.pid}/pagemap bs=8 skip={0x10000000} '
                'count=1 2>/dev/null | od -An -t u8')
            yield int(entry) & (1 << 55) - 1
    finally:
        guest.undo(f'echo 2 >{ksm}/run; echo 0 >{ksm}/run; ' + '; '.join(
            f'echo {value} >{ksm}/{name}'
            for name, value in zip(names, usual)), 300)


def test_brief_keeps_no_records_of_a_ksm_page(guest: Guest, note: Note
                                              ) -> None:
    """Though its walk needs some, for it meets what it has met before."""
    kept = {}
    with merged(guest) as pfn:
        for option in 'brief', 'full':
            said = guest.check(IN_GROUP.format(
                'used() { read used </group/asker/memory.current; '
                f'echo $used; }}; exec 7<>/sys/kernel/debug/rmapviz; used; '
                f'echo {pfn} {option} >&7; used'), 300)
            before, after = map(int, said.split())
            kept[option] = after - before
    note(f'{SAME} mappings: {kept}')
    # the group takes up to 64 pages at a time
    assert kept['brief'] < 512 << 10 < kept['full']


# ------------------------------------------------------------ file systems --

def begin_to_verify(guest: Guest, pfn: int, ticks: int) -> None:
    """In the background, until $asker has used so much of a CPU, in 10 ms."""
    used = 'set -- $(cat /proc/$asker/stat); [ $((${14} + ${15}))'
    guest.check(f"ask '{pfn} verify' >/tmp/said 2>&1 & asker=$!; "
                f'until {used} -ge {ticks} ]; do usleep 10000; done', 300)


def test_umount_does_not_wait_for_verify(scene: Scene) -> None:
    """The file system is gone while the scan for its page goes on."""
    guest = scene.guest
    scene.play('P map F 1 shared file /mnt/page 0\nP read F')
    pfn = scene.pfn('P', 'F')
    scene.play('P unmap F 0 1')
    with crowd(guest, 'entries', SCANNED):
        begin_to_verify(guest, pfn, 10)
        unmounted = guest.run('umount /mnt').status
        gone = guest.run('! test -e /sys/fs/ext4/vda').status
        still = guest.run('kill -0 $asker').status
        guest.check('wait $asker; mount -t ext4 /dev/vda /mnt', 300)
    assert (unmounted, gone, still) == (0, 0, 0)


def test_umount_does_not_wait_for_the_end_of_a_verify_that_saw_a_process_die(
        scene: Scene, note: Note) -> None:
    """Its program is let go of while the scan looks at others."""
    guest = scene.guest
    scene.play('P map M 1\nP write M')
    guest.check('cp /bin/crowd /mnt/crowd; sync')
    entries = SCANNED // (10 if vm.is_debug(guest.series) else 1)
    with crowd(guest, 'entries', entries, '/mnt/crowd') as scanned, \
            crowd(guest, 'entries', 3 * entries):
        begin_to_verify(guest, scene.pfn('P', 'M'), 5)
        guest.check(f'kill -9 {scanned.pid}')
        tries = guest.check('tries=1; until umount /mnt 2>/dev/null; do '
                            'kill -0 $asker || break; usleep 20000; '
                            'tries=$((tries + 1)); done; echo $tries', 300)
        unmounted = guest.run('! grep -q " /mnt " /proc/mounts').status
        still = guest.run('kill -0 $asker').status
        guest.check('wait $asker; umount /mnt 2>/dev/null; '
                    'mount -t ext4 /dev/vda /mnt; rm /mnt/crowd', 300)
    note(f'unmounted at the try {tries.strip()}')
    assert (unmounted, still) == (0, 0)


# ----------------------------------------------------- mmap_lock, and a CPU --

class Waited(NamedTuple):
    """The worst, in microseconds, and what came of the questions."""

    fault: int
    mmap: int
    answers: int
    refusals: int


class Measured(NamedTuple):
    """By what is done meanwhile; and what the kernel complained of."""

    waited: Dict[str, Waited]
    complaints: List[str]


@lru_cache(maxsize=None)
def measure(series: str) -> Measured:
    """In a guest whose clock counts instructions, so that figures repeat, and
    a busy host is not taken for a CPU that is kept."""
    with Guest(series, icount=True, boot_timeout=300) as guest:
        guest.check('echo 1 >/proc/sys/kernel/watchdog_thresh')
        for _ in range(ATTEMPTS):
            found = measure_once(guest)
            if max(found['busy'].fault, found['busy'].mmap) >= IN_THE_WAY:
                break
        return Measured(found, guest.kernel_complaints())


def measure_once(guest: Guest) -> Dict[str, Waited]:
    """By what is done meanwhile."""
    lines = guest.check(
        f'latency {ENTRIES} {SEPARATE} {SECONDS_EACH}', 900).splitlines()
    found = {}
    for name, *words in map(str.split, lines):
        told = dict(zip(words[0::2], words[1::2]))
        found[name] = Waited(*(int(told[key]) for key in Waited._fields))
    return found


# What is busy may by chance never be in the way, and is no measure then: a
# scheduler lets it go on for 1000 us on 7.3, and for 4000 on the others.
IN_THE_WAY = 500
ATTEMPTS = 3


@pytest.fixture
def measured(series: str) -> Measured:
    """Once a kernel."""
    return measure(series)


@pytest.fixture(params=['verify', 'pid'])
def waited(request: pytest.FixtureRequest, measured: Measured
           ) -> Dict[str, Waited]:
    """While that was asked, and while somebody else kept a CPU busy."""
    found = measured.waited
    return {'asked': found[request.param], 'busy': found['busy'],
            'quiet': found['quiet']}


def test_threads_wait_little_longer_for_a_question_than_for_other_work(
        waited: Dict[str, Waited], note: Note) -> None:
    """A page fault and mmap at most 3 times the worst of either.

    Which of the two a busy CPU delays is for the scheduler to say, not for us.
    """
    note(f'{ENTRIES} entries, {SEPARATE} VMAs: {waited}')
    asked, busy = waited['asked'], waited['busy']
    assert asked.answers > 0
    assert max(asked.fault, asked.mmap) <= 3 * max(busy.fault, busy.mmap)


def test_no_question_keeps_a_cpu_for_two_seconds(measured: Measured) -> None:
    """Or the kernel would speak of a soft lockup; it is told to so early."""
    assert measured.complaints == []
