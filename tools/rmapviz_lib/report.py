"""Reports: what the module and drgn_dump.py answer, checked once and for all.

After check() a report has every field that is used here, of the type that it
must have, and no id leads out of its list.
"""

import errno
import json
import os
import re
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple

from .failure import Failure
from .words import kernel_name, plain

Report = Dict[str, Any]
Record = Dict[str, Any]

VERSION = 1
PAGE = 4096

# How drgn_dump.py says what the module has an errno for.
_ERRORS = {'no such page': errno.ENXIO, 'no such process': errno.ESRCH,
           'the process maps no page there': errno.EFAULT}

# The largest answer that there can be takes some 450 MB.
LIMIT = 512 << 20

# A file is read in pieces of so many bytes.
_PIECE = 1 << 20

# No field has more than 64 bits.
_MOST = 1 << 64

TABLES = ('anon_vmas', 'avcs', 'mms', 'vmas', 'ptes')

_INT, _TEXT, _BOOL, _LIST = int, str, bool, list
_NO_INT = (int, type(None))
_NO_TEXT = (str, type(None))
# not in reports that drgn_dump.py made before it judged
_MAYBE_LIST = (list, type(None), type(Ellipsis))

# What is used of each record, and what it must be; for a reference, the list
# that it leads to.
_FIELDS: Dict[str, Dict[str, Any]] = {
    'page': {'pfn': _INT, 'head': _INT, 'order': _INT, 'kind': _TEXT,
             'flags': _LIST, 'mapping': _NO_TEXT, 'index': _NO_TEXT,
             'file': _NO_TEXT, 'mapcount': _INT, 'folio_mapcount': _INT,
             'refcount': _INT, 'expected_refs': _NO_INT,
             'dma_pins': _NO_INT, 'extra_refs': _NO_INT},
    'anon_vmas': {'id': _INT, 'root': _NO_INT, 'parent': _NO_INT,
                  'level': _INT, 'on_page': _BOOL, 'refcount': _INT,
                  'children': _INT, 'active_vmas': _INT},
    'avcs': {'anon_vma': _NO_INT, 'vma': _NO_INT, 'role': _TEXT},
    'mms': {'pid': _INT, 'comm': _TEXT, 'tasks': _LIST},
    'vmas': {'mm': _NO_INT, 'start': _TEXT, 'end': _TEXT, 'perms': _TEXT,
             'pgoff': _TEXT, 'name': _NO_TEXT, 'anon_vma': _NO_INT,
             'visited': _BOOL, 'mapped': _BOOL, 'unmap': _MAYBE_LIST},
    'ptes': {'pfn': _INT, 'pages': _INT, 'vma': _NO_INT, 'addr': _TEXT,
             'level': _TEXT, 'value': _TEXT, 'flags': _LIST},
    'walk': {'visited': _INT, 'mapped': _INT, 'tree_vmas': _NO_INT,
             'unreached': _INT, 'lost': _INT},
    'verify': {'missing': _LIST, 'extra': _LIST},
    'place': {'addr': _TEXT, 'mm': _NO_INT},
}
_REFERENCES = (('anon_vmas', 'root', 'anon_vmas'),
               ('anon_vmas', 'parent', 'anon_vmas'),
               ('avcs', 'anon_vma', 'anon_vmas'), ('avcs', 'vma', 'vmas'),
               ('vmas', 'mm', 'mms'), ('vmas', 'anon_vma', 'anon_vmas'),
               ('ptes', 'vma', 'vmas'))
_HEX = {'index', 'start', 'end', 'pgoff', 'addr', 'value'}
_WORDS, _PIDS = {'flags', 'reasons', 'unmap'}, {'tasks'}

# Sections that are null where they have no sense.
_JUDGEMENTS = {'migrate': {'verdict': _TEXT, 'reasons': _LIST},
               'reclaim': {'outcome': _TEXT, 'reasons': _LIST}}

# What the kernel calls a folio is never larger.
_MAX_ORDER = 20


def _said(value: Any, limit: int = 20) -> str:
    """The beginning of a value; of lists and objects only what they are."""
    if isinstance(value, (list, dict)):
        return 'a list' if isinstance(value, list) else 'an object'
    return str(value)[:limit]


def _record_faults(where: str, record: Any, fields: Dict[str, Any]
                   ) -> Iterator[str]:
    if not isinstance(record, dict):
        yield f'{where} is no object'
        return
    for name, kind in fields.items():
        value = record.get(name, Ellipsis)
        if not isinstance(value, kind) or (
                isinstance(value, bool) and kind is not _BOOL):
            yield f'{where} has no {name}' if value is Ellipsis \
                else f'{name} of {where} is {_said(value)}'
        elif not _is_well_made(name, value):
            yield f'{name} of {where} is {_said(value)}'


def _is_well_made(name: str, value: Any) -> bool:
    """Whether a value of the right type is one that the field can have."""
    if name in _HEX and value is not None:
        return re.fullmatch('0x[0-9a-f]{1,16}', value) is not None
    if name in _WORDS and isinstance(value, list):
        return all(isinstance(word, str) for word in value)
    if name in _PIDS:
        return all(type(pid) is int and abs(pid) < _MOST for pid in value)
    if name == 'order':
        return bool(0 <= value <= _MAX_ORDER)
    return not isinstance(value, int) or abs(value) < _MOST


def _table_faults(report: Report) -> Iterator[str]:
    for table in TABLES:
        records = report.get(table)
        if not isinstance(records, list):
            yield f'it has no {table}'
            continue
        for i, record in enumerate(records):
            yield from _record_faults(f'{table}[{i}]', record, _FIELDS[table])


def _reference_faults(report: Report) -> Iterator[str]:
    for table, field, target in _REFERENCES:
        end = len(report[target])
        for i, record in enumerate(report[table]):
            if record[field] is not None and not 0 <= record[field] < end:
                yield f'{field} of {table}[{i}] leads nowhere'
    places = report.get('verify') or {'missing': (), 'extra': ()}
    for place in (*places['missing'], *places['extra']):
        if place['mm'] is not None \
                and not 0 <= place['mm'] < len(report['mms']):
            yield 'mm of a place of verify leads nowhere'
    for i, av in enumerate(report['anon_vmas']):
        if av['parent'] not in (None, i) and av['parent'] >= i:
            yield f'parent of anon_vmas[{i}] comes after it'


def _verify_faults(report: Report) -> Iterator[str]:
    verify = report.get('verify')
    if verify is None:
        return
    faults = list(_record_faults('verify', verify, _FIELDS['verify']))
    yield from faults
    for name in () if faults else ('missing', 'extra'):
        for i, place in enumerate(verify[name]):
            yield from _record_faults(f'{name}[{i}] of verify', place,
                                      _FIELDS['place'])


def _faults(report: Report) -> Iterator[str]:
    page = report.get('page', Ellipsis)
    if page is not None:
        yield from _record_faults('page', page, _FIELDS['page'])
    yield from _record_faults('walk', report.get('walk'), _FIELDS['walk'])
    for name in 'kernel', 'query':
        if not isinstance(report.get(name), str):
            yield f'it has no {name}'
    for name, fields in _JUDGEMENTS.items():
        if report.get(name) is not None:
            yield from _record_faults(name, report[name], fields)
    yield from _verify_faults(report)
    if is_brief(report):
        return
    fault = next(_table_faults(report), None)
    yield from [fault] if fault else _reference_faults(report)


def is_brief(report: Report) -> bool:
    """Whether it has page and cost only."""
    return not any(table in report for table in TABLES)


def check(report: Any, source: str) -> Report:
    """A report that is one; raises Failure."""
    if not isinstance(report, dict) or 'rmapviz' not in report:
        raise Failure(f'{source}: not a report of rmapviz')
    if report['rmapviz'] != VERSION:
        raise Failure(f"{source}: a report of version "
                      f"{_said(report['rmapviz'])}; this command knows "
                      f'version {VERSION}')
    if 'error' in report:
        error = _said(report['error'], 200)
        raise Failure(f"{source}: {_said(report.get('query'), 127)}: {error}",
                      _ERRORS.get(error, errno.EIO))
    fault = next(_faults(report), None)
    if fault:
        raise Failure(f'{source}: not a whole report: {fault}')
    return report


def parse(text: str, source: str) -> Report:
    """A report from JSON; raises Failure."""
    if not text or text.isspace():
        raise Failure(f'{source}: empty')
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f'{source}: not JSON, or cut off: {str(error):.100}') \
            from None
    except MemoryError:
        raise Failure(f'{source}: more than memory has room for') from None
    return check(report, source)


def _read(file: BinaryIO, path: str) -> bytearray:
    """What is in a file, up to the limit; of one that is no report less.

    It may have no end, as /dev/zero, so nothing is kept of blanks.
    """
    data, size = bytearray(), 0
    while True:
        piece = file.read(_PIECE)
        if not piece:
            return data
        size += len(piece)
        if size > LIMIT:
            raise Failure(f'{path}: more than {LIMIT >> 20} MB, which is more '
                          'than any report has')
        data += piece if data else piece.lstrip(b' \t\n\r')
        if data[:1] not in (b'', b'{'):
            raise Failure(f'{path}: not a report of rmapviz: it does not '
                          'begin with {')


def load(path: str) -> Report:
    """A report from a file, or - for standard input; raises Failure."""
    try:
        with open(0 if path == '-' else path, 'rb') as file:
            text = _read(file, path).decode('utf-8', 'replace')
    except OSError as error:
        raise Failure(f'{path}: {os.strerror(error.errno or 0)}') from None
    except MemoryError:
        raise Failure(f'{path}: more than memory has room for') from None
    return parse(text, path)


# ----------------------------------------------------- what a report tells --

def comm(mm: Record) -> str:
    """The name of a process."""
    return kernel_name(mm['comm']) or '?'


def mm_of(report: Report, vma: Record) -> Optional[Record]:
    """The address space that a VMA is in."""
    mm: Optional[Record] = None if vma['mm'] is None \
        else report['mms'][vma['mm']]
    return mm


def span(vma: Record) -> str:
    """The range of a VMA, as /proc/PID/maps has it."""
    return f"{int(vma['start'], 16):x}-{int(vma['end'], 16):x}"


def outcome(vma: Record) -> str:
    """What the walk found in a VMA, in the words of the text report."""
    if vma['mapped']:
        return 'maps'
    return 'visited' if vma['visited'] else '-'


def mappings(report: Report) -> Iterator[Tuple[int, int]]:
    """Every pid and address at which the page appears."""
    for pte in report['ptes']:
        if pte['vma'] is None:
            continue
        mm = mm_of(report, report['vmas'][pte['vma']])
        for pid in mm['tasks'] if mm else ():
            yield pid, int(pte['addr'], 16)


KINDS = {'anon': 'an anonymous page', 'ksm': 'a KSM page',
         'file': 'a page of a file', 'shmem': 'a page of shared memory',
         'hugetlb': 'a hugetlb page', 'zero': 'a zero page',
         'free': 'free', 'slab': "the kernel's: slab",
         'pagetable': "the kernel's: a page table",
         'reserved': "the kernel's: reserved",
         'movable': 'movable by its driver', 'offline': 'offline',
         'device': 'memory of a device', 'other': "the kernel's or a driver's"}


def what(page: Record) -> str:
    """What a page is, in words."""
    return KINDS.get(page['kind']) or plain(page['kind'])


def flags_text(values: List[str]) -> str:
    """Flags on one line."""
    return ' '.join(map(kernel_name, map(str, values)))
