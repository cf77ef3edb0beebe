"""tools/rmapviz as somebody meets it who has a problem, and no PFN.

In guests with a libc, python3, a web server and a database.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

from rvtest import blocks, debian, vm
from rvtest.guest import Guest, GuestError
from rvtest.scene import Scene

SECONDS = 60
KERNELS = vm.newest_kernel

# Half of the memory is for what can be moved, so that a block of it can be
# taken offline; the rest, a little less than half, is rounded up to whole
# blocks.
APPEND = 'kernelcore=508M'

COMMAND = f'{debian.TOOLS}/rmapviz'
EPERM_SHELL = '/usr/bin/setpriv --bounding-set -sys_admin'


@pytest.fixture(scope='module')
def system(served: str, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Guest]:
    """The machine of somebody with problems."""
    directory: Path = tmp_path_factory.mktemp('tools')
    with debian.with_tools(served, directory, APPEND) as running:
        yield running


@pytest.fixture
def scene_(system: Guest) -> Iterator[Scene]:
    """An actor in it."""
    with Scene(system) as new:
        yield new


def said(system: Guest, *words: str, status: int = 0) -> str:
    """What the command prints, on either stream."""
    code, output = system.run(f"{COMMAND} {' '.join(words)}", 300)
    assert code == status, output
    return output


def told(system: Guest, *words: str, status: int = 0) -> Any:
    """What it says to programs."""
    return json.loads(said(system, *words, '--json', status=status))


def one_line(output: str) -> str:
    """What is said in a line, which is all there is."""
    line, = output.splitlines()
    return line


# ------------------------------------------------------ there is no answer --

def test_a_pfn_that_no_machine_has_is_said_in_a_line(system: Guest) -> None:
    """And the status tells it from a page that stays."""
    assert 'there is no such page' in one_line(
        said(system, 'why', '0xffffffffff', status=2))


@pytest.mark.parametrize('words', [
    'why 0x100', 'who 1:0-ffffffffffff', 'who --pid 1 --vma heap'])
def test_a_user_is_told_to_become_root(system: Guest, words: str) -> None:
    """What to type; not that of a process that it may not look at nothing is
    there."""
    status, output = system.run('/usr/bin/setpriv --reuid 1000 --clear-groups '
                                f'{COMMAND} {words}')
    assert status == 2
    assert 'sudo' in one_line(output)


def test_root_without_the_capability_is_told_so(system: Guest) -> None:
    """As in a container."""
    status, output = system.run(f'{EPERM_SHELL} {COMMAND} why 0x100')
    assert status == 2
    assert 'CAP_SYS_ADMIN' in one_line(output)


def test_without_debugfs_it_says_how_to_mount_it(system: Guest) -> None:
    """One line to type."""
    system.check('mount --bind /run /sys/kernel/debug')
    try:
        system.check('mkdir -p /run/empty; mount --bind /run/empty '
                     '/sys/kernel/debug')
        output = said(system, 'why', '0x100', status=2)
    finally:
        system.check('umount /sys/kernel/debug; umount /sys/kernel/debug')
    assert 'mount -t debugfs' in one_line(output)


def test_without_the_module_it_says_how_to_load_it(system: Guest) -> None:
    """One line to type."""
    system.check('rmmod rmapviz')
    try:
        output = said(system, 'why', '0x100', status=2)
    finally:
        system.check('insmod /root/rmapviz.ko')
    assert 'modprobe rmapviz' in one_line(output)


# ------------------------------------------ memory that does not go offline --

def log_of_offlining(system: Guest, pfn: int) -> str:
    """What the kernel prints where it tries in vain to empty the block of a
    page, until it was given a signal."""
    state = blocks.state_of(pfn // blocks.FRAMES)
    system.check('dmesg -c >/dev/null')
    # it gives up at once where something else is in the way for a moment
    system.check(f'while :; do echo offline >{state}; sleep 1; done '
                 '2>/tmp/offliner & offliner=$!')
    try:
        system.wait_for(f'dmesg | grep -q "migrating pfn {pfn:x} "', 60)
    except GuestError as error:
        pytest.fail(f"{error}: {system.check('cat /tmp/offliner; dmesg')}")
    finally:
        system.run('kill $offliner; wait $offliner')
    return system.check('dmesg')


def some_page(scene: Scene, story: str, page: int = 0) -> int:
    """A page of P."""
    scene.story(story)
    return scene.pfn('P', 'M', page)


SPREAD = 45000      # pages of P at a time, over several blocks
REGIONS = 'MNOQ'    # of that size fit into memory


def page_to_empty(scene: Scene) -> Tuple[str, int]:
    """A page of P, and its frame, in a block that could go offline."""
    movable = [int(name) for name in scene.guest.check(
        f"grep -lx Movable {blocks.BLOCKS}/memory*/valid_zones | "
        "sed 's/.*memory\\([0-9]*\\)\\/.*/\\1/'").split()]
    free = [block for block in movable
            if not blocks.any_reserved(scene.guest, block)]
    for region in REGIONS:
        scene.play(f'P map {region} {SPREAD}\n'
                   f'P madvise {region} 0 {SPREAD} nohugepage\n'
                   f'P write {region}')
        for page in range(0, SPREAD, 500):
            pfn = scene.pfn('P', region, page)
            if pfn // blocks.FRAMES in free:
                return f'{region} {page}', pfn
    pytest.fail(f'none of it is in {free}, of {movable}')


def test_the_log_of_a_failed_offlining_leads_to_who_did_it(
        system: Guest, scene_: Scene) -> None:
    """The lines that the kernel prints, piped in, name the process that has
    put the page into a pipe."""
    page, pfn = page_to_empty(scene_)
    scene_.story(f'P vmsplice {page}')
    log = log_of_offlining(system, pfn)
    assert f'migrating pfn {pfn:x} failed' in log
    status, output = system.run(f'dmesg | {COMMAND} why -')
    assert status == 1
    assert re.search(rf'^PFN {pfn:#x} .*is an anonymous page', output,
                     re.MULTILINE)
    assert re.search(r'will it move\?  not now: 1 reference that no mapping',
                     output)
    assert re.search(rf"candidate.*P \({scene_.pids['P']}\).*: "
                     r'pipe:\[\d+\] with 4,096 bytes in it', output), output


def test_a_buffer_of_io_uring_is_found_by_its_address(
        system: Guest, scene_: Scene) -> None:
    """Which fdinfo lists: so it is no candidate, but holds the page."""
    pfn = some_page(scene_, 'P map M 4\nP write M\nP uring M 1 2', 2)
    case = told(system, 'why', f'{pfn:#x}', status=1)
    assert case['migrate'] == {'verdict': 'not now', 'reasons': ['dma-pins']}
    holder, = case['holders']
    assert (holder['certainty'], holder['how'], holder['pid']) \
        == ('holds', 'io_uring', scene_.pids['P'])


def test_an_empty_pipe_is_no_candidate(system: Guest, scene_: Scene) -> None:
    """Of a page that nobody maps any more, whose holder can be anybody."""
    pfn = some_page(scene_, 'P map M 2\nP write M\nP vmsplice M 0')
    scene_.story('P unmap M 0 2')
    system.check('sleep 1000 | sleep 1000 & sleepers=$!')
    try:
        case = told(system, 'why', f'{pfn:#x}', status=1)
    finally:
        system.check('kill $sleepers; killall sleep')
    assert case['migrate']['reasons'] == ['extra-refs', 'unmapped']
    assert {(holder['how'], holder['pid']) for holder in case['holders']} \
        == {('pipe', scene_.pids['P'])}


# The first page of a file goes into a socket, and stays there; another socket
# has nothing in it.
SEND = (
    'import os, socket, time; '
    'ends, idle = socket.socketpair(), socket.socketpair(); '
    'os.sendfile(ends[0].fileno(), os.open("/root/sent", os.O_RDONLY), 0, '
    '4096); open("/tmp/sent", "w").close(); time.sleep(1000)')


def test_a_page_of_a_file_that_waits_in_a_socket_is_found(system: Guest
                                                          ) -> None:
    """Though it is of AF_UNIX, of which /proc/net does not say how much it
    has."""
    system.check('head -c 4096 /bin/busybox >/root/sent; sync')
    system.check(f"/usr/bin/python3 -c '{SEND}' & sender=$!; echo $sender "
                 '>/tmp/sender')
    try:
        system.wait_for('test -e /tmp/sent')
        page, = [json.loads(line) for line in said(
            system, 'who', '--file', '/root/sent', '--json').splitlines()]
        case = told(system, 'why', str(page['page']['pfn']), status=1)
    finally:
        system.check('kill $sender; rm /tmp/sent')
    sender = int(system.check('cat /tmp/sender'))
    # it has both ends: one has something to send, the other to be read
    assert [(holder['how'], holder['pid'], holder['certainty'])
            for holder in case['holders'] if holder['how'] == 'socket'] \
        == 2 * [('socket', sender, 'candidate')]


def test_a_page_that_moves_is_said_to(system: Guest, scene_: Scene) -> None:
    """With status 0."""
    pfn = some_page(scene_, 'P map M 1\nP write M')
    output = said(system, 'why', f'pfn:{pfn:x}')
    assert 'will it move?  yes' in output
    assert f"P ({scene_.pids['P']})" in output


def test_a_block_says_which_of_its_pages_stay(
        system: Guest, scene_: Scene) -> None:
    """By its name in /sys/devices/system/memory."""
    pfn = some_page(scene_, 'P map M 2\nP write M\nP vmsplice M 1', 1)
    block = told(system, 'why', f'memory{pfn // blocks.FRAMES}', status=1)
    assert pfn in [page['page']['pfn'] for page in block['stay']]
    assert block['free'] + block['movable'] + block['absent'] \
        + sum(1 << page['page']['order'] for page in block['stay']) \
        == block['count'] == blocks.FRAMES


def test_a_closed_pipe_ends_it_quietly(system: Guest, scene_: Scene) -> None:
    """As it does other commands."""
    pfn = some_page(scene_, 'P map M 1\nP write M')
    output = system.check(f'{COMMAND} why {pfn:#x} {pfn:#x} | head -n 1')
    assert output.startswith(f'PFN {pfn:#x}')


# --------------------------------------------------------- whose page it is --

def pids(groups: List[Any]) -> Set[int]:
    """Of those who map it."""
    return {pid for group in groups for pid in group['mapping_pids']}


def heap_of(system: Guest, pid: str) -> Tuple[int, int]:
    """First and last address of a process's heap."""
    start, end = system.check(
        f"sed -n '/\\[heap]/s/ .*//p' /proc/{pid}/maps").split('-')
    return int(start, 16), int(end, 16)


def parent_of_server(system: Guest, name: str = 'apache2') -> str:
    """The process that has started all others."""
    return system.check(f'pgrep -o {name}').strip()


def sharers(system: Guest, address: int, name: str = 'apache2'
            ) -> Dict[int, int]:
    """The frame at an address of each process of the server, by pagemap."""
    found = {}
    for pid in system.check(f'pgrep {name}').split():
        word = system.check(
            f'dd if=/proc/{pid}/pagemap bs=8 count=1 skip={address // 4096} '
            '2>/dev/null | od -An -tx8')
        if int(word, 16) >> 63:
            found[int(pid)] = int(word, 16) & ((1 << 55) - 1)
    return found


def test_the_heap_of_a_server_is_shared_as_its_pagemaps_say(
        system: Guest) -> None:
    """Page by page, by an independent scan."""
    parent = parent_of_server(system)
    pages = [json.loads(line) for line in said(
        system, 'who', '--pid', parent, '--vma', 'heap', '--max', '12',
        '--json').splitlines()]
    asked = [page for page in pages if 'page' in page]
    assert len(asked) > 5
    for page in asked:
        frames = sharers(system, int(page['address'], 16))
        assert pids(page['who']) == {
            pid for pid, frame in frames.items()
            if frame == page['page']['pfn']}


@pytest.fixture(scope='module')
def database(system: Guest) -> Iterator[str]:
    """PostgreSQL with two clients, by its first process; its files, all root's
    in the image, are given to it."""
    system.check('cd /tmp; chown -R postgres: /var/lib/postgresql '
                 '/var/log/postgresql /etc/postgresql; '
                 "set -- $(pg_lsclusters -h); cluster=\"$1 $2\"; "
                 "pg_ctlcluster $cluster start -- "
                 "-o '-c listen_addresses= -c ssl=off'", 120)
    for _ in range(2):
        system.check("su postgres -c 'psql -qc \"select pg_sleep(10000)\"' & ")
    # older procps has a blank for each byte that is left of the title's room
    system.wait_for('[ $(pgrep -cfx "postgres: .*SELECT *") = 2 ]')
    yield parent_of_server(system, 'postgres')
    system.check('pg_ctlcluster -m fast $cluster stop; cd /root', 120)


def test_the_buffers_of_a_database_are_whose_its_pagemaps_say(
        system: Guest, database: str) -> None:
    """Shared memory of all its processes, of which each has touched some; none
    runs meanwhile, or it could touch more."""
    system.check('killall -STOP postgres')
    try:
        pages = [page for page in map(json.loads, said(
            system, 'who', '--pid', database, '--vma', '/dev/zero', '--max',
            '8', '--json').splitlines()) if 'page' in page]
        frames = [sharers(system, int(page['address'], 16), 'postgres')
                  for page in pages]
    finally:
        system.check('killall -CONT postgres')
    assert len(pages) > 5
    assert {page['page']['kind'] for page in pages} == {'shmem'}
    assert [pids(page['who']) for page in pages] == [
        {pid for pid, frame in known.items() if frame == page['page']['pfn']}
        for page, known in zip(pages, frames)]


def test_the_heap_of_a_database_is_its_familys(system: Guest, database: str
                                               ) -> None:
    """Each process has forked off the first, and has a line with the others.
    """
    output = said(system, 'who',
                  f'{database}:{heap_of(system, database)[0]:x}')
    line, = [line for line in output.splitlines() if 'postgres x' in line]
    match = re.search(r'postgres x(\d+) ', line)
    assert match and int(match[1]) == len(
        system.check('pgrep postgres').split())


def test_processes_of_a_server_are_one_line(system: Guest) -> None:
    """How many map it, and how many were visited in vain."""
    parent = parent_of_server(system)
    output = said(system, 'who', f'{parent}:{heap_of(system, parent)[0]:x}')
    line, = [line for line in output.splitlines() if 'apache2 x' in line]
    number = len(system.check('pgrep apache2').split())
    match = re.search(r'apache2 x(\d+) .*maps (\d+)'
                      r'(?:, visited in vain (\d+))?', line)
    assert match and int(match[1]) == number, line
    assert int(match[2]) + int(match[3] or 0) == number


def test_all_of_them_are_a_line_each_if_asked_for(system: Guest) -> None:
    """By pid."""
    parent = parent_of_server(system)
    output = said(system, 'who', '--all',
                  f'{parent}:{heap_of(system, parent)[0]:x}')
    assert {int(pid) for pid in re.findall(r'apache2 \((\d+)\)', output)} \
        == set(map(int, system.check('pgrep apache2').split()))


def test_a_page_of_libc_is_everybodys_who_has_it(system: Guest) -> None:
    """By the path of the file, whoever maps it where."""
    path = system.check("sed -n 's/.* \\(\\/.*libc[-.].*so.*\\)/\\1/p' "
                        '/proc/self/maps | head -n 1; '
                        "sed -n 's/.* \\(\\/.*libc[-.].*so.*\\)/\\1/p' "
                        f'/proc/{parent_of_server(system)}/maps | head -n 1'
                        ).split()[-1]
    pages = [page for page in map(json.loads, said(
        system, 'who', '--file', path, '--max', '20', '--json').splitlines())
        if 'page' in page]
    assert {(page['page']['kind'], page['page']['file'])
            for page in pages} == {('file', path)}
    servers = set(map(int, system.check('pgrep apache2').split()))
    assert [page for page in pages if servers <= pids(page['who'])]


def test_what_is_not_cached_of_a_file_is_not_read(system: Guest) -> None:
    """It is said not to be there."""
    system.check('head -c 1000000 /dev/zero >/root/cold; sync; '
                 'echo 1 >/proc/sys/vm/drop_caches')
    pages = [json.loads(line) for line in said(
        system, 'who', '--file', '/root/cold', '--json', status=1
    ).splitlines()]
    assert {page['absent'] for page in pages} == {'not there'}
    assert len(pages) == 245


def test_a_page_that_is_swapped_out_is_said_to_be(
        system: Guest, scene_: Scene) -> None:
    """And where."""
    system.check('head -c 16777216 /dev/zero >/root/swapfile; '
                 'chmod 600 /root/swapfile; mkswap /root/swapfile; '
                 'swapon /root/swapfile')
    try:
        # no page is written out before it is on a list of the LRU
        scene_.story('P map M 2\nP write M')
        scene_.play('P madvise M 0 1 pageout')
        pid = scene_.pids['P']
        gone = said(system, 'who', f'{pid}:10000000000', status=1)
        there = said(system, 'who', f'{pid}:10000001000')
    finally:
        system.run('killall -9 actor')
        system.check('swapoff /root/swapfile')
    assert re.search(r'swapped out, to page \d+ of /root/swapfile',
                     one_line(gone))
    assert f'P ({pid})' in there


def test_an_address_without_a_page_is_said_to_have_none(
        system: Guest, scene_: Scene) -> None:
    """No VMA, or one that was never touched."""
    scene_.play('P map M 1')
    pid = scene_.pids['P']
    assert 'no VMA' in one_line(said(system, 'who', f'{pid}:1000', status=1))
    assert 'never touched' in one_line(
        said(system, 'who', f'{pid}:10000000000', status=1))


def test_a_process_that_there_is_not_is_said_in_a_line(system: Guest) -> None:
    """With either way to ask."""
    for words in (['99999:1000'], ['--pid', '99999', '--vma', 'heap']):
        assert 'no process 99999' in one_line(
            said(system, 'who', *words, status=2))


# ------------------------------------------------------------------ totals --

def test_promtool_takes_the_totals_of_a_machine(system: Guest) -> None:
    """It says nothing of them, of their names neither, but does of others."""
    root = vm.made('tool-root', 'prometheus')

    def check(metrics: str) -> Tuple[int, str]:
        done = subprocess.run(
            [vm.VM / 'in-root', root, 'promtool', 'check', 'metrics'],
            input=metrics, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    metrics = said(system, 'top', '--prometheus')
    assert metrics.count('# TYPE rmapviz_') > 10
    assert check(metrics) == (0, '')
    assert check(metrics.replace('# HELP', '#'))[0] != 0


# ------------------------------------------------------------------ watch --

def test_what_changes_is_told_while_it_is_watched(
        system: Guest, scene_: Scene) -> None:
    """Who came, who went, and that it will not move any more."""
    scene_.story('P map M 1\nP write M\nP fork C')
    pfn = scene_.pfn('P', 'M')
    system.check(f'{COMMAND} watch {pfn:#x} -i 2 --times 200 >/tmp/watched '
                 '& watcher=$!')
    try:
        system.wait_for('grep -q "is an anonymous page" /tmp/watched')
        scene_.story('P fork D\nC exit\nP vmsplice M 0')
        system.wait_for('grep -q "will it move? not now; yes before" '
                        '/tmp/watched')
    finally:
        system.run('kill $watcher; wait $watcher')
    told_ = system.check('cat /tmp/watched')
    assert re.search(r'D \(\d+\) came', told_)
    assert re.search(r'C \(\d+\) went', told_)


def test_a_picture_is_drawn_of_what_is_asked(system: Guest, scene_: Scene
                                             ) -> None:
    """Where there is no Graphviz, in its language; else it is named."""
    scene_.story('P map M 1\nP write M\nP fork C')
    address = f"{scene_.pids['P']}:10000000000"
    assert said(system, 'draw', '--dot', address).startswith('digraph')
    assert 'apt-get install graphviz' in one_line(
        said(system, 'draw', '--svg', address, status=2))


# ----------------------------------------------------------- under lockdown --

# From here on the machine is locked down, from which there is no way back.

@pytest.fixture
def locked_down(system: Guest) -> Guest:
    """For integrity: no file of debugfs can be written to."""
    system.check('mountpoint -q /sys/kernel/security || '
                 'mount -t securityfs none /sys/kernel/security')
    if system.run('test -e /sys/kernel/security/lockdown').status:
        pytest.skip('this kernel has no lockdown')
    system.check('! grep -q "\\[none" /sys/kernel/security/lockdown || '
                 'echo integrity >/sys/kernel/security/lockdown')
    assert system.run("sh -c ': >>/sys/kernel/debug/rmapviz'").status
    return system


def test_under_lockdown_it_answers_all_the_same(
        locked_down: Guest, scene_: Scene) -> None:
    """By the parameter, without being told to."""
    pfn = some_page(scene_, 'P map M 1\nP write M\nP fork C')
    case = told(locked_down, 'why', f'{pfn:#x}')
    assert pids(case['who']) == {scene_.pids['P'], scene_.pids['C']}


def test_under_lockdown_errors_are_sentences(locked_down: Guest) -> None:
    """Of who reads the answer."""
    assert 'there is no such page' in one_line(
        said(locked_down, 'why', '0xffffffffff', status=2))
    assert 'no process 99999' in one_line(
        said(locked_down, 'who', '99999:1000', status=2))


def test_under_lockdown_two_users_get_their_own_answers(
        locked_down: Guest, scene_: Scene) -> None:
    """Though there is one question for all."""
    scene_.story('P map M 2\nP write M')
    first, second = (scene_.pfn('P', 'M', i) for i in range(2))
    locked_down.check(
        f'for i in 1 2 3 4 5; do {COMMAND} who {first:#x}; '
        'done >/tmp/first & '
        f'for i in 1 2 3 4 5; do {COMMAND} who {second:#x}; '
        'done >/tmp/second; wait $!')
    for name, pfn in (('first', first), ('second', second)):
        output = locked_down.check(f'cat /tmp/{name}')
        assert re.findall('^PFN (0x[0-9a-f]+) ', output, re.MULTILINE) \
            == [hex(pfn)] * 5


def test_under_lockdown_for_confidentiality_it_says_that_nobody_may(
        locked_down: Guest) -> None:
    """It is no capability that is missing."""
    locked_down.check('echo confidentiality >/sys/kernel/security/lockdown')
    for words in ['why', '0x100'], ['top', '--shared']:
        output = one_line(said(locked_down, *words, status=2))
        assert 'confidentiality' in output and 'CAP_SYS' not in output
