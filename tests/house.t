#!/usr/bin/python3
"""The house: what is written in two places says the same in both.

Cheap checks of the sources alone: nothing is built and no guest boots.
"""

import re
import subprocess
import sys
from json import loads
from pathlib import Path
from typing import Dict, List, Set

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Tap, layers  # noqa: E402
from rvtest.vm import TOP  # noqa: E402

# What a query can never end with: insmod's, and one that stays inside.
_NOT_OF_QUERIES = {'ENOENT', 'ENOSPC'}


def text(name: str) -> str:
    """A file of the project."""
    return (TOP / name).read_text(encoding='utf-8')


def code(pattern: str) -> Dict[str, str]:
    """The C files that match a pattern, without comments."""
    comment = re.compile(r'/\*.*?\*/|//[^\n]*', re.DOTALL)
    return {str(path.relative_to(TOP)):
            comment.sub('', path.read_text(encoding='utf-8'))
            for path in sorted(TOP.glob(pattern))
            if not path.name.endswith('.mod.c')}


def module() -> Dict[str, str]:
    """The module's C files, without comments."""
    return {**code('*.c'), **code('*.h')}


def mentions(pattern: str, files: Dict[str, str]) -> List[str]:
    """Which files match."""
    return [name for name, source in files.items()
            if re.search(pattern, source)]


def first(pattern: str, source: str) -> str:
    """The first group of the first match, or nothing."""
    found = re.search(pattern, source, re.MULTILINE)
    return found[1] if found else ''


def table(heading: str) -> List[List[str]]:
    """The rows below a heading of a table in the README."""
    lines = text('README.md').splitlines()
    if heading not in lines:
        return []
    rows: List[List[str]] = []
    for line in lines[lines.index(heading) + 2:]:
        if not line.startswith('|'):
            break
        rows.append([cell.strip() for cell in line.strip('|').split('|')])
    return rows


def quoted(cell: str) -> List[str]:
    """What stands between backquotes."""
    return re.findall(r'`([^`]+)`', cell)


def dkms(expression: str, *arguments: str
         ) -> 'subprocess.CompletedProcess[str]':
    """Evaluate something where dkms.conf was read, as dkms does."""
    return subprocess.run(
        ['bash', '-c', f'. ./dkms.conf; {expression}', 'dkms', *arguments],
        cwd=TOP, check=False, text=True, stdout=subprocess.PIPE)


def check_kernels(tap: Tap) -> None:
    """One list of supported kernels."""
    listed = [line.split() for line in text('tests/kernels').splitlines()
              if line.strip() and not line.startswith('#')]
    series = [words[0] for words in listed]
    rows = table('| series | tested with | compiler |')
    tap.is_equal([row[0] for row in rows], series,
                 'the table of the README has the kernels of tests/kernels')
    tap.ok(all(suite in row[1] for words, row in zip(listed, rows)
               for suite in words[1:]), 'and their suites', str(rows))

    matches = '[[ $1 =~ $BUILD_EXCLUSIVE_KERNEL ]]'
    for release, expected in (
            [(f'{name}{rest}', True) for name in series
             for rest in ('', '.0-56-cloud-amd64', '.4+deb13-amd64', '-rc1')]
            + [(name, False) for name in (
                '5.1.12', '5.9.0-5-amd64', '5.15.0-1-amd64', '6.10.1',
                '6.120.1', '7.4.0-1-amd64', '7.30.1', '15.10.0', '16.1.0')]):
        tap.is_equal(dkms(matches, release).returncode == 0, expected,
                     f'DKMS {"builds" if expected else "does not build"} '
                     f'for {release}')

    oldest = series[0]
    compat = text('rmapviz_compat.h')
    tap.is_equal(re.findall(r'LINUX_VERSION_CODE < KERNEL_VERSION'
                            r'\((\d+), (\d+), 0\)\n#error "[^"]* (\S+) and',
                            compat),
                 [(*oldest.split('.'), oldest)],
                 'the #error is for those before the oldest')
    newest = series[-1].split('.')
    tap.is_equal(re.findall(r'LINUX_VERSION_CODE >= KERNEL_VERSION'
                            r'\((\d+), (\d+), 0\)', compat),
                 [(newest[0], str(int(newest[1]) + 1))],
                 'a message is for those after the newest')


def check_config(tap: Tap) -> None:
    """What Kbuild needs of a kernel, DKMS asks for."""
    needed = {f'CONFIG_{name}' for name in
              first('^rv-needs := (.*)$', text('Kbuild')).split()}
    asked = set(dkms('echo $BUILD_EXCLUSIVE_CONFIG').stdout.split())
    tap.ok(needed, 'Kbuild says what a kernel needs')
    tap.is_equal(sorted(asked), sorted(needed), 'dkms.conf asks for it')
    tap.is_equal([name for name in sorted(needed - {'CONFIG_HAVE_STATIC_CALL'})
                  if f'`{name}`' not in text('README.md')], [],
                 'the README names it')
    tap.ok(dkms('[[ x86_64 =~ $BUILD_EXCLUSIVE_ARCH ]]').returncode == 0
           and dkms('[[ i686 =~ $BUILD_EXCLUSIVE_ARCH ]]').returncode,
           'it is for x86-64 and no other')


def check_version(tap: Tap) -> None:
    """One version."""
    version = first(r'^#define RV_VERSION "(.*)"$', text('rmapviz.h'))
    tap.ok(version, 'there is a version')
    tap.is_equal(dkms('echo $PACKAGE_VERSION').stdout.strip(), version,
                 'dkms.conf has the version of rmapviz.h')
    tap.is_equal(first(r'^## (\S+)', text('CHANGELOG.md')), version,
                 'the newest heading of CHANGELOG.md has it')
    tap.is_equal(first(r'^rmapviz \((.*)\)', text('debian/changelog')),
                 version, 'the newest entry of debian/changelog has it')


def check_rooms(tap: Tap) -> None:
    """Everything is in the file whose job it is."""
    files = module()
    tap.is_equal(mentions('LINUX_VERSION_CODE|KERNEL_VERSION', files),
                 ['rmapviz_compat.h'], 'one file knows kernel versions')
    tap.is_equal(mentions(r'\bRV_HAS_', files), ['rmapviz_compat.h'],
                 'the same one knows what Kbuild found out')
    tap.is_equal(mentions('register_kprobe|kallsyms', files),
                 ['rmapviz_ksym.c'], 'one file looks up symbols')
    tap.is_equal([name for name in
                  mentions(r'\bseq_\w+\(|copy_to_user|put_user', files)
                  if name in ('rmapviz_walk.c', 'rmapviz_snap.c',
                              'rmapviz_names.c', 'rmapviz_page.c')], [],
                 'what collects does not print')
    tap.is_equal([name for name in
                  mentions(r'_lock\(|_trylock\(|down_read\(', files)
                  if re.search('report|text|json', name)], [],
                 'what prints does not lock')
    asked = set(re.findall(r'-DRV_HAS_\w+|\bRV_HAS_\w+', text('Kbuild')))
    used = set(re.findall(r'\bRV_HAS_\w+', files['rmapviz_compat.h']))
    tap.is_equal(sorted(asked ^ used), [],
                 'Kbuild asks the headers for what is used')
    objects = set(re.findall(r'(rmapviz_\w+)\.o', text('Kbuild')))
    tap.is_equal(objects ^ {name[:-2] for name in files
                            if name.endswith('.c') and name != 'rmapviz.c'},
                 set(), 'Kbuild builds every source')


def check_layers(tap: Tap) -> None:
    """What files take from one another goes one way."""
    files = module()
    uses = layers.uses(files)
    tap.ok(uses['rmapviz_walk.c'] >= {'rmapviz_record.c', 'rmapviz_ksym.c'},
           'the walk uses what is below it')
    tap.is_equal(layers.circle(uses), [], 'no file is called by one it calls')
    tap.is_equal([name for name, used in uses.items()
                  if 'rmapviz.c' in used], [], 'nothing calls rmapviz.c')
    includes = layers.includes(files)
    tap.is_equal(layers.circle(includes), [],
                 'no header includes one that includes it')
    tap.is_equal(sorted(includes['rmapviz_compat.h']), [],
                 'the compat header includes nothing of ours')
    lockless = {name: files[name] for name in (
        'rmapviz.c', 'rmapviz_query.c', 'rmapviz_names.c',
        'rmapviz_order.c', 'rmapviz_reclaim.c')}
    tap.is_equal(mentions(r'<linux/rmap.h>|_compat.h|\banon_vma', lockless),
                 [], 'what needs no rmap lock knows no rmap')
    printing = [name for name in files
                if re.search('_(report|text|json|words).c$', name)]
    last = {name: re.findall('^#include (.*)', files[name],
                             re.MULTILINE)[-1:] for name in printing}
    tap.is_equal([name for name in printing
                  if last[name] != ['"rmapviz_report.h"']], [],
                 'what prints includes its header last, which forbids locks')


def check_license(tap: Tap) -> None:
    """Every C file says its license."""
    without = [str(path.relative_to(TOP))
               for pattern in ('*.[ch]', 'tests/**/*.[ch]')
               for path in TOP.glob(pattern)
               if not path.name.endswith('.mod.c')
               and 'SPDX-License-Identifier: GPL-2.0' not in
               path.read_text(encoding='utf-8').split('\n', 1)[0]]
    tap.is_equal(without, [], 'every C file begins with its SPDX line')
    tap.ok('GNU GENERAL PUBLIC LICENSE\n' in text('LICENSE')
           and 'Version 2, June 1991' in text('LICENSE'),
           'LICENSE is the GPL, version 2')


def check_make(tap: Tap) -> None:
    """make help names what people can make."""
    phony = {target for line in re.findall(r'^\.PHONY:(.*)$',
                                           text('Makefile'), re.MULTILINE)
             for target in line.split()}
    output = subprocess.run(['make', '-s', '-C', TOP, 'help'], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    helped = set(re.findall(r'^make (\S+)', output, re.MULTILINE))
    tap.is_equal(sorted(phony ^ helped), [], 'make help names every target')
    named = {first(r'^(?:sudo )?make ([a-z][a-z-]+)(?: |$)', command)
             for command in commands()}
    tap.is_equal(sorted(named - phony - {''}), [],
                 'the documents name no others')


def commands() -> Set[str]:
    """What the documents show as code."""
    return {piece for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')
            for piece in (re.findall(r'`([^`\n]+)`', text(name))
                          + re.findall(r'^    (.*)$', text(name),
                                       re.MULTILINE))}


def check_query(tap: Tap) -> None:
    """The README, the parser and the usage text know one grammar."""
    readme = text('README.md')
    parser = text('rmapviz_query.c')
    usage = '\n'.join(re.findall(r'^\t"(.*)\\n"', text('rmapviz_report.c'),
                                 re.MULTILINE))
    grammar = re.findall(r'(?:query|target|option) +:= .*', parser)
    tap.ok(len(grammar) == 3 and all(f'    {line}\n' in readme
                                     for line in grammar),
           'the README has the grammar of the parser', '\n'.join(grammar))

    options = set(re.findall(r'\{ "(\w+)", RV_OPT_', parser))
    rows = {word for row in table('| option | what it does |')
            for word in quoted(row[0])}
    tap.is_equal(sorted(rows), sorted(options),
                 'the README explains the options that the parser knows')
    tap.is_equal(sorted(set(re.findall('"([a-z]+)"', grammar[-1]))),
                 sorted(options), 'the grammar has them')
    tap.is_equal([word for word in sorted(options)
                  if not re.search(rf'  {word}  +\w', usage)], [],
                 'the usage text explains them')

    targets = {cell.split()[0] for row in table('| target | the answer is '
                                                'about |')
               for cell in quoted(row[0])} - {'PFN'}
    tap.is_equal(sorted(targets),
                 sorted(set(re.findall(r'"([a-z]+)"', grammar[1]))),
                 'the README explains the targets')
    tap.is_equal([word for word in sorted(targets)
                  if not re.search(rf'\b{word} ', usage)
                  or f'"{word}"' not in parser], [],
                 'the usage text and the parser know them')

    for number, name, pattern in (
            ('127', 'rmapviz_snap.h', r'RV_QUERY_MAX (\d+)'),
            ('64', 'rmapviz.h', r'RV_ATTEMPTS (\d+)')):
        tap.ok(first(pattern, text(name)) == number
               and f' {number} ' in readme, f'the README has {number} right')


def check_errnos(tap: Tap) -> None:
    """The README has every errno that a query can end with."""
    listed = {row[0] for row in table('| errno | when |')}
    files = module()
    returned = set(re.findall(r'-(E[A-Z]{2,})\b', '\n'.join(files.values())))
    tap.is_equal(sorted(listed - returned), [],
                 'the sources have the errnos of the README')
    tap.is_equal(sorted(returned - listed - _NOT_OF_QUERIES), [],
                 'the README has the errnos of the sources')


def check_report(tap: Tap) -> None:
    """The README has every field and every word of the report."""
    readme = text('README.md')
    source = text('rmapviz_json.c')
    fields = (set(re.findall(r'\\"(\w+)\\":', source))
              | set(re.findall(r'json_ref\(m, "(\w+)"', source))
              | set(re.findall(r'JSON_TABLE\(\w+, "(\w+)"', source)))
    tap.ok(len(fields) > 40, 'the JSON has fields', str(sorted(fields)))
    tap.is_equal([name for name in sorted(fields)
                  if f'"{name}":' not in readme
                  and f'`{name}`' not in readme], [],
                 'the README has every field of the JSON')
    example = first(r'(?s)^(    \{"rmapviz": 1.*?)\n\n', readme)
    tap.is_equal(sorted(loads(example)), sorted(
        ['rmapviz', 'kernel', 'query', 'page', 'walk', 'reclaim']
        + re.findall(r'JSON_TABLE\(\w+, "(\w+)"', source)),
                 'its example is JSON, and whole')
    words = re.findall(r'\[RV_(?:KIND|MAPPING|LEVEL)_\w+\] = "(\w+)"',
                       text('rmapviz_words.c'))
    tap.ok(len(words) > 15, 'there are kinds, mappings and levels')
    tap.is_equal([word for word in words if f'`{word}`' not in readme], [],
                 'the README has every kind, mapping and level')
    reasons = re.findall(r'"([a-z-]+)"', first(
        r'(?s)rv_reason_names\(.*?\{(.*?)\};', text('rmapviz_words.c')))
    outcomes = re.findall(r'\] = "(SWAP_\w+)"', text('rmapviz_words.c'))
    tap.ok(len(reasons) > 8 and len(outcomes) == 3,
           'there are outcomes and reasons of reclaim')
    tap.is_equal([word for word in reasons + outcomes
                  if f'`{word}`' not in readme], [],
                 'the README has every one of them')


def check_readme(tap: Tap) -> None:
    """It shows something before it explains."""
    head = text('README.md').splitlines()[:40]
    tap.ok(any(re.match(r' *PFN 0x[0-9a-f]+ is ', line) for line in head),
           'the README has a real report in its first 40 lines')
    for name in 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md':
        document = re.sub(r'(?ms)^```.*?^```$', '', text(name))
        tap.is_equal([line for line in document.splitlines()
                      if len(line) > 80 and not line.startswith(('|', '  '))],
                     [], f'{name} is wrapped at 80 columns')
        tap.is_equal([link for link in
                      re.findall(r'\]\((?!https?:)([^)#]+)', document)
                      if not (TOP / link).exists()], [],
                     f'{name} links to what there is')


def main() -> None:
    """Look at everything."""
    with Tap() as tap:
        check_kernels(tap)
        check_config(tap)
        check_version(tap)
        check_rooms(tap)
        check_layers(tap)
        check_license(tap)
        check_make(tap)
        check_query(tap)
        check_errnos(tap)
        check_report(tap)
        check_readme(tap)


if __name__ == '__main__':
    main()
