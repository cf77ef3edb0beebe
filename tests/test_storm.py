"""Everything that can be done to memory and by the module, all at once.

tests/guest/storm.c does it, on CPUs that run at the same time.  By hand, and
for longer: STORM_SECONDS=1800 make test TESTS=tests/test_storm.py.

TCG orders the memory of an x86 guest as strictly as x86 does, and more: what
only a weaker CPU shows is not found.
"""

import base64
import gzip
import os
import re
from typing import Callable, Dict, List, NamedTuple, Set, Tuple

import pytest

from rvtest import vm
from rvtest.disk import SETUP
from rvtest.guest import Guest
from rvtest.machine import Machine, two_nodes
from rvtest.report import faults as report_faults
from rvtest.report import parse
from rvtest.stage import Stage
from rvtest.text import faults as text_faults
from stories import version

SEED = int(os.environ.get('STORM_SEED', '14'))
KERNELS = vm.newest_unless_named
SECONDS = 90

# What is freed is overwritten, and looked at when it is allocated again.
# Three quarters of memory are for what can be moved, so that a block of it can
# be taken offline.
CHECKS = 'slub_debug=FZPU page_poison=1 init_on_alloc=0'
MOVABLE = 'kernelcore=1022M numa_balancing=disable'
# A log that had lost its first half could begin amidst a report of a full
# cgroup, and look like a trace of something else.
LOG = 'log_buf_len=16M'

CGROUP = '/tmp/cgroup'
DAMON = '/sys/module/damon_stat/parameters/enabled'
NEXT = '# next file'

# What there is to read while the module knows of no question.
HELP = 'rmapviz '

# What a question may end with: the page, process or address is not there (any
# more), the module is not, or goes while its parameter is written, locks or
# memory are short.
REFUSALS = {'ENXIO', 'ESRCH', 'EFAULT', 'ENOENT', 'ENODEV', 'EAGAIN', 'ENOMEM'}

Note = Callable[[str], None]


def length(series: str) -> int:
    """Seconds; a debug kernel is ten times as slow."""
    return int(os.environ.get('STORM_SECONDS',
                              '600' if vm.is_debug(series) else '60'))


def prepare(guest: Guest) -> None:
    """A disk, swap, KSM that hurries, DAMON that looks who uses what, a cgroup
    that kills, and one from which memory can be taken."""
    guest.check(SETUP)
    guest.check(f'mkdir -p {CGROUP}; mount -t cgroup2 cgroup {CGROUP}; '
                f'echo +memory >{CGROUP}/cgroup.subtree_control; '
                f'mkdir {CGROUP}/worked {CGROUP}/storm; '
                f'echo 16M >{CGROUP}/storm/memory.max; '
                f'echo 0 >{CGROUP}/storm/memory.swap.max')
    guest.check('[ ! -e /lib/hwpoison-inject.ko ] || '
                'insmod /lib/hwpoison-inject.ko')
    guest.check('echo 20 >/sys/kernel/mm/ksm/sleep_millisecs; '
                'echo 1000 >/sys/kernel/mm/ksm/pages_to_scan; '
                'echo 1 >/sys/kernel/mm/ksm/run; '
                f'[ ! -e {DAMON} ] || echo Y >{DAMON}')


# In two nodes, so that pages can move from one to the other.
MACHINE = Machine(
    name='storm', append=f'{CHECKS} {MOVABLE} {LOG}',
    arguments=two_nodes(2048),
    disks=True, parallel=True, prepare=prepare)


class Stormy(NamedTuple):
    """What was done how often and how often in vain, what the kernel says of
    that, how questions ended, and all answers."""

    did: Dict[str, Tuple[int, int]]
    events: Dict[str, int]
    asked: Dict[str, int]
    said: int       # answers that there are to be
    answers: List[str]
    kept: int       # address spaces that are left over
    unloaded: bool


def events(guest: Guest) -> Dict[str, int]:
    """How often the kernel says that it has done something."""
    return {name: int(number) for name, number in
            map(str.split, guest.check('cat /proc/vmstat').splitlines())}


def answers(guest: Guest) -> List[str]:
    """Those that are whole; who was killed has left the last one without end.

    Packed they are here sooner.
    """
    packed = guest.check('for file in /mnt/answers.*; do '
                         f'cat $file; echo; echo "{NEXT}"; done '
                         '| gzip -1 | base64', 600)
    return [answer for file in gzip.decompress(base64.b64decode(packed))
            .decode().split(f'\n{NEXT}\n')
            for answer in file.split('==\n')[:-1]]


def is_json(answer: str) -> bool:
    """And no text."""
    return answer.startswith('{')


def rage(guest: Guest) -> Stormy:
    """Let it, and look what is left."""
    before, kept = events(guest), guest.address_spaces()
    seconds = length(guest.series)
    said = guest.check(f'storm {seconds} {SEED} /mnt', seconds + 120)
    after = events(guest)
    did = {name: (int(number), int(failed)) for name, number, failed in
           re.findall(r'^did (\S+) (\d+) (\d+)$', said, re.MULTILINE)}
    asked = {name: int(number) for name, number in
             re.findall(r'^asked (\S+) (\d+)$', said, re.MULTILINE)}
    found = re.search(r'^answers (\d+)$', said, re.MULTILINE)
    assert found
    unloaded = guest.run('rmmod rmapviz && insmod /rmapviz.ko')
    return Stormy(did, {name: number - before[name]
                        for name, number in after.items()},
                  asked, int(found[1]), answers(guest),
                  guest.address_spaces() - kept, not unloaded.status)


@pytest.fixture
def stormy(stage: Stage) -> Stormy:
    """Once a kernel."""
    return stage.record('the storm', lambda: rage(stage.guest))


# What succeeds a few times a minute only, and may not in one.
RARE = {'soft-offline', 'swap'}
LONG = 300


def not_there(series: str) -> Set[str]:
    """What the kernel does not know."""
    since = {'populate-read': (5, 14), 'populate-write': (5, 14),
             'collapse': (6, 1)}
    missing = {name for name, first in since.items()
               if version(series) < first}
    config = vm.config(series)
    if 'CONFIG_MEMORY_FAILURE=y' not in config:
        missing |= {'soft-offline', 'poison', 'unpoison'}
    if 'CONFIG_TRANSPARENT_HUGEPAGE=y' not in config:
        missing |= {'hugepage', 'nohugepage', 'collapse'}
    if not {'CONFIG_HWPOISON_INJECT=y', 'CONFIG_HWPOISON_INJECT=m'} & config:
        missing.add('unpoison')
    return missing


def test_everything_is_done_in_the_storm(stormy: Stormy, series: str,
                                         note: Note) -> None:
    """And nothing that the kernel knows always fails, given time."""
    note(', '.join(f'{name} {number - failed}' for name, (number, failed)
                   in stormy.did.items()))
    never = {name for name, (number, failed) in stormy.did.items()
             if number == failed}
    assert never <= not_there(series) | (
        RARE if length(series) < LONG else set())


# What the kernel counts when it has really done it: migrated, swapped, split,
# compacted, killed, locked, mapped as a huge page.
EVENTS = {'pgmigrate_success', 'pswpout', 'pswpin', 'thp_split_page',
          'thp_fault_alloc', 'compact_isolated', 'oom_kill',
          'unevictable_pgs_mlocked', 'drop_pagecache'}


def test_the_kernel_has_done_what_it_was_asked_for(stormy: Stormy, note: Note
                                                   ) -> None:
    """For much succeeds that does nothing."""
    done = {name: stormy.events[name] for name in sorted(EVENTS)
            if name in stormy.events}
    note(f'{done}')
    assert 'pgmigrate_success' in done
    assert [name for name, number in done.items() if not number] == []


def test_questions_in_the_storm_are_answered_or_refused_as_documented(
        stormy: Stormy, series: str, note: Note) -> None:
    """By no other errno; and many are answered."""
    note(f'{stormy.asked}')
    assert set(stormy.asked) <= REFUSALS | {'ok'}
    assert stormy.asked['ok'] > length(series) / 2


def test_answers_in_json_agree_with_the_schema_and_themselves(
        stormy: Stormy, note: Note) -> None:
    """All that there were; whole, though all has changed meanwhile."""
    reports = [parse(answer) for answer in stormy.answers if is_json(answer)]
    retries = sum(report.get('walk', {}).get('retries', 0)
                  for report in reports)
    note(f'{len(reports)} answers, after {retries} retries')
    assert len(reports) > 40
    assert [(wrong, report) for report in reports if 'anon_vmas' in report
            and (wrong := report_faults(report, reuse=True))][:3] == []


def test_answers_as_text_agree_with_themselves(stormy: Stormy, note: Note
                                               ) -> None:
    """All, too: each begins with the answer, and tables are as long as they
    say."""
    texts = [answer for answer in stormy.answers
             if not is_json(answer) and not answer.startswith(HELP)]
    note(f'{len(texts)} answers')
    assert len(texts) > 40
    assert [(wrong, text) for text in texts
            if (wrong := text_faults(text))][:3] == []


def test_no_answer_is_lost(stormy: Stormy) -> None:
    """On their way to those who look at them."""
    assert len(stormy.answers) >= stormy.said


# What SLUB and page_poison write over what is free, in hex and as a number.
FREE = [word for byte in ('6b', '5a', 'aa')
        for word in (byte * 4, str(int(byte * 4, 16)),
                     str(int(byte * 8, 16)))]


def test_no_byte_of_free_memory_is_in_an_answer(stormy: Stormy) -> None:
    """Each byte of a record is written before it is read."""
    assert [(word, answer) for answer in stormy.answers for word in FREE
            if word in answer][:1] == []


def test_the_module_can_be_unloaded_when_the_storm_is_over(stormy: Stormy
                                                           ) -> None:
    """Nobody who was killed keeps it."""
    assert stormy.unloaded


def test_a_race_of_the_module_would_have_been_told_of(stage: Stage,
                                                      series: str) -> None:
    """As one of another module is; of rmapviz's nobody has complained."""
    if 'CONFIG_KCSAN=y' not in vm.config(series):
        pytest.skip('the kernel does not look for data races')
    stage.guest.check('insmod /lib/rmapviz_race.ko; rmmod rmapviz_race')
    assert re.search(r'BUG: KCSAN: .*\[rmapviz_race\]',
                     stage.guest.check('dmesg'))


def test_no_address_spaces_are_left_of_the_storm(stormy: Stormy, note: Note
                                                 ) -> None:
    """Give or take the slab; hundreds have come and gone."""
    note(f'{stormy.kept} more than before')
    assert stormy.kept < 10


# What a compiler calls for a kernel that has the option.
CALLS = {'CONFIG_KASAN=y': '__asan_', 'CONFIG_UBSAN=y': '__ubsan_',
         'CONFIG_KCSAN=y': '__tsan_'}


def test_the_module_is_built_to_be_watched_as_its_kernel_is(series: str
                                                            ) -> None:
    """Or nobody would notice what it does wrong."""
    calls = [call for option, call in CALLS.items()
             if option in vm.config(series)]
    if not calls:
        pytest.skip('the kernel does not look for mistakes')
    module = (vm.build(series) / 'rmapviz.ko').read_bytes()
    assert [call for call in calls if call.encode() not in module] == []
