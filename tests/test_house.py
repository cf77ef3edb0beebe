"""The house: what is written in two places says the same in both.

Cheap checks of the sources alone: nothing is built and no guest boots.
"""

import fnmatch
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

from rvtest import layers
from rvtest.schema import faults as schema_faults
from rvtest.vm import TOP

# What a query can never end with: insmod's, and those that stay inside.
NOT_OF_QUERIES = {'ENOENT', 'ENOSPC', 'ENOBUFS'}

DOCUMENTS = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md',
             *sorted(str(path.relative_to(TOP))
                     for path in (TOP / 'docs').glob('*.md')))

# Who collects does not print, and who prints does not collect.
COLLECTS = ('rmapviz_walk.c', 'rmapviz_record.c', 'rmapviz_page.c',
            'rmapviz_lookup.c', 'rmapviz_snap.c', 'rmapviz_verify.c',
            'rmapviz_names.c', 'rmapviz_order.c', 'rmapviz_reclaim.c',
            'rmapviz_migrate.c')
# What comes after the locks.
LOCKLESS = ('rmapviz.c', 'rmapviz_query.c', 'rmapviz_names.c',
            'rmapviz_order.c', 'rmapviz_reclaim.c', 'rmapviz_migrate.c')

# What prints.
PRINTS = ('rmapviz_report.c', 'rmapviz_fold.c', 'rmapviz_text.c',
          'rmapviz_text_rows.c', 'rmapviz_text_families.c', 'rmapviz_json.c',
          'rmapviz_words.c', 'rmapviz_report.h', 'rmapviz_text.h')

# Headers of rmap, of page tables' insides, and of locks.
NOT_FOR_PRINTING = re.compile(
    r'linux/(rmap|pagemap|swapops|leafops|huge_mm|hugetlb|mmap_lock|mutex'
    r'|rwsem|rwlock|spinlock|seqlock|local_lock|rcupdate|lockdep|atomic'
    r'|percpu-rwsem|semaphore|sched/mm)\.h')


# ------------------------------------------------------------ the sources --

def text(name: str) -> str:
    """A file of the project."""
    return (TOP / name).read_text(encoding='utf-8')


def module() -> Dict[str, str]:
    """The module's C files, without comments."""
    comment = re.compile(r'/\*.*?\*/|//[^\n]*', re.DOTALL)
    return {path.name: comment.sub('', path.read_text(encoding='utf-8'))
            for path in sorted(TOP.glob('*.[ch]'))
            if not path.name.endswith('.mod.c')}


def files() -> List[str]:
    """What git has, or would be given; without what was deleted."""
    output = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard',
         '--deduplicate'], cwd=TOP, check=True, text=True,
        stdout=subprocess.PIPE).stdout
    return [name for name in output.splitlines() if (TOP / name).exists()]


def mentions(pattern: str, sources: Dict[str, str]) -> List[str]:
    """Which files match."""
    return [name for name, source in sources.items()
            if re.search(pattern, source)]


def some(names: List[str], chosen: Dict[str, str]) -> Dict[str, str]:
    """Those of the files, all of which there must be."""
    return {name: chosen[name] for name in names}


def first(pattern: str, source: str) -> str:
    """The first group of the first match, or nothing."""
    found = re.search(pattern, source, re.MULTILINE)
    return found[1] if found else ''


def included(name: str) -> Set[str]:
    """Every header that a file includes, also by way of ours."""
    found: Set[str] = set()
    todo = [name]
    while todo:
        new = set(re.findall(r'^#include [<"]([^>"]+)[>"]', text(todo.pop()),
                             re.MULTILINE)) - found
        found |= new
        todo += [header for header in new if (TOP / header).exists()]
    return found


# ---------------------------------------------------------- the documents --

def table(name: str, heading: str) -> List[List[str]]:
    """The rows below a heading of a table in a document."""
    lines = text(name).splitlines()
    assert heading in lines, f'{name} has no table {heading}'
    rows: List[List[str]] = []
    for line in lines[lines.index(heading) + 2:]:
        if not line.startswith('|'):
            break
        rows.append([cell.strip() for cell in line.strip('|').split('|')])
    return rows


def quoted(source: str) -> List[str]:
    """What stands between backquotes."""
    return re.findall(r'`([^`\n]+)`', source)


def commands() -> Set[str]:
    """What the documents show as code."""
    return {piece for name in DOCUMENTS
            for piece in quoted(text(name))
            + re.findall(r'^    (.*)$', text(name), re.MULTILINE)}


def anchors(document: str) -> Set[str]:
    """What one can link to in a document, as GitHub names it."""
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall('^#+ (.*)$', document, re.MULTILINE)}


def without_code(document: str) -> str:
    """The text of a document, without blocks and pieces of code."""
    return re.sub(r'(?ms)^```.*?^```$|^    .*?$|`[^`\n]+`', '', document)


# ---------------------------------------------------- one list of kernels --

def listed() -> List[List[str]]:
    """The lines of tests/kernels."""
    return [line.split() for line in text('tests/kernels').splitlines()
            if line.strip() and not line.startswith('#')]


def test_the_readme_has_the_kernels_and_their_suites() -> None:
    """Those of tests/kernels, in that order."""
    rows = table('README.md', '| series | tested with | compiler |')
    assert [row[0] for row in rows] == [words[0] for words in listed()]
    for words, row in zip(listed(), rows):
        assert [suite for suite in words[1:] if suite not in row[1]] == []


def dkms(expression: str, *arguments: str
         ) -> 'subprocess.CompletedProcess[str]':
    """Evaluate something where dkms.conf was read, as dkms does."""
    return subprocess.run(
        ['bash', '-c', f'. ./dkms.conf; {expression}', 'dkms', *arguments],
        cwd=TOP, check=False, text=True, stdout=subprocess.PIPE)


def dkms_builds_for(release: str) -> bool:
    """Whether its regular expression matches."""
    return dkms('[[ $1 =~ $BUILD_EXCLUSIVE_KERNEL ]]', release).returncode == 0


# Tried by hand, as docs/install.md says.
TRIED = ['5.15', '6.8']


@pytest.mark.parametrize('release', [
    f'{series}{rest}' for series in [words[0] for words in listed()] + TRIED
    for rest in ('', '.0-56-cloud-amd64', '.4+deb13-amd64', '-rc1')])
def test_dkms_builds_for_a_release_of_a_series_that_was_tried(release: str
                                                              ) -> None:
    """Debian's names of releases, and others."""
    assert dkms_builds_for(release)


@pytest.mark.parametrize('release', [
    '5.1.12', '5.9.0-5-amd64', '5.16.0-1-amd64', '6.7.1', '6.80.1', '6.10.1',
    '6.120.1', '7.4.0-1-amd64', '7.30.1', '15.10.0', '16.1.0'])
def test_dkms_does_not_build_for_another_release(release: str) -> None:
    """Some look like one that is listed."""
    assert not dkms_builds_for(release)


def test_the_error_is_for_kernels_before_the_oldest() -> None:
    """The number that is compared, and the one that is printed."""
    oldest = listed()[0][0]
    assert re.findall(
        r'LINUX_VERSION_CODE < KERNEL_VERSION\((\d+), (\d+), 0\)\n'
        r'#error "[^"]* (\S+) and', text('rmapviz_compat.h')) \
        == [(*oldest.split('.'), oldest)]


def test_the_remark_is_for_kernels_after_the_newest() -> None:
    """From the next on."""
    major, minor = listed()[-1][0].split('.')
    assert re.findall(
        r'LINUX_VERSION_CODE >= KERNEL_VERSION\((\d+), (\d+), 0\) '
        r'&& defined\(RV_SAY_UNTESTED\)', text('rmapviz_compat.h')) \
        == [(major, str(int(minor) + 1))]


# ------------------------------------------------------ what it is built of --

def needed() -> Set[str]:
    """What Kbuild refuses to build without."""
    found = first('^rv-needs := (.*)$', text('Kbuild')).split()
    assert found, 'Kbuild says nothing'
    return {f'CONFIG_{name}' for name in found}


def test_dkms_asks_for_the_configuration_that_kbuild_needs() -> None:
    """All options, and no others."""
    assert set(dkms('echo $BUILD_EXCLUSIVE_CONFIG').stdout.split()) \
        == needed()


def test_the_documents_name_the_configuration_that_kbuild_needs() -> None:
    """For those who build a kernel."""
    assert needed() - set(quoted(text('docs/install.md'))) == set()


def test_dkms_builds_for_x86_64_and_nothing_else() -> None:
    """The page tables are those of that machine."""
    matches = '[[ $1 =~ $BUILD_EXCLUSIVE_ARCH ]]'
    assert dkms(matches, 'x86_64').returncode == 0
    assert dkms(matches, 'i686').returncode == 1


def version() -> str:
    """That of the module."""
    found = first(r'^#define RV_VERSION "(.*)"$', text('rmapviz.h'))
    assert found, 'rmapviz.h has no version'
    return found


def test_dkms_has_the_version_of_the_module() -> None:
    """DKMS compares it."""
    assert dkms('echo $PACKAGE_VERSION').stdout.strip() == version()


def test_the_command_has_the_version_of_the_module() -> None:
    """They are made together."""
    said = subprocess.run(
        [TOP / 'tools/rmapviz', '--version'], check=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
    assert said == f'rmapviz {version()}\n'


@pytest.mark.parametrize('name, pattern', [
    ('CHANGELOG.md', r'^## (\S+)'),
    ('debian/changelog', r'^rmapviz \((.*)\)')])
def test_the_newest_entry_of_a_changelog_has_the_version_of_the_module(
        name: str, pattern: str) -> None:
    """That for users, and the package's."""
    assert first(pattern, text(name)) == version()


def test_kbuild_builds_every_source() -> None:
    """And nothing that is not there."""
    objects = set(re.findall(r'(rmapviz_\w+)\.o\b', text('Kbuild')))
    assert objects == {name[:-2] for name in module()
                       if name.endswith('.c') and name != 'rmapviz.c'}


def test_kbuild_asks_headers_for_what_is_used() -> None:
    """Every RV_HAS_* that it defines, and no other."""
    assert set(re.findall(r'\bRV_HAS_\w+', text('Kbuild'))) \
        == set(re.findall(r'\bRV_HAS_\w+', module()['rmapviz_compat.h']))


def test_every_c_file_begins_with_its_license() -> None:
    """As the kernel wants it."""
    assert [name for name in files() if name.endswith(('.c', '.h'))
            and 'SPDX-License-Identifier: GPL-2.0'
            not in text(name).split('\n', 1)[0]] == []


def test_the_license_is_the_gpl_of_version_2() -> None:
    """The text itself."""
    assert 'GNU GENERAL PUBLIC LICENSE\n' in text('LICENSE')
    assert 'Version 2, June 1991' in text('LICENSE')


# ------------------------------------------------------------------- rooms --

def test_one_file_knows_versions_of_kernels() -> None:
    """And what Kbuild found out about them."""
    assert mentions(r'LINUX_VERSION_CODE|KERNEL_VERSION|\bRV_HAS_',
                    module()) == ['rmapviz_compat.h']


def test_one_file_looks_up_symbols() -> None:
    """By kprobes."""
    assert mentions('register_kprobe|kallsyms', module()) == ['rmapviz_ksym.c']


def test_what_collects_does_not_print() -> None:
    """It neither formats for a reader nor copies to one."""
    assert mentions(r'\bseq_\w+\(|copy_to_user|put_user',
                    some(list(COLLECTS), module())) == []


def test_what_prints_does_not_lock() -> None:
    """Reports are printed from memory."""
    assert mentions(r'_lock\(|_trylock\(|\bdown_(?:read|write)\w*\(',
                    some(list(PRINTS), module())) == []


def test_no_file_calls_one_that_calls_it() -> None:
    """Not by way of others either."""
    uses = layers.uses(module())
    assert uses['rmapviz_walk.c'] >= {'rmapviz_record.c', 'rmapviz_ksym.c'}, \
        'calls are not found'
    assert layers.circle(uses) == []


def test_nothing_calls_what_drives_the_steps() -> None:
    """rmapviz.c calls them."""
    assert [name for name, used in layers.uses(module()).items()
            if 'rmapviz.c' in used] == []


def test_no_header_includes_one_that_includes_it() -> None:
    """Not by way of others either."""
    assert layers.circle(layers.includes(module())) == []


@pytest.mark.parametrize('name', [name for name in PRINTS
                                  if name.endswith('.c')])
def test_what_prints_includes_last_what_forbids_it_to_lock(name: str) -> None:
    """The header poisons the words, which those before it may need."""
    assert re.findall('^#include (.*)', text(name), re.MULTILINE)[-1] \
        == '"rmapviz_report.h"'


@pytest.mark.parametrize('name', PRINTS)
def test_what_prints_includes_nothing_to_lock_or_collect_with(
        name: str) -> None:
    """So it does not compile if it tries."""
    headers = included(name)
    assert headers & {'rmapviz_collect.h', 'rmapviz_compat.h'} == set()
    assert [header for header in headers
            if NOT_FOR_PRINTING.fullmatch(header)] == []


def test_what_drives_the_steps_includes_nothing_to_collect_with() -> None:
    """rmapviz.c knows neither anon_vma nor page tables."""
    assert {'rmapviz_collect.h', 'rmapviz_compat.h', 'linux/rmap.h'} \
        & included('rmapviz.c') == set()


def test_what_needs_no_rmap_lock_knows_no_rmap() -> None:
    """Names, order and judgements come after the locks."""
    assert mentions(r'<linux/rmap\.h>|_compat\.h|\banon_vma',
                    some(list(LOCKLESS), module())) == []


def test_compat_includes_nothing_of_ours() -> None:
    """Everybody who collects stands on it."""
    assert [header for header in included('rmapviz_compat.h')
            if (TOP / header).exists()] == []


def test_the_records_need_no_other_header_of_ours() -> None:
    """They are plain data for everyone."""
    assert [header for header in included('rmapviz_snap.h')
            if (TOP / header).exists()] == []


# ---------------------------------------------------------------- make help --

def phony() -> Set[str]:
    """What can be made."""
    return {target for line in re.findall(r'^\.PHONY:(.*)$', text('Makefile'),
                                          re.MULTILINE)
            for target in line.split()}


def test_make_help_names_every_target() -> None:
    """And none that there is not."""
    output = subprocess.run(['make', '-s', '-C', TOP, 'help'], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    assert set(re.findall(r'^make (\S+)', output, re.MULTILINE)) == phony()


def test_the_documents_name_no_target_that_there_is_not() -> None:
    """In what they show as code."""
    named = {first(r'^(?:sudo )?make ([a-z][a-z-]+)(?: |$)', command)
             for command in commands()}
    assert named - phony() - {''} == set()


# --------------------------------------------------------------- the query --

def grammar() -> List[str]:
    """As the head of the parser has it: query, target, option."""
    lines = re.findall(r'(?:query|target|option) +:= .*',
                       text('rmapviz_query.c'))
    assert len(lines) == 3
    return lines


def options() -> Set[str]:
    """The words that the parser knows."""
    found = set(re.findall(r'\{ "(\w+)", RV_OPT_', text('rmapviz_query.c')))
    assert found, 'the parser knows none'
    return found


def targets() -> Set[str]:
    """The words that a target can begin with, by the grammar."""
    return set(re.findall(r'"([a-z]+:?)"', grammar()[1]))


def usage() -> str:
    """What the file itself explains."""
    return '\n'.join(re.findall(r'^\t"(.*)\\n"', text('rmapviz_report.c'),
                                re.MULTILINE))


def test_the_documents_have_the_grammar_of_the_parser() -> None:
    """Letter by letter."""
    assert [line for line in grammar()
            if f'    {line}\n' not in text('docs/report.md')] == []


def test_the_grammar_has_the_options_that_the_parser_knows() -> None:
    """All of them, and no others."""
    assert set(re.findall('"([a-z]+)"', grammar()[2])) == options()


def test_the_documents_explain_the_options_that_the_parser_knows() -> None:
    """In a table."""
    assert {word for row in table('docs/report.md',
                                  '| option | what it does |')
            for word in quoted(row[0])} == options()


def test_the_readme_names_the_options_that_the_parser_knows() -> None:
    """All but the one that one gets anyway."""
    said = text('README.md').split('## Ask')[1].split('\n## ')[0]
    assert [word for word in sorted(options() - {'text'})
            if not re.search(rf'\b{word}\b', said)] == []


def test_the_usage_text_explains_the_options() -> None:
    """What a first cat shows."""
    assert [word for word in sorted(options())
            if not re.search(rf'  {word}  +\w', usage())] == []


def test_the_documents_explain_the_targets() -> None:
    """In a table."""
    rows = table('docs/report.md', '| target | the answer is about |')
    assert {first(r'^([a-z]+:?)', cell)
            for row in rows for cell in quoted(row[0])} - {''} == targets()


def test_the_usage_text_explains_the_targets() -> None:
    """What a first cat shows."""
    assert [word for word in sorted(targets())
            if not re.search(rf'\b{word}(?<=:)\w|\b{word} ', usage())] == []


def test_the_parser_knows_the_targets_of_the_grammar() -> None:
    """In its code, not only at its head."""
    code = module()['rmapviz_query.c']
    assert [word for word in sorted(targets()) if f'"{word}"' not in code] \
        == []


@pytest.mark.parametrize('name, document, said', [
    ('RV_QUERY_MAX', 'docs/report.md', 'at most {} bytes'),
    ('RV_ATTEMPTS', 'docs/report.md', 'for {} tries'),
    ('RV_ATTEMPTS', 'docs/design.md', 'again, at most {} times')])
def test_the_documents_have_a_limit_right(name: str, document: str,
                                          said: str) -> None:
    """The number that the code has."""
    limit = first(rf'#define {name} +(\d+)\b', '\n'.join(module().values()))
    assert limit, f'{name} is not defined'
    assert said.format(limit) in ' '.join(text(document).split())


# -------------------------------------------------------------- the report --

def errnos() -> Set[str]:
    """Those of the documents."""
    return {row[0] for row in table('docs/report.md', '| errno | when |')}


def returned() -> Set[str]:
    """Those of the sources."""
    return set(re.findall(r'-(E[A-Z]{2,})\b', '\n'.join(module().values())))


def test_the_documents_name_no_errno_that_the_sources_have_not() -> None:
    """Who reads about it may wait for it."""
    assert errnos() - returned() == set()


def test_the_documents_have_every_errno_of_a_query() -> None:
    """Whatever a write can end with."""
    assert returned() - errnos() - NOT_OF_QUERIES == set()


def tables_of_json() -> List[str]:
    """The lists of records that a report consists of."""
    return re.findall(r'JSON_TABLE\(\w+, "(\w+)"', text('rmapviz_json.c'))


def fields() -> Set[str]:
    """Every key that the JSON printer prints."""
    source = text('rmapviz_json.c')
    found = set(re.findall(r'\\"(\w+)\\":', source)) \
        | set(re.findall(r'json_\w+\(&?_?e, "(\w+)"', source)) \
        | set(tables_of_json())
    assert len(found) > 50, 'the printer is written in another way'
    return found


def test_the_documents_explain_every_field_of_the_json() -> None:
    """Between backquotes; an example alone explains nothing."""
    explained = {piece if piece.isidentifier() else first(r'^"(\w+)":', piece)
                 for piece in quoted(text('docs/report.md'))}
    assert fields() - explained == set()


def properties(schema: Any) -> Iterator[str]:
    """Every name of a field in a schema, or in a part of it."""
    if isinstance(schema, dict):
        yield from schema.get('properties', {})
        for part in schema.values():
            yield from properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part)


def schema_of_reports() -> Any:
    """The schema, without what stands for an answer that there is not."""
    schema = json.loads(text('docs/report.schema.json'))
    del schema['$defs']['failure']
    return schema


def test_the_schema_has_the_fields_of_the_json_and_no_others() -> None:
    """A field that is printed is written down."""
    assert set(properties(schema_of_reports())) == fields()


def test_the_example_of_a_report_is_json_and_whole() -> None:
    """As it comes when asked for nothing more."""
    example = first(r'(?s)^(    \{"rmapviz": 1.*?)\n\n',
                    text('docs/report.md'))
    assert set(json.loads(example)) == {
        'rmapviz', 'kernel', 'query', 'page', 'walk', 'reclaim', 'migrate',
        'history', *tables_of_json()}
    assert schema_faults(json.loads(example)) == []


def words() -> Set[str]:
    """Kinds, mappings, levels, outcomes, verdicts and reasons, as they are
    printed."""
    found = set(re.findall(r'RV_WORD\("([a-z A-Z_-]+)"\)',
                           text('rmapviz_words.c')))
    assert len(found) > 40, 'they are written elsewhere'
    return found


def test_the_documents_have_every_word_of_the_report() -> None:
    """Kinds, mappings, levels, outcomes, reasons, flags of entries."""
    assert words() - set(quoted(text('docs/report.md'))) == set()


def test_the_schema_has_every_word_of_the_report() -> None:
    """In its lists of what is allowed."""
    allowed = re.findall(r'"([\w -]+)"', text('docs/report.schema.json'))
    assert words() - set(allowed) == set()


# ----------------------------------------------------- documents themselves --

def test_the_readme_shows_a_report_before_it_explains() -> None:
    """In its first 40 lines."""
    assert [line for line in text('README.md').splitlines()[:40]
            if re.match(r' *PFN 0x[0-9a-f]+ is ', line)]


def test_the_readme_is_under_10000_bytes() -> None:
    """What is looked up is in docs/."""
    assert len((TOP / 'README.md').read_bytes()) < 10000


@pytest.mark.parametrize('name', DOCUMENTS)
def test_a_document_is_wrapped_at_80_columns(name: str) -> None:
    """But tables, and what is shown as code."""
    document = re.sub(r'(?ms)^```.*?^```$', '', text(name))
    assert [line for line in document.splitlines()
            if len(line) > 80 and not line.startswith(('|', '  '))] == []


def links(name: str) -> Iterator[str]:
    """What a document links to in the project."""
    yield from re.findall(r'\]\((?!https?:)([^)]+)\)',
                          without_code(text(name)))


@pytest.mark.parametrize('name', DOCUMENTS)
def test_a_document_links_to_what_there_is(name: str) -> None:
    """Files, and headings in them."""
    broken = []
    for link in links(name):
        path, _, anchor = link.partition('#')
        target = (TOP / name).parent / path if path else TOP / name
        if not target.exists() or (
                anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize('name', DOCUMENTS)
def test_a_document_names_files_that_there_are(name: str) -> None:
    """Between backquotes, in directories of ours; * stands for some."""
    named = [piece for piece in quoted(text(name))
             if re.match(r'(tests|docs|tools|debian)/\S*$', piece)]
    assert [piece for piece in named if not list(TOP.glob(piece))] == []


@pytest.mark.parametrize('name', DOCUMENTS)
def test_a_document_can_be_found_from_the_readme(name: str) -> None:
    """By links."""
    found: Set[Path] = set()
    todo = [TOP / 'README.md']
    while todo:
        path = todo.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        if path.suffix == '.md':
            todo += [(path.parent / link.split('#')[0]).resolve()
                     for link in links(str(path.relative_to(TOP)))
                     if link.split('#')[0]]
    assert TOP / name in found


# ------------------------------------------------------ what is where, told --

def rooms() -> List[str]:
    """The files, patterns and directories/ of the table."""
    return [name for row in table(
        'CONTRIBUTING.md',
        '| file | its one job | what does not belong there |')
            for name in quoted(row[0])]


def is_in(name: str, room: str) -> bool:
    """Whether that row is about the file."""
    return name.startswith(room) if room.endswith('/') \
        else fnmatch.fnmatch(name, room)


def test_every_file_has_its_row_in_the_table_of_files() -> None:
    """CONTRIBUTING.md says what it is for."""
    assert [name for name in files()
            if not any(is_in(name, room) for room in rooms())] == []


def test_every_row_of_the_table_of_files_is_about_something() -> None:
    """What was there once has no row."""
    assert [room for room in rooms()
            if not any(is_in(name, room) for name in files())] == []
