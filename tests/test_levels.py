"""A CPU with page tables of five levels, and a kernel that has its own.

Other guests have four, so the fifth is folded there; and PTI is off where the
CPU needs none.
"""

from typing import NamedTuple, Set

import pytest

from rvtest import vm
from rvtest.machine import Machine
from rvtest.report import Mapping, Report, faults, mappings
from rvtest.stage import Stage
from stories import slug

MACHINE = Machine(name='five levels', append='pti=on',
                  arguments=('-cpu', 'max,la57=on'))
KERNELS = vm.newest_unless_named
SECONDS = 10

# Where four levels end, and not far before five do.
HIGH = 1 << 47
HIGHEST = (1 << 56) - 3 * 4096

BUILD = f'''
    ! head -c 65536 </bin/busybox >/tmp/data
    P map LOW 4
    P write LOW
    P map M 4 at {HIGH:x}
    P write M
    P map TOP 1 at {HIGHEST:x}
    P write TOP
    P map F 4 shared file /tmp/data 0 at {HIGH + (1 << 48):x}
    P write F
    P fork C
    C write M 1
    C read F
    '''

REGIONS = ('LOW', 'M', 'TOP', 'F')
each_region = pytest.mark.parametrize('region', REGIONS)


class Seen(NamedTuple):
    """A page, as the module and as the processes see it."""

    report: Report
    witness: Set[Mapping]


@pytest.fixture
def seen(stage: Stage, region: str) -> Seen:
    """The first page of that region."""
    def look() -> Seen:
        pfn = scene.pfn('P', region, 0)
        return Seen(scene.ask(f'{pfn} verify'), scene.witness(pfn))

    scene = stage.scene('high', lambda new: new.story(BUILD))
    return stage.once(slug(region), look)


# Page tables of the kernel's own: the option was renamed in 6.9.
PTI = {'CONFIG_PAGE_TABLE_ISOLATION=y',
       'CONFIG_MITIGATION_PAGE_TABLE_ISOLATION=y'}


@pytest.fixture(autouse=True)
def five_levels(series: str) -> None:
    """What there was a choice about until 7.2."""
    config = vm.config(series)
    if '# CONFIG_X86_5LEVEL is not set' in config:
        pytest.skip(f'the kernel of {series} is made for four levels')
    if not config & PTI:
        pytest.skip(f'the kernel of {series} has no tables of its own')


def test_the_cpu_has_five_levels_and_the_kernel_its_own_tables(stage: Stage
                                                               ) -> None:
    """Or the other tests would show nothing."""
    assert {'la57', 'pti'} <= set(
        stage.guest.check('cat /proc/cpuinfo').split())


@each_region
def test_a_page_is_mapped_where_the_pagemaps_say(seen: Seen) -> None:
    """However high."""
    assert sorted(mappings(seen.report)) == sorted(seen.witness)
    assert len(seen.witness) == 2


@each_region
def test_a_report_agrees_with_itself(seen: Seen) -> None:
    """Ids, counts, AVCs, order."""
    assert faults(seen.report) == []


@each_region
def test_the_scan_goes_to_the_last_address(seen: Seen) -> None:
    """It finds what rmap finds, above where four levels end as well."""
    verify = seen.report['verify']
    assert (verify['missing'], verify['extra']) == ([], [])
    assert seen.report['history']['scan']['hits'] == 2


def test_a_process_finds_its_page_by_a_high_address(stage: Stage) -> None:
    """The page that it maps there, and none beyond."""
    scene = stage.scene('high', lambda new: new.story(BUILD))
    pid = scene.pids['P']
    assert scene.ask(f'pid {pid} {HIGH:#x}')['page']['pfn'] \
        == scene.pfn('P', 'M', 0)
    (error, _), = scene.ask_all([f'pid {pid} {HIGH - 4096:#x}'])
    assert error == 'EFAULT'
