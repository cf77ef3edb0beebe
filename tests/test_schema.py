"""The schema of reports: it takes what guests answered, and nothing else.

The samples in tests/data/reports are answers of the module and of
tools/drgn_dump.py, as they came.  Each is then broken in every way of a kind,
one place after the other, and no break may pass.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Set, Tuple

import pytest

from rvtest import schema, vm
from rvtest.report import Report, parse

SAMPLES = {path.stem: path.read_text() for path in sorted(
    (Path(__file__).parent / 'data' / 'reports').glob('*.json'))}

# Of these, some with records of all tables.
FULL = ('anon', 'drgn', 'file', 'ptrs', 'verify')

# Where something is in a report: keys and indices on the way to it.
Way = Tuple[Any, ...]

every_sample = pytest.mark.parametrize('sample', SAMPLES)


def ways(part: Any, way: Way = ()) -> Iterator[Way]:
    """Every place of a report, the report itself first."""
    yield way
    if isinstance(part, dict):
        for name, inner in part.items():
            yield from ways(inner, (*way, name))
    elif isinstance(part, list):
        for i, inner in enumerate(part):
            yield from ways(inner, (*way, i))


def at(report: Report, way: Way) -> Any:
    """What is there."""
    found: Any = report
    for step in way:
        found = found[step]
    return found


def passing(sample: str, which: Callable[[Any, Way], bool],
            change: Callable[[Any, Any], None]) -> List[Way]:
    """Places at which a change goes unnoticed.

    It is made at all places that are of a kind, one after the other: which is
    asked with what is there and the way to it; change gets what holds the
    place, and its key there.
    """
    report = json.loads(SAMPLES[sample])
    chosen = [way for way in ways(report)
              if way and which(at(report, way), way)]
    assert chosen
    found = []
    for way in chosen:
        changed = copy.deepcopy(report)
        change(at(changed, way[:-1]), way[-1])
        if not schema.faults(changed):
            found.append(way)
    return found


def is_field(_: Any, way: Way) -> bool:
    """It has a name."""
    return isinstance(way[-1], str)


def set_to(other: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
    """A change that puts something else there, which depends on what was."""
    def change(holder: Any, key: Any) -> None:
        holder[key] = other(holder[key])
    return change


def of_another_type(value: Any) -> Any:
    """Something like it that JSON tells from it."""
    if value is None:
        return {}
    return 1 if isinstance(value, str) else 'something'


@every_sample
def test_sample_is_valid(sample: str) -> None:
    """What was answered is as the schema says."""
    assert schema.faults(json.loads(SAMPLES[sample])) == []


@every_sample
def test_no_field_can_be_missing(sample: str) -> None:
    """A report without one of its fields is none."""
    def drop(holder: Any, key: Any) -> None:
        del holder[key]

    assert passing(sample, is_field, drop) == []


@every_sample
def test_no_field_can_be_added(sample: str) -> None:
    """Nor is one with a field that the schema does not know."""
    assert schema.faults({**json.loads(SAMPLES[sample]), 'color': 0})


@pytest.mark.parametrize('sample', sorted(SAMPLES.keys() - {'failure'}))
def test_no_field_can_be_added_inside(sample: str) -> None:
    """Nor in any of its records."""
    def add(holder: Any, key: Any) -> None:
        holder[key]['color'] = 0

    assert passing(sample, lambda value, _: isinstance(value, dict),
                   add) == []


@every_sample
def test_every_type_matters(sample: str) -> None:
    """Everything is of its type, nothing but what is told to be null is."""
    assert passing(sample, lambda *_: True, set_to(of_another_type)) == []


@every_sample
def test_numbers_are_whole(sample: str) -> None:
    """No number has a fraction."""
    assert passing(sample, lambda value, _: type(value) is int,
                   set_to(lambda value: value + 0.5)) == []


@every_sample
def test_numbers_are_not_negative(sample: str) -> None:
    """No number is below 0, but one may be for a moment."""
    assert passing(sample, lambda value, way: type(value) is int
                   and way[-1] != 'extra_refs', set_to(lambda _: -1)) == []


@pytest.mark.parametrize('sample', FULL)
def test_words_are_those_of_a_list(sample: str) -> None:
    """A kind, level, flag or role is one of those that there are.

    Flags of pages are the kernel's, and not all kernels have the same.
    """
    def is_word(value: Any, way: Way) -> bool:
        return isinstance(value, str) and (
            way[-1] in ('kind', 'mapping', 'role', 'level', 'outcome',
                        'verdict', 'form', 'how')
            or 'reasons' in way or 'flags' in way and way[0] == 'ptes')

    assert passing(sample, is_word, set_to(lambda value: value + 'y')) == []


@pytest.mark.parametrize('wrong', ['0X1f', '0x01f', '1f', '0x1F', '0x',
                                   '0x12345678123456781'])
@pytest.mark.parametrize('sample', FULL)
def test_hex_is_written_in_one_way(sample: str, wrong: str) -> None:
    """0x, small letters, no zero before others, at most 64 bits."""
    names = ('addr', 'end', 'index', 'mapping_ptr', 'pgoff', 'ptr', 'start',
             'value')
    assert passing(sample, lambda value, way: way[-1] in names
                   and value is not None, set_to(lambda _: wrong)) == []


def test_permissions_of_a_vma_are_four_letters() -> None:
    """rwxp, each in its place."""
    assert passing('anon', lambda _, way: bool(way[-1] == 'perms'),
                   set_to(lambda value: value[::-1])) == []


def closed_lists(part: Any) -> Iterator[FrozenSet[str]]:
    """All lists of words in a schema."""
    if isinstance(part, dict):
        if 'enum' in part:
            yield frozenset(filter(None, part['enum']))
        for inner in part.values():
            yield from closed_lists(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from closed_lists(inner)


def test_the_module_has_the_words_of_the_schema() -> None:
    """And no other: those, too, that no test makes it say."""
    lists: Set[FrozenSet[str]] = {
        frozenset(re.findall(r'"([^"]+)"', words)) for words in re.findall(
            r'words\[\w*\] = {(.*?)};',
            (vm.TOP / 'rmapviz_words.c').read_text(), re.DOTALL)}
    assert len(lists) == 9
    told = set(closed_lists(json.loads(schema.SCHEMA.read_text())))
    of_several_or_some = {
        frozenset(('own', 'bridge')),
        frozenset(('mlocked', 'referenced')),
        frozenset(('anon', 'ksm', 'file', 'shmem', 'hugetlb'))}
    assert lists == told - of_several_or_some


# What contradicts what else is in the report: sample, change, what is told.
def _set(*way: Any, to: Any) -> Callable[[Report], None]:
    def change(report: Report) -> None:
        at(report, way[:-1])[way[-1]] = to
    return change


def _drop(*way: Any) -> Callable[[Report], None]:
    def change(report: Report) -> None:
        del at(report, way[:-1])[way[-1]]
    return change


CONTRADICTIONS: Dict[str, Tuple[str, Callable[[Report], None], str]] = {
    'another version': ('anon', _set('rmapviz', to=2), '$.rmapviz'),
    'tables in a brief report': ('brief', _set('ptes', to=[]), '$.ptes'),
    'no tables though it is not brief': (
        'brief', _set('query', to='1 json'), "'ptes' is a required"),
    'an address though none was asked for': (
        'anon', _set('avcs', 1, 'ptr', to='0x1'), '$.avcs[1].ptr'),
    'an address of the page, the same': (
        'brief', _set('page', 'mapping_ptr', to='0x1'), 'mapping_ptr'),
    'one address missing of those asked for': (
        'ptrs', _drop('vmas', 1, 'ptr'), '$.vmas[1]'),
    'no verify though it was asked for': (
        'anon', _set('query', to='1 json verify'), "'verify'"),
    'verify though it was not asked for': (
        'verify', _set('query', to='1 json'), '$.verify'),
    'a page though none was asked about': (
        'anon', _set('query', to='pid 5 json'), '$.page'),
    'no page though one was asked about': (
        'process-brief', _set('query', to='pid 5 0x1 brief json'), '$.page'),
    'reclaim of a page that it cannot take': (
        'reserved', _set('reclaim', to={
            'outcome': 'SWAP_FAIL', 'reasons': []}), '$.reclaim'),
    'no reclaim of one that it could': (
        'anon', _set('reclaim', to=None), '$.reclaim'),
    'pins of a page that rmap does not map': (
        'reserved', _set('page', 'dma_pins', to=1), '$.page.dma_pins'),
    'no pins of a page that it maps': (
        'anon', _set('page', 'dma_pins', to=None), '$.page.dma_pins'),
    'references too many to a page that rmap does not map': (
        'reserved', _set('page', 'extra_refs', to=1), '$.page.extra_refs'),
    'an unknown number of them to one that it maps': (
        'anon', _set('page', 'extra_refs', to=None), '$.page.extra_refs'),
    'a page that moves, with a reason not to': (
        'anon', _set('migrate', 'reasons', to=['locked']),
        '$.migrate.reasons'),
    'a page that does not move, for no reason': (
        'anon', _set('migrate', 'verdict', to='not now'),
        '$.migrate.reasons'),
    'a page that can never move for what goes by': (
        'reserved', _set('migrate', 'reasons', to=['locked']),
        '$.migrate.reasons'),
    'a page that moves later though it can never': (
        'reserved', _set('migrate', 'verdict', to='not now'),
        '$.migrate.reasons'),
    'no verdict on a page': (
        'anon', _set('migrate', to=None), '$.migrate'),
    'no verdict by drgn': (
        'drgn', _drop('migrate'), "'migrate'"),
    'a verdict on no page': (
        'process', _set('migrate', to={'verdict': 'yes', 'reasons': []}),
        '$.migrate'),
    'no history though it is not brief': (
        'anon', _drop('history'), "'history'"),
    'a history though it is brief': (
        'brief', _set('history', to=json.loads(SAMPLES['anon'])['history']),
        '$.history'),
    'no history though it is brief, for all is looked at': (
        'brief-verify-ptrs', _drop('history'), "'history'"),
    'a scan that nobody asked for': (
        'anon', _set('history', 'scan', to=json.loads(
            SAMPLES['verify'])['history']['scan']), '$.history.scan'),
    'no scan though it was asked for': (
        'verify', _set('history', 'scan', to=None), '$.history.scan'),
    'chains of a page that rmap does not map': (
        'reserved', _set('history', 'pte_chain', to=json.loads(
            SAMPLES['anon'])['history']['pte_chain']), '$.history.pte_chain'),
    'chains of no page': (
        'process', _set('history', 'pte_chain', to=json.loads(
            SAMPLES['anon'])['history']['pte_chain']), '$.history.pte_chain'),
    'no chains of a page': (
        'anon', _set('history', 'pte_chain', to=None), '$.history.pte_chain'),
    'a chain with entries that do not map the page': (
        'anon', _set('history', 'pte_chain', 'waste', to=1),
        '$.history.pte_chain.waste'),
    'a block with room for one entry more': (
        'anon', _set('history', 'pte_chain', 'layouts', 1, 'nrpte', to=16),
        '$.history.pte_chain.layouts[1].nrpte'),
    'a size of blocks that is not told of': (
        'anon', _drop('history', 'pte_chain', 'layouts', 5),
        '$.history.pte_chain.layouts'),
    'a list for a page that is not of the time of lists': (
        'anon', _set('page', 'kind', to='ksm'), '$.history.objrmap'),
    'no list for one that is': (
        'anon', _set('history', 'objrmap', to=None), '$.history.objrmap'),
    'visits for no page': (
        'process', _set('history', 'av_avc', 'visits', to=0),
        '$.history.av_avc.visits'),
    'no visits for a page': (
        'file', _set('history', 'objrmap', 'visits', to=None),
        '$.history.objrmap.visits'),
    'an index in no object': (
        'reserved', _set('page', 'index', to='0x1'), '$.page.index'),
    'an object and no index': (
        'anon', _set('page', 'index', to=None), '$.page.index'),
    'a reference to nothing though nothing is lost': (
        'anon', _set('avcs', 0, 'vma', to=None), '$.avcs[0].vma'),
    'a flag that is there twice': (
        'anon', _set('ptes', 0, 'flags', to=['user', 'user']),
        '$.ptes[0].flags'),
    'a measurement by drgn': (
        'drgn', _set('walk', 'lock_ns', to=1), '$.walk.lock_ns'),
    'a VMA that keeps no page': (
        'process', _set('vmas', 0, 'unmap', to=[]), '$.vmas[0].unmap'),
    'no word on whether a VMA does': (
        'anon', _drop('vmas', 0, 'unmap'), "'unmap'"),
    'no measurement by the module': (
        'drgn', _set('query', to='1 json'), 'lock_ns'),
    'a report and an error': (
        'drgn', _set('error', to='no such page'), 'kernel'),
    'a word that nobody may ask with': (
        'anon', _set('query', to='1 json loud'), '$.query'),
}


@pytest.mark.parametrize('what', CONTRADICTIONS)
def test_a_report_that_contradicts_itself_is_refused(what: str) -> None:
    """What a report says goes with what it was asked, and with the rest."""
    sample, change, told = CONTRADICTIONS[what]
    report = json.loads(SAMPLES[sample])
    change(report)
    assert any(told in fault for fault in schema.faults(report)), \
        schema.faults(report)


def test_a_mismatch_is_an_address_and_who_has_it() -> None:
    """Where scan and walk differ there are an address and who has it."""
    report = json.loads(SAMPLES['verify'])
    report['verify']['missing'] = [{'addr': '0x1000', 'mm': 1}]
    report['verify']['extra'] = [{'addr': '0x1000', 'mm': None}]
    assert schema.faults(report) == []
    report['verify']['extra'][0]['vma'] = 0
    del report['verify']['missing'][0]['mm']
    assert len(schema.faults(report)) == 2


def test_lost_records_leave_references_empty() -> None:
    """What did not fit cannot be referred to."""
    report = json.loads(SAMPLES['anon'])
    report['avcs'][0]['vma'] = None
    report['walk']['lost'] = 1
    assert schema.faults(report) == []


def test_parse_names_the_place() -> None:
    """The library's parser says where something is wrong, and what."""
    with pytest.raises(AssertionError, match=r'\$\.avcs\[0\]: .*color'):
        parse(SAMPLES['anon'].replace('"role"', '"color": 1, "role"', 1))


def test_parse_knows_what_stands_twice() -> None:
    """Of two fields of a name, json.loads() would keep one in silence."""
    with pytest.raises(AssertionError, match='twice in one object: kernel'):
        parse(SAMPLES['anon'].replace('"kernel"', '"kernel": 1, "kernel"', 1))


def test_parse_takes_no_failure_for_a_report() -> None:
    """What drgn_dump.py prints where it has no answer."""
    with pytest.raises(AssertionError, match='no report: no such page'):
        parse(SAMPLES['failure'])


def test_parse_knows_half_a_report() -> None:
    """An answer that was cut off is none."""
    with pytest.raises(AssertionError, match='no JSON'):
        parse(SAMPLES['anon'][:-9])
