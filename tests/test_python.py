"""Debian's python3 runs everything, whatever is first in PATH, with no more
than tests/vm/deps installs for it.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Set

import pytest

from rvtest import vm

# What would run into the broken one if it took what PATH finds, and the status
# it must have; what check-style finds is a matter of its own.
COMMANDS: Dict[str, Optional[int]] = {
    'tests/demo --help': 0,
    'tests/history-docs --help': 0,
    'tests/vm/shell': 2,
    'tools/compare.py --help': 0,
    'tools/rmapviz --help': 0,
    'tests/check-style mypy': None,
    'tests/check-style flake8': None,
    'make -o need-test test TESTS=--version KERNEL= kernels=': 0,
}


@pytest.fixture
def broken_python(tmp_path: Path) -> Dict[str, str]:
    """An environment whose PATH begins with programs that only complain."""
    for name in 'python', 'python3', 'pytest', 'pytest-3', 'mypy', 'flake8':
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "$0 is broken" >&2\nexit 99\n')
        program.chmod(0o755)
    return {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}


def run(command: List[str],
        environment: Dict[str, str]) -> 'subprocess.CompletedProcess[str]':
    """A command in the checkout, with all that it says in one place."""
    return subprocess.run(command, cwd=vm.TOP, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)


@pytest.mark.parametrize('command', COMMANDS)
def test_another_python_first_in_path_is_not_run(
        broken_python: Dict[str, str], command: str) -> None:
    """It need not have Debian's modules."""
    done = run(command.split(), broken_python)
    assert 'is broken' not in done.stdout
    assert COMMANDS[command] in (None, done.returncode), done.stdout


def test_the_broken_one_would_be_noticed(
        broken_python: Dict[str, str]) -> None:
    """By a script that takes what PATH finds."""
    assert 'is broken' in run(['env', 'python3'], broken_python).stdout


# ------------------------------------------------- what is there to import --

# Runs a script where modules are missing: those named first, up to a --.
WITHOUT = '''
import runpy, sys
at = sys.argv.index('--')
sys.modules.update(dict.fromkeys(sys.argv[1:at]))
sys.argv = sys.argv[at + 1:]
runpy.run_path(sys.argv[0], run_name='__main__')
'''


def modules_of(packages: str) -> Set[str]:
    """The modules of a list of packages of tests/vm/deps."""
    found = re.search(rf'(?m)^{packages}=\(([^)]*)\)',
                      (vm.VM / 'deps').read_text())
    assert found
    return set(re.findall(r'\bpython3-(?:pytest-)?(\w+)', found[1]))


@pytest.mark.parametrize('script', ('tests/demo', 'tests/bench/run',
                                    'tests/bench/others',
                                    'tests/vm/shell'))
def test_a_script_needs_no_module_that_only_the_tests_install(script: str
                                                              ) -> None:
    """On a machine that has never run them."""
    missing = modules_of('pytest') - modules_of('run')
    assert 'pytest' in missing
    done = run(['/usr/bin/python3', '-c', WITHOUT, *sorted(missing), '--',
                script, '--help'], dict(os.environ))
    assert 'Traceback' not in done.stdout, done.stdout
