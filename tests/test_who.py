"""Who may ask, and who is shown addresses of the kernel.

Root with all capabilities is asked about in tests/test_query.py, and lockdown
in tests/test_lockdown.py.
"""

import re
from typing import Iterator, List

import pytest

from rvtest.guest import Guest
from rvtest.report import parse
from rvtest.scene import FAMILIES, FILE, SURVEY, Scene
from rvtest.vm import some_kernels
from stories import slug

KERNELS = some_kernels
SECONDS = 15

PARAMETER = '/sys/module/rmapviz/parameters/query'
ANSWER = f'{FILE}_answer'
AT = '0x10000000000'    # where an actor's first region is

CAP_SYS_ADMIN, CAP_SYSLOG = 21, 34

# As whom, and what they are told by whom.
DENIED = 'Permission denied'            # by the mode of the file
FORBIDDEN = 'Operation not permitted'   # by the module
OTHERS = (
    ('root without CAP_SYS_ADMIN', f'-c {CAP_SYS_ADMIN}', FORBIDDEN),
    ('root of a user namespace', '-U', FORBIDDEN),
    ('a user', '-u 1000', DENIED),
    ('a user who is root of a user namespace', '-u 1000 -U', DENIED),
)
each_other = pytest.mark.parametrize('other, told', [
    pytest.param(*row, id=slug(name)) for name, *row in OTHERS])

# Those who are not shown addresses, though they were given a descriptor.
UNTRUSTED = (
    ('root without CAP_SYSLOG', f'-c {CAP_SYSLOG}'),
    ('root of a user namespace', '-U'),
    ('a user', '-u 1000'),
)
each_untrusted = pytest.mark.parametrize('other', [
    pytest.param(row, id=slug(name)) for name, row in UNTRUSTED])

# A kernel address, as text or JSON would print it; in a grep of busybox.
ADDRESS = 'ffff[0-9a-f]\\{12\\}'

# Pages of all sorts of users, of which all is asked that can be.
CROWD = '''
    ! head -c 65536 </bin/busybox >/tmp/data
    ! echo 1 >/proc/sys/vm/nr_hugepages
    P map A 4
    P write A
    P map F 4 shared file /tmp/data 0
    P write F
    P map S 4 shared
    P write S
    P map H 512 shared hugetlb
    P write H 0
    P fork C
    C fork D
    C write A 0
    C read F
    C read H 0
    '''
OPTIONS = ('', 'brief', 'full', 'folio', 'verify', 'folio full verify')


def needs_namespaces(guest: Guest, other: str) -> None:
    """Skip where the kernel has none."""
    if '-U' in other and guest.run('test -e /proc/self/ns/user').status:
        pytest.skip('the kernel is built without user namespaces')


def run_as(guest: Guest, other: str, command: str) -> str:
    """What somebody else is told; 3 may be a descriptor."""
    needs_namespaces(guest, other)
    return guest.run(f"as {other} sh -c '{command}' 2>&1").output


# --------------------------------------------------------------- who asks --

@pytest.mark.parametrize('command', (
    pytest.param(f'exec 3<>{FILE}', id='rmapviz'),
    pytest.param(f'cat {FILE}', id='rmapviz-for-reading'),
    pytest.param(f'echo 1 >{FILE}', id='rmapviz-for-writing'),
    pytest.param(f'cat {ANSWER}', id='rmapviz_answer'),
    pytest.param(f'head -c 1 {SURVEY}', id='rmapviz_survey'),
    pytest.param(f'head -c 1 {FAMILIES}', id='rmapviz_families'),
    pytest.param(f'echo 1 >{PARAMETER}', id='parameter')))
@each_other
def test_nobody_but_root_may_ask(guest: Guest, other: str, told: str,
                                 command: str) -> None:
    """And the last question is what it was."""
    guest.check(f'echo 0 brief >{FILE}')
    # debugfs lets nobody else in; the files themselves are what is asked about
    mode = guest.check('stat -c %a /sys/kernel/debug').strip()
    guest.check('chmod 755 /sys/kernel/debug')
    said = run_as(guest, other, command)
    guest.check(f'chmod {mode} /sys/kernel/debug')
    assert told in said
    assert guest.check(f'cat {PARAMETER}') == '0 brief\n'


# ------------------------------------------------------------- descriptors --

@pytest.fixture
def given(guest: Guest) -> Iterator[Guest]:
    """A guest with descriptor 3 for reading and writing, as root opened it."""
    guest.check(f'exec 3<>{FILE}')
    yield guest
    if not guest.broken:
        guest.run('exec 3>&-')


@each_untrusted
def test_who_was_given_a_descriptor_may_ask(given: Guest, other: str) -> None:
    """As with any other file."""
    assert run_as(given, other, 'echo 0 brief >&3 && cat <&3') \
        .startswith('PFN 0x0 is')


@each_untrusted
def test_who_was_given_a_descriptor_is_refused_ptrs(given: Guest, other: str
                                                    ) -> None:
    """It depends on who asks, not on who has opened the file."""
    assert FORBIDDEN in run_as(given, other, 'echo 0 ptrs >&3')


@pytest.mark.parametrize('value', (0, 1, 2))
def test_ptrs_without_cap_syslog_is_refused_whatever_kptr_restrict(
        given: Guest, value: int) -> None:
    """0 as well, by which the kernel hides nothing but its log."""
    given.check(f'echo {value} >/proc/sys/kernel/kptr_restrict')
    said = run_as(given, f'-c {CAP_SYSLOG}', 'echo 0 ptrs >&3')
    given.check('echo 0 >/proc/sys/kernel/kptr_restrict')
    assert FORBIDDEN in said


@pytest.mark.parametrize('name', (
    pytest.param(FILE, id='rmapviz'),
    pytest.param(ANSWER, id='rmapviz_answer')))
def test_who_reads_what_root_has_asked_with_ptrs_is_refused(
        guest: Guest, name: str) -> None:
    """For the question is asked again, by who reads."""
    guest.check(f'echo 0 ptrs >{FILE}')
    assert FORBIDDEN in run_as(guest, f'-c {CAP_SYSLOG}', f'cat {name}')


@pytest.mark.parametrize('name', (
    pytest.param(FILE, id='rmapviz'),
    pytest.param(ANSWER, id='rmapviz_answer')))
def test_a_reader_is_refused_ptrs_when_kptr_restrict_has_become_2(
        guest: Guest, name: str) -> None:
    """Even root, who might ask before."""
    guest.check(f'echo 0 ptrs >{FILE}; cat {name}; '
                'echo 2 >/proc/sys/kernel/kptr_restrict')
    said = guest.run(f'cat {name}').output
    guest.check('echo 0 >/proc/sys/kernel/kptr_restrict')
    assert FORBIDDEN in said


# -------------------------------------------------------------- addresses --

def questions(scene: Scene, more: str) -> List[str]:
    """Everything that can be asked of a few pages, in both forms."""
    pid = scene.pids['C']
    pages = [f"{scene.pfn('P', region)}" for region in 'AFSH']
    targets = [(target, options) for target in
               (*pages, f'pid {pid} {AT}', '0', '1')
               for options in OPTIONS]
    targets += [(f'pid {pid}', options) for options in ('', 'brief', 'full')]
    return [' '.join(f'{target} {options} {form} {more}'.split())
            for target, options in targets for form in ('text', 'json')]


def addresses(guest: Guest, queries: List[str]) -> int:
    """How many lines of the answers have one; each must be answered."""
    lines = '\\n'.join(queries)
    guest.check(f"printf '{lines}\\n' | ask - >/tmp/answers", 300)
    return int(guest.run(f"grep -c '{ADDRESS}' /tmp/answers").output)


def test_no_answer_without_ptrs_has_a_kernel_address(scene: Scene) -> None:
    """Whatever is asked, in whatever form."""
    scene.story(CROWD)
    assert addresses(scene.guest, questions(scene, '')) == 0


def test_most_answers_with_ptrs_have_kernel_addresses(scene: Scene) -> None:
    """Or the search for them would find nothing anyway."""
    scene.story(CROWD)
    queries = questions(scene, 'ptrs')
    assert addresses(scene.guest, queries) > len(queries)


def test_no_frame_is_told_of_with_a_kernel_address(guest: Guest) -> None:
    """Every 61st of the first GB, whatever it is used for, in both forms."""
    found = guest.run(
        'seq 0 61 262143 | sed "h;s/$/ json/;p;g;s/$/ full/" | ask - '
        f"| grep -v ^== | tee /tmp/answers | grep -c '{ADDRESS}'", 300).output
    assert found == '0\n'
    assert int(guest.check('grep -c "^PFN 0x" /tmp/answers')) > 3000


@pytest.mark.parametrize('name', (
    pytest.param(SURVEY, id='rmapviz_survey'),
    pytest.param(FAMILIES, id='rmapviz_families')))
def test_no_line_of_a_listing_has_a_kernel_address(scene: Scene, name: str
                                                   ) -> None:
    """Whoever reads it."""
    scene.story(CROWD)
    guest = scene.guest
    lines, found = guest.run(f"cat {name} | tee /tmp/lines | wc -l; "
                             f"grep -c '{ADDRESS}' /tmp/lines").output.split()
    assert int(lines) > 5
    assert found == '0'


# ---------------------------------------------------------- pid namespaces --

def test_a_pid_is_that_of_the_namespace_of_who_asks(guest: Guest) -> None:
    """Its first process asks about itself."""
    output = run_as(guest, '-P', f'exec 3<>{FILE}; echo pid 1 json >&3; '
                    'cat <&3')
    assert [mm['pid'] for mm in parse(output)['mms']].count(1) == 1


def test_a_process_outside_of_the_namespace_cannot_be_asked_about(
        scene: Scene) -> None:
    """There is no such process for who is inside."""
    said = run_as(scene.guest, '-P',
                  f"echo pid {scene.pids['P']} >{FILE}")
    assert 'No such process' in said


def test_processes_outside_of_the_namespace_are_shown_as_0(scene: Scene
                                                           ) -> None:
    """They map the page, and who asks has no number for them."""
    scene.play('P map M 1\nP write M\nP fork C')
    pfn = scene.pfn('P', 'M')
    output = run_as(scene.guest, '-P', f'exec 3<>{FILE}; '
                    f'echo {pfn} json >&3; cat <&3')
    report = parse(output)
    assert ([mm['pid'] for mm in report['mms']], report['walk']['mapped']) \
        == ([0, 0], 2)


def test_families_outside_of_the_namespace_are_not_listed(scene: Scene
                                                          ) -> None:
    """Those of the shell there, and of what it runs, are."""
    scene.play('P map M 1\nP write M')
    text = run_as(scene.guest, '-P', f'cat {FAMILIES}; :')
    heading, *rest = text.splitlines()
    column = heading.split().index('PID')
    pids = {int(line.split()[column]) for line in rest}
    assert 1 in pids and max(pids) < 10
    assert scene.pids['P'] > 10


def test_the_text_for_a_namespace_has_no_pid_from_outside(scene: Scene
                                                          ) -> None:
    """In none of its rows."""
    scene.play('P map M 1\nP write M\nP fork C')
    text = run_as(scene.guest, '-P', f'exec 3<>{FILE}; '
                  f"echo {scene.pfn('P', 'M')} >&3; cat <&3")
    assert text.startswith('PFN 0x'), text
    assert [pid for pid in scene.pids.values()
            if re.search(rf'VMA\d+ +{pid} ', text)] == []
