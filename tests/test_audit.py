"""top and audit of tools/rmapviz on a machine: against what /proc says."""

import base64
import json
from pathlib import Path
from typing import Any, Iterator, List

import pytest

import stories
from rvtest import debian, vm
from rvtest.guest import Guest
from rvtest.scene import Scene
from test_gap import KSM, MERGED, slow_ksmd

SECONDS = 60
KERNELS = vm.some_kernels
COMMAND = f'{debian.TOOLS}/rmapviz'


@pytest.fixture(scope='module')
def system(served: str, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Guest]:
    """With a server, whose processes are quiet."""
    directory: Path = tmp_path_factory.mktemp('tools')
    with debian.with_tools(served, directory) as running:
        running.check(f'echo 0 >{KSM}/sleep_millisecs; '
                      f'echo 1000 >{KSM}/pages_to_scan')
        for function in stories.FUNCTIONS:
            running.check(function)
        yield running


@pytest.fixture
def actors(system: Guest) -> Iterator[Scene]:
    """An actor in it."""
    with Scene(system) as new:
        yield new


def lines(system: Guest, words: str, status: int = 0) -> List[Any]:
    """What the command says to programs."""
    code, output = system.run(f'{COMMAND} {words} --json', 600)
    assert code == status, output
    return [json.loads(line) for line in output.splitlines()]


def test_an_audit_of_a_quiet_machine_finds_nothing(system: Guest) -> None:
    """Of thousands of folios, all of which somebody maps."""
    said, = lines(system, 'audit')
    assert said['finds'] == []
    assert said['folios'] > 1000 and said['entries'] > said['folios']
    assert said['address_spaces'] > 6


def test_an_audit_names_the_gap_of_ksm_and_finds_nothing_else(
        system: Guest, actors: Scene) -> None:
    """Until ksmd has passed."""
    actors.story(MERGED)
    pfn = actors.pfn('C', 'M')
    with slow_ksmd(system):
        system.wait_for(f"ask '{pfn}' | grep -q 'does not reach'")
        said, = lines(system, 'audit')
    system.check('ksm')
    after, = lines(system, 'audit')
    assert [(find['pfn'], find['explained']) for find in said['finds']] \
        == [(pfn, True)]
    assert 'ksmd' in said['finds'][0]['text']
    assert after['finds'] == []


def test_an_audit_beside_forks_and_exits_finds_nothing(system: Guest) -> None:
    """What changes between the two passes is looked at again."""
    system.check('while :; do (dd if=/dev/zero of=/dev/null bs=1M count=4; '
                 'true) 2>/dev/null; done & storm=$!')
    try:
        said, = lines(system, 'audit')
    finally:
        system.run('kill $storm; wait $storm')
    assert said['finds'] == []


def test_a_page_that_is_held_is_on_top_of_those(system: Guest, actors: Scene
                                                ) -> None:
    """With who maps it."""
    actors.story('P map M 4\nP write M\nP uring M 1 2')
    pfn = actors.pfn('P', 'M', 1)
    found = {row['pfn']: row for row in lines(system, 'top --pinned')}
    assert found[pfn]['dma_pins'] == 1
    assert [group['pids'] for group in found[pfn]['who']] \
        == [[actors.pids['P']]]


# Looks for frames in all pagemaps: it prints each with the pids that have it.
SCAN = """
import os, sys
wanted, found = set(map(int, sys.argv[1:])), {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    for line in open(f"/proc/{pid}/maps"):
        first, last = (int(word, 16) for word in line.split()[0].split("-"))
        if last >> 47:
            continue
        with open(f"/proc/{pid}/pagemap", "rb") as file:
            file.seek(first // 512)
            words = memoryview(file.read((last - first) // 512)).cast("Q")
        for word in words:
            if word >> 63 and word & (1 << 55) - 1 in wanted:
                found.setdefault(word & (1 << 55) - 1, set()).add(int(pid))
for pfn, pids in found.items():
    print(pfn, *pids)
"""


def test_what_is_shared_most_is_whose_the_pagemaps_say(system: Guest) -> None:
    """Of small pages: all that have one in their pagemaps, and no others; but
    for the command and the scan, which are processes, too."""
    there = set(map(int, system.check('pgrep .').split()))
    said = {row['pfn']: there & {pid for group in row['who']
                                 for pid in group['mapping_pids']}
            for row in lines(system, 'top --shared -n 40')
            if row['order'] == 0}
    script = base64.b64encode(SCAN.encode()).decode()
    system.check(f'echo {script} | base64 -d >/tmp/scan')
    found = {int(pfn): there & set(map(int, pids)) for pfn, *pids in map(
        str.split, system.check(f"/usr/bin/python3 /tmp/scan "
                                f"{' '.join(map(str, said))}",
                                300).splitlines())}
    assert len(said) > 20 and max(map(len, said.values())) > 5
    assert found == said


def test_only_what_a_process_has_is_on_top(system: Guest, actors: Scene
                                           ) -> None:
    """All pages of its region, and each has it among who has it."""
    actors.story('P map M 3\nP write M\nP fork C')
    rows = lines(system, f"top --shared -n 1000 --pid {actors.pids['C']}")
    for row in rows:
        assert actors.pids['C'] in {pid for group in row['who']
                                    for pid in group['mapping_pids']}
    assert {actors.pfn('P', 'M', i) for i in range(3)} \
        <= {row['pfn'] for row in rows}


def test_the_family_of_a_crowd_is_the_largest(system: Guest, actors: Scene
                                              ) -> None:
    """With its processes and its VMAs; the region is not the only one."""
    actors.story('P map M 1\nP write M\nP forkmany 20 W')
    row, = lines(system, 'top --families -n 1')
    assert row['processes'] == 21
    assert row['pid'] in actors.pids.values()
