"""Questions for which one allocation after the other fails, and those whose
asker is killed in one function after the other.

tests/kmod/rmapviz_fail.c refuses the module memory.  A debug kernel can do
that by itself, and to whatever the module calls as well.  rmapviz_kill.c sends
the signal.
"""

import re
from contextlib import contextmanager
from typing import (Any, Callable, Dict, Iterator, List, NamedTuple, Tuple,
                    TypeVar)

import pytest

from rvtest import vm
from rvtest.guest import Guest, Result
from rvtest.report import Report, parse
from rvtest.scene import FAMILIES, FILE, SURVEY, Scene
from rvtest.stage import Stage
from stories import HUGE, PREPARED, slug
from test_gap import MERGED, slow_ksmd

MACHINE = PREPARED
KERNELS = vm.some_kernels
SECONDS = 30

PARAMETERS = '/sys/module/rmapviz_fail/parameters'
AT = '0x10000000000'    # where an actor's first region is

# A file system that can be taken away; of ext4, /sys tells when it has gone.
DISK = '/tmp/fs'
MOUNT = (f'mkdir -p {DISK}; mke2fs /dev/vdc >/dev/null; '
         f'mount -t ext4 /dev/vdc {DISK}')

# More allocations than a question makes, with those of what it calls.
MANY = 1000

# Which allocations a debug kernel may let fail: those that can wait, too.  It
# would show a trace of each.
INJECT = '''
    echo N >/sys/kernel/debug/failslab/ignore-gfp-wait
    echo N >/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait
    echo 0 >/sys/kernel/debug/fail_page_alloc/min-order
    echo 0 >/sys/kernel/debug/failslab/verbose
    echo 0 >/sys/kernel/debug/fail_page_alloc/verbose
    '''

# A page of a family, one of a file, one of hugetlb, a huge one, and one that
# is merged.
CROWD = f'''
    ! head -c 65536 </bin/busybox >/tmp/data
    P map M 4
    P write M
    P map F 4 shared file /tmp/data 0
    P write F
    P map H 512 shared hugetlb
    P write H 0
    P map T {HUGE}
    P madvise T 0 {HUGE} hugepage
    P write T 0
    P map K 2
    P fill K 0 2 7
    P madvise K 0 2 mergeable
    ! ksm
    P forkmany 12 C
    C0 read F
    C0 read H 0
    C0 write M 1
    '''

# {M}, {F}, {H}, {T} and {K} are pages, {pid} is a process.
QUESTIONS = (
    '{M}', '{M} brief', '{M} verify', '{M} folio', '{F}', '{F} verify', '{H}',
    '{T}', '{T} folio', '{T} folio verify', '{K}', '{K} brief', '{K} verify',
    'pid {pid}', 'pid {pid} ' + AT, 'pid {pid} brief', '0', 'phys 0x1000')

Note = Callable[[str], None]
T = TypeVar('T')


class Try(NamedTuple):
    """A question of whose allocations one was refused."""

    nth: int
    error: str
    report: Report


class Tried(NamedTuple):
    """Every allocation of a question in turn."""

    before: Report
    tries: List[Try]
    after: Report


def steady(report: Report) -> Dict[str, Any]:
    """What two answers to a question have in common."""
    found = dict(report)
    found['walk'] = {name: value for name, value in report['walk'].items()
                     if name not in ('lock_ns', 'lock_max_ns', 'attempts',
                                     'retries')}
    found.pop('history', None)
    return found


# With a stock kernel: whether there was that allocation to refuse.
FAILED = (f'read failed <{PARAMETERS}/failed; echo 0 >{PARAMETERS}/nth; '
          '[ $failed = 1 ]')


def refusing(series: str, query: str) -> str:
    """A command that asks while the $n-th allocation is refused; it fails if
    there are fewer."""
    if vm.is_debug(series):
        return f"ask -f $n '{query} json' >/tmp/said 2>&1; [ $? != 3 ]"
    return (f'echo $n >{PARAMETERS}/nth; '
            f"ask '{query} json' >/tmp/said 2>&1; {FAILED}")


def try_all(scene: Scene, query: str) -> Tried:
    """Until there is none left to refuse."""
    guest = scene.guest
    before = scene.ask(query)
    command = refusing(guest.series, query)
    output = guest.check(f'for n in $(seq {MANY}); do {command} || break; '
                         'echo "== $n"; cat /tmp/said; done', 300)
    tries = []
    for part in output.split('== ')[1:]:
        nth, _, said = part.partition('\n')
        error = re.search(r': (E[A-Z]+) \(', said)
        tries.append(Try(int(nth), error[1] if error else 'ok',
                         {} if error else parse(said)))
    return Tried(before, tries, scene.ask(query))


@contextmanager
def memory_refused(guest: Guest) -> Iterator[None]:
    """To the module, as far as nth says."""
    address, size = guest.check(
        "sed -n 's/^rmapviz \\([0-9]*\\) .* \\(0x[0-9a-f]*\\).*/\\2 \\1/p' "
        '/proc/modules').split()
    guest.check(f'insmod /lib/rmapviz_fail.ko from={address} size={size}')
    if vm.is_debug(guest.series):
        guest.check('; '.join(INJECT.split('\n')[1:-1]))
    try:
        yield
    finally:
        guest.undo('rmmod rmapviz_fail')


@pytest.fixture
def short(stage: Stage) -> Iterator[Scene]:
    """A crowd to ask about, and what refuses memory."""
    scene = stage.scene(CROWD, lambda new: new.story(CROWD))
    with memory_refused(stage.guest):
        yield scene


def spelled(scene: Scene, question: str) -> str:
    """About what is in the scene."""
    pages = {region: scene.pfn('C0', region) for region in 'MFHTK'}
    return question.format(pid=scene.pids['C0'], **pages)


def compare(tried: Tried, note: Note) -> None:
    """Each answer with the one that had all memory."""
    errors = [some.error for some in tried.tries]
    note(f'{len(errors)} allocations, {errors.count("ENOMEM")} of them ENOMEM')
    assert set(errors) <= {'ok', 'ENOMEM'}
    assert 'ENOMEM' in errors
    assert len(errors) < MANY
    assert [some.nth for some in tried.tries if some.error == 'ok'
            and steady(some.report) != steady(tried.before)] == []


@pytest.fixture(params=[pytest.param(query, id=slug(query))
                        for query in QUESTIONS])
def tried(request: pytest.FixtureRequest, short: Scene) -> Tried:
    """One question."""
    return try_all(short, spelled(short, request.param))


def test_a_question_is_right_or_enomem_whichever_allocation_fails(
        tried: Tried, note: Note) -> None:
    """The same answer as before, where there is another way to memory."""
    compare(tried, note)


def test_a_question_is_answered_as_before_when_memory_is_back(tried: Tried
                                                              ) -> None:
    """And no page has a reference too many."""
    assert steady(tried.after) == steady(tried.before)


def test_verify_is_right_or_enomem_if_there_are_more_address_spaces(
        stage: Stage, note: Note) -> None:
    """Than it has room for at first, and so references that it has to drop."""
    stage.clear()
    guest = stage.guest
    spaces = guest.objects('mm_struct')
    with Scene(guest) as scene, memory_refused(guest):
        scene.play('P map M 1\nP write M\nP forkmany 300 C')
        tried = try_all(scene, f"{scene.pfn('P', 'M')} verify")
    assert tried.before['verify']['found'] == 301
    compare(tried, note)
    assert steady(tried.after) == steady(tried.before)
    assert guest.objects('mm_struct') - spaces < 30


def test_verify_is_right_or_enomem_where_rmap_misses_mappings(
        scene: Scene, note: Note) -> None:
    """For which there is room only when they are known."""
    guest = scene.guest
    scene.story(MERGED)
    pfn = scene.pfn('C', 'M')
    with slow_ksmd(guest), memory_refused(guest):
        guest.wait_for(f"ask '{pfn}' | grep -q 'does not reach'")
        tried = try_all(scene, f'{pfn} verify')
    assert len(tried.before['verify']['missing']) == 2
    compare(tried, note)


READ_ALL = (
    'for n in $(seq {many}); do {command}; status=$?; '
    '{failed} || break; '
    'echo "$status $(wc -l </tmp/said) $(cat /tmp/why)"; done')


def reading(series: str, listing: str) -> str:
    """A command that reads it all while the $n-th allocation is refused."""
    if vm.is_debug(series):
        return READ_ALL.format(
            many=MANY, failed='[ $status != 3 ]',
            command=f'ask -f $n -o {listing} >/tmp/said 2>/tmp/why')
    return READ_ALL.format(
        many=MANY, failed=FAILED,
        command=f'echo $n >{PARAMETERS}/nth; '
                f'cat {listing} >/tmp/said 2>/tmp/why')


@pytest.mark.parametrize('listing', [SURVEY, FAMILIES],
                         ids=['survey', 'families'])
def test_a_listing_is_whole_or_enomem_whichever_allocation_fails(
        short: Scene, listing: str, note: Note) -> None:
    """It does not end early as if there were no more."""
    guest = short.guest
    whole = len(guest.check(f'cat {listing}').splitlines())
    said = guest.check(reading(guest.series, listing), 300)
    tries = [line.split(' ', 2) for line in said.splitlines()]
    refused = [why for status, _, why in tries if status != '0']
    note(f'{len(tries)} allocations, {len(refused)} of them ENOMEM')
    assert refused and len(tries) < MANY
    assert [why for why in refused if 'Cannot allocate memory' not in why] \
        == []
    assert [lines for status, lines, _ in tries
            if status == '0' and int(lines) < whole * 0.9] == []


def test_families_can_be_read_on_whichever_allocation_failed(
        scene: Scene, note: Note) -> None:
    """Where one has more processes than there is room for at first: a read
    ends before the line of that, and the next one goes on from there."""
    guest = scene.guest
    if vm.is_debug(guest.series):
        pytest.skip('its fail-nth would count what opening takes')
    scene.play('P map M 1\nP write M\nP forkmany 100 C')
    whole = len(guest.check(f'cat {FAMILIES}').splitlines())
    with memory_refused(guest):
        said = guest.check(READ_ALL.format(
            many=MANY, failed=FAILED,
            command=f'{{ echo $n >{PARAMETERS}/nth; cat; }} <{FAMILIES} '
                    '>/tmp/said 2>/tmp/why && grep -q " 101 " /tmp/said'), 300)
    tries = [line.split(' ', 2) for line in said.splitlines()]
    note(f'{len(tries)} allocations refused')
    assert tries and len(tries) < MANY
    assert [some for some in tries
            if some[0] != '0' or int(some[1]) < whole * 0.9] == []


LARGE_CROWD = CROWD.replace('/tmp/data', f'{DISK}/data').replace(
    'forkmany 12', 'forkmany 60')

# What a question holds meanwhile: of the 61 processes in the crowd, and files
# of its own.
CACHES = {'mm_struct': 'address spaces', 'task_struct': 'tasks',
          'filp': 'open files'}


class Left(NamedTuple):
    """What there is when all who were asked about have gone."""

    kept: Dict[str, int]    # what the kernel has more of than before
    unmounted: Result       # and whether it has really gone
    memory: str             # of the module's, in vmallocinfo


def remains(guest: Guest, before: Dict[str, int]
            ) -> Tuple[Dict[str, int], Result, str]:
    """As in Left."""
    unmounted = guest.run(f'umount {DISK} && ! test -e /sys/fs/ext4/vdc')
    return ({cache: guest.objects(cache) - count
             for cache, count in before.items()}, unmounted,
            guest.run(r'grep "\[rmapviz]" /proc/vmallocinfo').output)


def ask_and_leave(guest: Guest) -> Left:
    """Refuse memory to all questions about a crowd, and let it go."""
    guest.check(MOUNT)
    before = {cache: guest.objects(cache) for cache in CACHES}
    with Scene(guest) as scene, memory_refused(guest):
        scene.story(LARGE_CROWD)
        for question in QUESTIONS:
            try_all(scene, spelled(scene, question))
    return Left(*remains(guest, before))


def record(stage: Stage, what: str, look: Callable[[Guest], T]) -> T:
    """Seen once; there is no actor but the crowd."""
    def tidy() -> T:
        try:
            return look(stage.guest)
        finally:
            if not stage.guest.broken:
                stage.guest.run(f'umount {DISK}')

    return stage.record(what, tidy)


@pytest.fixture
def left(stage: Stage) -> Left:
    """What is left of questions without memory."""
    return record(stage, 'a crowd that was asked about without memory',
                  ask_and_leave)


@pytest.mark.parametrize('cache', CACHES)
def test_questions_that_got_no_memory_keep_nothing_of_others(
        left: Left, cache: str, note: Note) -> None:
    """Give or take the slab."""
    note(f'{left.kept[cache]} {CACHES[cache]} more than before')
    assert left.kept[cache] < 30


def test_questions_that_got_no_memory_keep_no_memory(left: Left) -> None:
    """Of that of several pages; kmemleak would find the rest."""
    assert left.memory == ''


def test_questions_that_got_no_memory_keep_no_file_system_mounted(
        left: Left) -> None:
    """Neither a file nor an inode of it."""
    assert left.unmounted == (0, '')


def test_the_file_cannot_be_opened_without_memory(short: Scene) -> None:
    """And can be afterwards."""
    guest = short.guest
    guest.check(f'echo 1 >{PARAMETERS}/nth')
    status, output = guest.run(f'(exec 3<>{FILE})')
    guest.check(f'echo 0 >{PARAMETERS}/nth')
    assert status and 'memory' in output
    guest.check(f'(exec 3<>{FILE})')


# ---------------------------------------------- who asks is killed anywhere --

KILL = '/sys/module/rmapviz_kill/parameters'

# Each is asked until one calls the function.
ASK = ("ask '{M} verify'", "ask 'pid {pid} json'", "ask '{F} verify json'",
       "ask '{H} folio'", "ask 'pid {pid} " + AT + " brief'", "ask '0 ptrs'",
       f'cat {SURVEY}', f'cat {FAMILIES}')
KILL_IN_ALL = (
    r"for f in $(sed -n '/\.cold\|__SCT__/d; "
    r"s/.* [tT] \([^ ]*\)\t\[rmapviz]$/\1/p' /proc/kallsyms); do "
    'echo rmapviz:$f >{parameters}/symbol || continue; {asks}; '
    'echo $f -; done 2>/dev/null; echo >{parameters}/symbol')
KILLED = ('{command} >/dev/null; s=$?; read k <{parameters}/killed; '
          '[ $k = N ] || {{ echo $f $s; continue; }}')


class Killed(NamedTuple):
    """What came of who asked, and what there is then."""

    status: Dict[str, str]      # by function; - if nobody called it
    before: List[Report]
    after: List[Report]
    kept: Dict[str, int]
    unmounted: Result
    memory: str


def kill_in_all(scene: Scene) -> Dict[str, str]:
    """Have who asks killed in each function of the module."""
    asks = '; '.join(KILLED.format(command=spelled(scene, command),
                                   parameters=KILL) for command in ASK)
    said = scene.guest.check(
        KILL_IN_ALL.format(parameters=KILL, asks=asks), 300)
    return dict(line.split(' ') for line in said.splitlines())


def kill_and_leave(guest: Guest) -> Killed:
    """Do that with a crowd, and let it go."""
    guest.check(MOUNT)
    counted = {cache: guest.objects(cache) for cache in CACHES}
    guest.check('insmod /lib/rmapviz_kill.ko')
    try:
        with Scene(guest) as scene:
            scene.story(LARGE_CROWD)
            questions = [spelled(scene, question) for question in QUESTIONS]
            before = [scene.ask(question) for question in questions]
            status = kill_in_all(scene)
            after = [scene.ask(question) for question in questions]
    finally:
        guest.undo('rmmod rmapviz_kill')
    return Killed(status, before, after, *remains(guest, counted))


@pytest.fixture
def killed(stage: Stage) -> Killed:
    """What is left of askers that were killed."""
    return record(stage, 'askers that are killed', kill_and_leave)


def test_who_asks_dies_of_a_signal_in_whichever_function_it_comes(
        killed: Killed, note: Note) -> None:
    """And nearly all functions are called."""
    called = [status for status in killed.status.values() if status != '-']
    note(f'killed in {len(called)} functions of {len(killed.status)}')
    assert len(called) > 0.75 * len(killed.status) > 100
    assert set(called) == {'137'}


def test_questions_are_answered_as_before_when_askers_were_killed(
        killed: Killed) -> None:
    """No page has a reference too many, and no lock is held."""
    assert [steady(report) for report in killed.after] \
        == [steady(report) for report in killed.before]


def test_who_was_killed_keeps_nothing(killed: Killed) -> None:
    """Neither memory nor what it looked at, give or take the slab."""
    assert (killed.memory, killed.unmounted) == ('', (0, ''))
    assert [cache for cache, count in killed.kept.items() if count >= 30] == []


# ----------------------------------------- who asks is killed in the middle --

# Four million entries to look at.
LARGE = '''
    P map M 20000
    P madvise M 0 20000 nohugepage
    P write M 0 20000
    P forkmany 200 C
    '''
TIMED = 'read a rest </proc/uptime; {what}; read b rest </proc/uptime; '
# until it has gone, a third of the way through
KILLED_MIDWAY = ('{command} >/dev/null 2>&1 & sleep {third}; '
                 + TIMED.format(what='kill -9 $!; wait $!') + 'echo $a $b')
WHOLE = TIMED.format(what='{command} >/dev/null') + 'echo $a $b'


def seconds(scene: Scene, timed: str, **how: object) -> float:
    """That the timed part took; the shell may have said who was killed."""
    begun, ended = scene.guest.check(timed.format(**how), 120).split()[-2:]
    return float(ended) - float(begun)


@pytest.mark.parametrize('command', [
    pytest.param('ask {pfn} verify', id='verify'),
    pytest.param(f'dd if={SURVEY} bs=64M count=1', id='a survey in one read')])
def test_who_asks_what_takes_long_is_gone_as_soon_as_killed(
        scene: Scene, command: str, note: Note) -> None:
    """Long before it would have ended; a host may be busy once or twice."""
    scene.play(LARGE)
    command = command.format(pfn=scene.pfn('P', 'M'))
    whole = seconds(scene, WHOLE, command=command)
    killed = min(seconds(scene, KILLED_MIDWAY, command=command,
                         third=whole / 3) for _ in range(3))
    note(f'{whole:.2f} s, gone {killed:.2f} s after it was killed')
    assert killed < whole / 6
