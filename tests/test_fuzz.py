"""The parser, and names in reports, before a fuzzer that looks for coverage.

tests/fuzz has the targets: the module's own sources in user space, with all
that must hold for every input.  `make fuzz SECONDS=3600` takes its time.
"""

import json
import os
import re
import subprocess
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import pytest

from rvtest.vm import TOP

# For each target.
FUZZ_SECONDS = int(os.environ.get('FUZZ_SECONDS', 60))
SECONDS = 2 * FUZZ_SECONDS + 15

# What breaks rules of C is an error, and so is a number that gets too short;
# but the kernel is built for arithmetic with NULL.
FLAGS = ('-std=gnu2x', '-g', '-O1', '-Wall', '-Werror',
         '-Dfuzz_one=LLVMFuzzerTestOneInput',
         '-fsanitize=fuzzer,address,undefined,implicit-integer-truncation',
         '-fno-sanitize=pointer-overflow', '-fno-sanitize-recover=all',
         '-fprofile-instr-generate', '-fcoverage-mapping')

Note = Callable[[str], None]


class Target(NamedTuple):
    """A program of tests/fuzz, what it is built with, and what to reach."""

    name: str
    sources: Tuple[str, ...]
    longest: int
    reached: Tuple[str, ...]    # functions, or all of a file


QUERY = Target('query', ('query',), 160, ('rmapviz_query.c',))
REPORT = Target('report', ('report', 'json', 'text', 'text_rows',
                           'text_families', 'text_history', 'fold', 'words',
                           'emit'), 600,
                ('rv_write_u64', 'rv_write_large', 'rv_write_hex',
                 'rv_emit_escaped',
                 'json_string', 'text_escaped'))
each_target = pytest.mark.parametrize('target', [
    pytest.param(target, id=target.name) for target in (QUERY, REPORT)])


class Fuzzed(NamedTuple):
    """What came of it."""

    status: int
    log: str
    regions: Dict[str, List[int]]   # of files and functions: times run

    def runs(self) -> int:
        """How many inputs there were."""
        found = re.search(r'^Done (\d+) runs', self.log, re.MULTILINE)
        return int(found[1]) if found else 0


def dictionary() -> str:
    """The words of the grammar, and numbers at the edges."""
    grammar = (TOP / 'rmapviz_query.c').read_text().split('*/')[0]
    words = re.findall(r'"([a-z]+:?)"', grammar)
    numbers = [form % (limit + more) for limit in (2 ** 31, 2 ** 32, 2 ** 64)
               for more in (-1, 0) for form in ('%d', '0x%x')]
    return ''.join(f'"{word}"\n' for word in
                   words + numbers + ['0x', r'\x09', r'\x0a', r'\xa0'])


def run(*command: object, **more: Any) -> 'subprocess.CompletedProcess[str]':
    """A program, and all that it says."""
    return subprocess.run([str(word) for word in command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors='replace', **more)


def must_run(*command: object) -> str:
    """What a program says that must not fail."""
    done = run(*command)
    assert done.returncode == 0, done.stdout
    return done.stdout


def covered(directory: Path) -> Dict[str, List[int]]:
    """How often regions of code were run, by function and by file.

    A function of a header is there once for each file that includes it.
    """
    must_run('llvm-profdata', 'merge', '-o', directory / 'profile',
             directory / 'raw')
    data, = json.loads(must_run(
        'llvm-cov', 'export', directory / 'target',
        f'-instr-profile={directory}/profile'))['data']
    found: Dict[str, Counter[Tuple[int, ...]]] = {}
    for function in data['functions']:
        # of a static function: FILE:NAME
        names = (function['name'].rsplit(':', 1)[-1],
                 Path(function['filenames'][0]).name)
        for *place, times, file, _, kind in function['regions']:
            # in that file itself, and code: not what is between statements
            if (file, kind) == (0, 0):
                for name in names:
                    found.setdefault(name, Counter())[tuple(place)] += times
    return {name: list(some.values()) for name, some in found.items()}


@lru_cache(maxsize=None)
def fuzz(target: Target) -> Fuzzed:
    """Build it anew, and let it run from nothing; done once."""
    directory = TOP / 'build' / 'fuzz' / target.name
    corpus = directory / 'corpus'
    corpus.mkdir(parents=True, exist_ok=True)
    for old in corpus.iterdir():
        old.unlink()
    (directory / 'words').write_text(dictionary())
    must_run('clang', *FLAGS, '-I', TOP / 'tests/fuzz', '-o',
             directory / 'target', TOP / f'tests/fuzz/{target.name}.c',
             *(TOP / f'rmapviz_{name}.c' for name in target.sources))
    done = run(directory / 'target', f'-max_total_time={FUZZ_SECONDS}',
               f'-max_len={target.longest}', f'-dict={directory}/words',
               f'-artifact_prefix={directory}/', corpus,
               env={**os.environ, 'LLVM_PROFILE_FILE': f'{directory}/raw'})
    # what has crashed leaves no counts
    return Fuzzed(done.returncode, done.stdout,
                  {} if done.returncode else covered(directory))


@each_target
def test_a_fuzzer_finds_nothing_wrong(target: Target, note: Note) -> None:
    """Neither the sanitizers nor what must hold for every input."""
    fuzzed = fuzz(target)
    assert fuzzed.status == 0, fuzzed.log[-4000:]
    note(f'{fuzzed.runs()} inputs in {FUZZ_SECONDS} s')
    assert fuzzed.runs() > 1000


@each_target
def test_a_fuzzer_reaches_all_that_it_is_for(target: Target, note: Note
                                             ) -> None:
    """Every region of the parser, and of what escapes names."""
    fuzzed = fuzz(target)
    if fuzzed.status:
        pytest.skip('it found something, and stopped there')
    counts = {name: fuzzed.regions[name] for name in target.reached}
    note(', '.join(f'{name}: {len(some) - some.count(0)} of {len(some)} '
                   'regions' for name, some in counts.items()))
    assert [name for name, some in counts.items() if 0 in some] == []
