"""The packages: what is in them, and what dpkg makes of them."""

import fcntl
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Set

import pytest

from rvtest.system import (BOOKS, Done, Journey, Step, System,
                           skip_unless_packaged, version)
from rvtest.vm import TOP, VM, made, some_kernels, suites

KERNELS = some_kernels
SECONDS = 60

PACKAGE = 'rmapviz-dkms'
COMMAND = 'rmapviz'
HIGHER = '9.9.9'

# What the higher version consists of: that much is built in no time.
STUB = f'''
#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("{HIGHER}");
'''

# The version that is there after each step.
VERSIONS = {'install': version(), 'upgrade': HIGHER}
each_version = pytest.mark.parametrize('step', VERSIONS)
each_step = pytest.mark.parametrize('step', (*VERSIONS, 'purge'))
each_target = pytest.mark.parametrize('target',
                                      ('dkms-install', 'dkms-uninstall'))

# What dpkg writes to for a package of a command.
COPIED = ('var', 'usr/share', 'usr/bin')
COMMAND_STEPS = {
    'before': ('--audit',), 'install': ('--install', '/tmp/first.deb'),
    'upgrade': ('--install', '/tmp/higher.deb'),
    'purge': ('--purge', COMMAND)}

# What apt can choose from, with what Debian's packages provide.
FLAVOURS = {'amd64': 'Provides: linux-headers-generic\n', 'cloud-amd64': '',
            'rt-amd64': ''}
HEADERS = '''\
Package: linux-headers-{0}
{1}Version: 1
Architecture: all
Maintainer: nobody
Filename: ./{0}.deb
Size: 1
SHA256: {2:064}
Description: headers of a flavour

'''


class Packages(NamedTuple):
    """This version of the package, its files, and a higher version; and the
    same of the package with the command."""

    first: Path
    tree: Path
    higher: Path
    command_deb: Path
    command: Path
    command_higher: Path


def make_deb(scratch: Path) -> Path:
    """The package, made anew; by one process at a time."""
    (TOP / 'build').mkdir(exist_ok=True)
    with (TOP / 'build' / 'deb.lock').open('w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(['make', '-s', '-C', TOP, 'deb'], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for name in (PACKAGE, COMMAND):
            shutil.copy(TOP / f'build/{name}_{version()}_all.deb', scratch)
        return scratch / f'{PACKAGE}_{version()}_all.deb'


def unpack(deb: Path, tree: Path) -> Path:
    """All that is in it."""
    subprocess.run(['dpkg-deb', '--raw-extract', deb, tree], check=True)
    return tree


def call_higher(*files: Path) -> None:
    """Give another version where files name this one."""
    for file in files:
        file.write_text(file.read_text().replace(version(), HIGHER))


def pack(tree: Path) -> Path:
    """A package again of what was unpacked."""
    deb = tree.with_suffix('.deb')
    subprocess.run(['dpkg-deb', '--root-owner-group', '--build', tree, deb],
                   check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL)
    return deb


def make_higher(deb: Path, scratch: Path) -> Path:
    """The same package with a higher version of the module."""
    tree = unpack(deb, scratch / 'higher')
    sources = tree / f'usr/src/rmapviz-{HIGHER}'
    (tree / f'usr/src/rmapviz-{version()}').rename(sources)
    call_higher(*(tree / 'DEBIAN').iterdir(), sources / 'dkms.conf')
    for file in sources.glob('*.[ch]'):
        file.unlink()
    (sources / 'Kbuild').write_text('obj-m := rmapviz.o\n')
    (sources / 'rmapviz.c').write_text(STUB)
    return pack(tree)


def make_higher_command(deb: Path, scratch: Path) -> Path:
    """The same package with a higher version of the command, which has a
    module more and lacks its completion."""
    tree = unpack(deb, scratch / 'command-higher')
    call_higher(tree / 'DEBIAN/control')
    (tree / 'usr/share/rmapviz/rmapviz_lib/new.py').write_text('')
    (tree / 'usr/share/bash-completion/completions/rmapviz').unlink()
    return pack(tree)


@pytest.fixture(scope='module')
def packages() -> Iterator[Packages]:
    """Both versions."""
    with tempfile.TemporaryDirectory(prefix='rmapviz-deb.') as name:
        scratch = Path(name)
        deb = make_deb(scratch)
        command = scratch / f'{COMMAND}_{version()}_all.deb'
        yield Packages(deb, unpack(deb, scratch / 'tree'),
                       make_higher(deb, scratch), command,
                       unpack(command, scratch / 'command'),
                       make_higher_command(command, scratch))


# ---------------------------------------------------------------- its files --

def lacks(directory: Path, base: Path, *patterns: str) -> List[str]:
    """Which files below base a directory of the package has not as they are.
    """
    files = [file for pattern in patterns for file in base.glob(pattern)
             if not file.name.endswith('.mod.c') and file.is_file()]
    assert files, f'nothing matches {patterns}'
    copies = {file: directory / file.relative_to(base) for file in files}
    return [file.name for file, copy in copies.items()
            if not copy.is_file() or copy.read_bytes() != file.read_bytes()]


def test_it_has_what_dkms_builds_from(packages: Packages) -> None:
    """Every source, and how to build them."""
    assert lacks(packages.tree / f'usr/src/rmapviz-{version()}', TOP,
                 '*.[ch]', 'Kbuild', 'dkms.conf') == []


def test_the_package_of_the_command_has_the_tools(packages: Packages
                                                  ) -> None:
    """The command, the drgn script, and what compares reports."""
    assert lacks(packages.command / 'usr/share/rmapviz', TOP / 'tools',
                 '*.py', 'rmapviz', 'rmapviz_lib/*.*') == []


@pytest.mark.parametrize('name', ['man1/rmapviz.1.gz', 'man4/rmapviz.4.gz'])
def test_the_package_of_the_command_has_man_pages(packages: Packages,
                                                  name: str) -> None:
    """For the command and for the files."""
    assert (packages.command / 'usr/share/man' / name).is_file()


def test_bash_completes_what_the_package_has(packages: Packages) -> None:
    """It looks there for a command of that name."""
    assert lacks(packages.command / 'usr/share/bash-completion/completions',
                 TOP / 'tools/completion', '*') == []


def test_no_file_is_in_both_packages(packages: Packages) -> None:
    """dpkg would refuse the second."""
    def files(tree: Path) -> Set[Path]:
        return {path.relative_to(tree) for path in tree.rglob('*')
                if not path.is_dir() and path.parts[len(tree.parts)]
                != 'DEBIAN'}
    assert files(packages.tree) & files(packages.command) == set()


def test_the_command_runs_with_the_python_of_a_suite(
        packages: Packages, series: str) -> None:
    """From where the package has it, by the link in /usr/bin."""
    done = subprocess.run(
        [VM / 'in-root', made('tool-root', 'server', suites(series)[0]),
         '--ro-bind', packages.command / 'usr', '/src',
         '--ro-bind', TOP / 'tests/data', '/mnt', 'sh', '-c',
         '/src/bin/rmapviz draw --dot /mnt/reports/anon.json; '
         '/src/bin/rmapviz why 0x100'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    assert done.stdout.startswith('digraph rmapviz {')
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.returncode == 2


def test_lintian_has_nothing_to_say_of_the_packages(packages: Packages
                                                    ) -> None:
    """Neither errors nor warnings."""
    done = subprocess.run(
        ['lintian', '--allow-root', '--fail-on', 'error,warning',
         packages.first, packages.command_deb],
        check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (0, '')


def test_the_package_has_the_documents(packages: Packages) -> None:
    """As they are, for they link to one another."""
    for tree, name in (packages.tree, PACKAGE), (packages.command, COMMAND):
        assert lacks(tree / f'usr/share/doc/{name}', TOP, 'README.md',
                     'CHANGELOG.md', 'CONTRIBUTING.md', 'docs/*') == []


@pytest.mark.parametrize('tool', sorted(
    path.name for path in [*TOP.glob('tools/*.py'), TOP / 'tools/rmapviz']))
def test_a_tool_in_it_can_be_run(packages: Packages, tool: str) -> None:
    """By its name."""
    path = packages.command / 'usr/share/rmapviz' / tool
    assert path.stat().st_mode & 0o111


# --------------------------------------------------------------------- dpkg --

def steps(system: System) -> Dict[str, Step]:
    """Let dpkg install, upgrade, and purge; make has no say in between."""
    def dpkg(option: str, what: str) -> Step:
        return Step(lambda: system.run(
            'dpkg', option, what,
            options=['--setenv', 'DEBIAN_FRONTEND', 'noninteractive']))

    def make(target: str) -> Step:
        return Step(lambda: system.make(target), fails=True)

    return {'install': dpkg('--install', '/tmp/first.deb'),
            'dkms-install': make('dkms-install'),
            'dkms-uninstall': make('dkms-uninstall'),
            'upgrade': dpkg('--install', '/tmp/higher.deb'),
            'purge': dpkg('--purge', PACKAGE)}


@pytest.fixture(scope='module')
def journey(series: str, packages: Packages) -> Iterator[Journey]:
    """With the dpkg and the DKMS of a kernel's suite."""
    skip_unless_packaged(series)
    with tempfile.TemporaryDirectory(prefix='rmapviz-deb.') as name:
        system = System(series, Path(name), dpkg=True)
        system.show(packages.first, '/tmp/first.deb')
        system.show(packages.higher, '/tmp/higher.deb')
        yield Journey(system, steps(system))


@each_step
def test_dpkg_installs_upgrades_and_purges_the_package(
        journey: Journey, step: str) -> None:
    """Its status is 0."""
    assert journey.done(step).returncode == 0, journey.done(step).stdout


@each_version
def test_dpkg_has_the_version(journey: Journey, step: str) -> None:
    """And it is installed."""
    assert journey.after(step).package == f'installed {VERSIONS[step]}'


@each_version
def test_dkms_has_installed_it_alone(journey: Journey, step: str) -> None:
    """No other version beside it."""
    assert journey.after(step).dkms \
        == [f'rmapviz/{VERSIONS[step]}, {journey.system.release}, x86_64: '
            'installed']


@each_version
def test_modprobe_finds_that_version(journey: Journey, step: str) -> None:
    """By what the module says of itself."""
    modinfo = journey.after(step).modinfo[journey.system.release]
    assert modinfo.get('version') == VERSIONS[step]


@each_version
def test_sources_of_that_version_are_there_alone(journey: Journey, step: str
                                                 ) -> None:
    """An upgrade takes the others away."""
    assert [name for name in journey.after(step).files
            if re.fullmatch('src/rmapviz[^/]*', name)] \
        == [f'src/rmapviz-{VERSIONS[step]}']


@each_target
def test_make_leaves_it_to_apt(journey: Journey, target: str) -> None:
    """And says in one line what to do."""
    line, = journey.done(target).stdout.splitlines()
    assert f'apt-get purge {PACKAGE}' in line
    assert journey.done(target).returncode


@each_target
def test_make_changes_nothing_of_it(journey: Journey, target: str) -> None:
    """No file of it, and nothing that DKMS knows."""
    was, now = journey.after('install'), journey.after(target)
    assert (now.dkms, sorted(now.files ^ was.files)) == (was.dkms, [])


def test_dpkg_forgets_what_was_purged(journey: Journey) -> None:
    """It is not even known as removed."""
    assert journey.after('purge').package == 'unknown'


def test_dkms_forgets_what_was_purged(journey: Journey) -> None:
    """All versions."""
    assert journey.after('purge').dkms == []


def test_modprobe_finds_nothing_after_a_purge(journey: Journey) -> None:
    """In no place."""
    assert journey.after('purge').modinfo == {journey.system.release: {}}


def test_a_purge_leaves_nothing(journey: Journey) -> None:
    """No file and no directory that was not there before."""
    assert sorted(journey.after('purge').files ^ journey.before.files) == []


# ------------------------------------------------ the package of a command --

class After(NamedTuple):
    """What a step of dpkg has said, what it says of the package, what the
    command then does, and all files that there are."""

    dpkg: Done
    status: str
    picture: Done
    question: Done
    files: Set[str]


def in_copy(root: Path, scratch: Path, packages: Packages
            ) -> Callable[..., Done]:
    """A way to run commands in a root in which dpkg can write, as far as a
    command is concerned."""
    binds: List[str] = []
    for name in COPIED:
        shutil.copytree(root / name, scratch / name, symlinks=True)
        binds += ['--bind', str(scratch / name), f'/{name}']
    for deb, name in ((packages.command_deb, 'first'),
                      (packages.command_higher, 'higher')):
        binds += ['--ro-bind', str(deb), f'/tmp/{name}.deb']

    def run(*command: str) -> Done:
        return subprocess.run(
            [VM / 'in-root', root, *binds, '--ro-bind', TOP / 'tests/data',
             '/mnt', '--setenv', 'PYTHONDONTWRITEBYTECODE', '1', *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
    return run


def look_at_command(run: Callable[..., Done], scratch: Path, *dpkg: str
                    ) -> After:
    """Let dpkg do something, and see what there is."""
    done = run('dpkg', *dpkg)
    status = run('dpkg-query', '-W', '-f',
                 '${db:Status-Status} ${Version}', COMMAND)
    return After(
        done, 'unknown' if status.returncode else status.stdout,
        run('sh', '-c', 'rmapviz draw --dot /mnt/reports/anon.json'),
        run('sh', '-c', 'rmapviz why 0x100'),
        {str(path.relative_to(scratch)) for name in COPIED
         for path in (scratch / name).rglob('*')})


@pytest.fixture(scope='module')
def commands(series: str, packages: Packages) -> Dict[str, After]:
    """Installed, upgraded and purged, by somebody who has no compiler and no
    DKMS."""
    root = made('tool-root', 'server', suites(series)[0])
    with tempfile.TemporaryDirectory(prefix='rmapviz-deb.') as name:
        scratch = Path(name)
        run = in_copy(root, scratch, packages)
        return {step: look_at_command(run, scratch, *words)
                for step, words in COMMAND_STEPS.items()}


@pytest.mark.parametrize('step', COMMAND_STEPS)
def test_dpkg_installs_upgrades_and_purges_the_command(
        commands: Dict[str, After], step: str) -> None:
    """Its status is 0."""
    assert commands[step].dpkg.returncode == 0, commands[step].dpkg.stdout


@each_version
def test_dpkg_has_the_version_of_the_command(commands: Dict[str, After],
                                             step: str) -> None:
    """And it is installed."""
    assert commands[step].status == f'installed {VERSIONS[step]}'


@each_version
def test_the_command_that_dpkg_has_installed_works(
        commands: Dict[str, After], step: str) -> None:
    """By its name: it draws a report, and says what it lacks for a question.
    """
    after = commands[step]
    assert after.picture.stdout.startswith('digraph rmapviz {')
    assert after.question.returncode == 2
    assert len(after.question.stdout.splitlines()) == 1


def test_an_upgrade_takes_away_what_a_new_command_has_not(
        commands: Dict[str, After]) -> None:
    """And brings what it has more."""
    was, now = commands['install'].files, commands['upgrade'].files
    library = 'usr/share/rmapviz/rmapviz_lib'
    completion = 'usr/share/bash-completion/completions/rmapviz'
    assert was - now - of_books(was) == {completion}
    assert now - was - of_books(now) == {f'{library}/new.py'}


def test_a_purge_leaves_nothing_of_the_command(commands: Dict[str, After]
                                               ) -> None:
    """No file and no directory, and dpkg has forgotten it."""
    was, now = commands['before'].files, commands['purge'].files
    assert commands['purge'].status == 'unknown'
    assert (was ^ now) - of_books(was | now) == set()
    assert commands['purge'].question.returncode == 127


def of_books(files: Set[str]) -> Set[str]:
    """Those that dpkg keeps for itself."""
    return set(filter(BOOKS.match, files))


# ---------------------------------------------------------------------- apt --

@pytest.fixture(scope='module')
def chooser(series: str, packages: Packages) -> Iterator[System]:
    """A system that has headers of one version, and could have others."""
    with tempfile.TemporaryDirectory(prefix='rmapviz-deb.') as name:
        scratch = Path(name)
        system = System(series, scratch, dpkg=True)
        system.bind(scratch / 'repository', '/tmp/repository')
        (scratch / 'repository' / 'Packages').write_text(''.join(
            HEADERS.format(*flavour, 0) for flavour in FLAVOURS.items()))
        system.show(packages.first, '/tmp/first.deb')
        apt(system, 'update')
        yield system


def apt(system: System, *command: str) -> Done:
    """Let apt choose among the packages of the repository."""
    return system.run(
        'sh', '-c', 'echo "deb [trusted=yes] file:/tmp/repository ./" '
        '>/tmp/sources.list; exec apt-get "$@"', 'apt-get',
        '-o', 'Dir::Etc::SourceList=/tmp/sources.list',
        '-o', 'Dir::Etc::SourceParts=/dev/null',
        '-o', 'APT::Sandbox::User=root', *command)


def would_install(system: System, *what: str) -> List[str]:
    """Which packages apt would install for these."""
    done = apt(system, '--simulate', 'install', *what)
    assert done.returncode == 0, done.stdout
    return sorted(re.findall('^Inst ([^ ]*)', done.stdout, re.M))


def test_it_brings_no_headers(chooser: System) -> None:
    """Which are the right ones is not for a package to say."""
    assert would_install(chooser, '/tmp/first.deb') == [PACKAGE]


@pytest.mark.parametrize('flavour', FLAVOURS)
def test_it_brings_no_headers_beside_those_asked_for(
        chooser: System, flavour: str) -> None:
    """Of whatever flavour."""
    headers = f'linux-headers-{flavour}'
    assert would_install(chooser, '/tmp/first.deb', headers) \
        == [headers, PACKAGE]
