"""What a report must look like, whatever it reports.

Nothing here looks at the module; what a report says is held against itself
and against what processes say of their own memory.
"""

import json
from typing import Any, Dict, Iterable, List, Set, Tuple

from . import schema

Report = Dict[str, Any]
Mapping = Tuple[int, int]
PageMapping = Tuple[int, int, int]

PAGE = 4096
PIN_BIAS = 1024     # references that FOLL_PIN takes of a small folio


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """An object of JSON, in which no field may stand twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted(name for name in found if names.count(name) > 1)
        raise ValueError(f"twice in one object: {', '.join(twice)}")
    return found


def parse(text: str) -> Report:
    """A report from the JSON that the module or drgn_dump.py answered.

    Raises AssertionError if it is not what docs/report.schema.json says.
    """
    try:
        report: Report = json.loads(text, object_pairs_hook=_object)
    except ValueError as error:
        raise AssertionError(f'no JSON: {error}\n{text[:500]}') from None
    schema.check(report)
    assert 'error' not in report, f"no report: {report['error']}"
    return report


def mappings(report: Report) -> Set[Mapping]:
    """Every (pid, address) at which the report says that the page appears.

    An address space counts for each process that uses it.
    """
    found = set()
    for pte in report['ptes']:
        mm = report['mms'][report['vmas'][pte['vma']]['mm']]
        for pid in mm['tasks']:
            found.add((pid, int(pte['addr'], 16)))
    return found


def page_mappings(report: Report) -> Set[PageMapping]:
    """Every (pid, address, frame) of which the report tells.

    An entry that stands for many pages is as many mappings.
    """
    found = set()
    for pte in report['ptes']:
        mm = report['mms'][report['vmas'][pte['vma']]['mm']]
        for i in range(pte['pages']):
            for pid in mm['tasks']:
                found.add((pid, int(pte['addr'], 16) + i * PAGE,
                           pte['pfn'] + i))
    return found


def tree(report: Report, names: Dict[int, str]) -> str:
    """The anon_vmas as nested names of those who own them.

    An owner is a process with a VMA whose own anon_vma it is; '?' stands for
    none.  The page's anon_vma has a star: "P(*P1(P12) P2)".
    """
    def owners(av: int) -> str:
        pids = [report['mms'][vma['mm']]['pid'] for vma in report['vmas']
                if vma['anon_vma'] == av]
        return '+'.join(sorted(names.get(pid, str(pid)) for pid in pids)) \
            or '?'

    def draw(av: Dict[str, Any]) -> str:
        children = sorted(
            (draw(child) for child in report['anon_vmas']
             if child['parent'] == av['id'] and child['id'] != av['id']),
            key=lambda text: text.lstrip('*'))
        inside = f"({' '.join(children)})" if children else ''
        return f"{'*' if av['on_page'] else ''}{owners(av['id'])}{inside}"

    return ' '.join(draw(av) for av in report['anon_vmas']
                    if av['root'] == av['id'])


def _ancestors(report: Report, av: int) -> List[int]:
    """An anon_vma and all above it, up to the root."""
    path = [av]
    while report['anon_vmas'][av]['parent'] != av:
        av = report['anon_vmas'][av]['parent']
        path.append(av)
    return path


def _check(faults: List[str], what: str, got: object, want: object) -> None:
    if got != want:
        faults.append(f'{what}: {got!r}, not {want!r}')


def _is_merged(report: Report) -> bool:
    return bool(report['page']) and report['page']['kind'] == 'ksm'


def _anon_vma_faults(report: Report) -> Iterable[str]:
    avs, vmas = report['anon_vmas'], report['vmas']
    faults: List[str] = []
    order = []
    merged = _is_merged(report)
    for av in avs:
        name = f"anon_vma {av['id']}"
        path = _ancestors(report, av['id'])
        kin = [other for other in avs if other['root'] == av['root']]
        children = [other for other in avs if other['parent'] == av['id']]
        own = [vma for vma in vmas if vma['anon_vma'] == av['id']]
        is_root = av['parent'] == av['id']
        _check(faults, f'root of {name}', av['root'], path[-1])
        _check(faults, f'level of {name}', av['level'], len(path) - 1)
        # a root counts itself as a child, and is held by all its family
        _check(faults, f'children of {name}', av['children'], len(children))
        # items of KSM pages hold references that no report shows
        refs = len(kin) if is_root else 1
        if not merged or av['refcount'] < refs:
            _check(faults, f'refcount of {name}', av['refcount'], refs)
        _check(faults, f'active VMAs of {name}', av['active_vmas'], len(own))
        order.append((av['root'], av['level'], av['parent']))
    _check(faults, 'order of anon_vmas', order, sorted(order))
    return faults


def _avc_faults(report: Report) -> Iterable[str]:
    """A VMA is joined to its own anon_vma and to all their ancestors."""
    faults: List[str] = []
    for vma in report['vmas']:
        got = {(avc['anon_vma'], avc['role']) for avc in report['avcs']
               if avc['vma'] == vma['id']}
        want = set()
        if vma['anon_vma'] is not None:
            path = _ancestors(report, vma['anon_vma'])
            want = {(av, 'bridge') for av in path[1:]} | {(path[0], 'own')}
        _check(faults, f"AVCs of VMA {vma['id']}", sorted(got), sorted(want))
    order = [(avc['vma'], avc['anon_vma']) for avc in report['avcs']]
    _check(faults, 'order of AVCs', order, sorted(set(order)))
    return faults


def _keeper_faults(report: Report) -> Iterable[str]:
    """What keeps the folio because of a VMA is told of one that has it."""
    faults: List[str] = []
    vmas = [vma for vma in report['vmas'] if vma['unmap'] is not None]
    reclaim = report['reclaim'] or {'reasons': []}
    _check(faults, 'reasons that VMAs have',
           sorted({reason for vma in vmas for reason in vma['unmap']}),
           sorted({'mlocked', 'referenced'} & set(reclaim['reasons'])))
    _check(faults, 'VMAs with the folio and no visit',
           [vma['id'] for vma in vmas if not vma['visited']], [])
    _check(faults, 'VMAs with the page and not the folio',
           [vma['id'] for vma in report['vmas']
            if vma['mapped'] and vma['unmap'] is None], [])
    return faults


def _walk_faults(report: Report) -> Iterable[str]:
    faults: List[str] = []
    walk, vmas = report['walk'], report['vmas']
    on_page = {av['id'] for av in report['anon_vmas'] if av['on_page']}
    in_tree = {avc['vma'] for avc in report['avcs']
               if avc['anon_vma'] in on_page}
    _check(faults, 'tree_vmas', walk['tree_vmas'], len(in_tree))
    for count in 'visited', 'mapped':
        marked = sum(vma[count] for vma in vmas)
        # the walk of a KSM page comes to a VMA again for each item in it
        if not _is_merged(report) or walk[count] < marked:
            _check(faults, count, walk[count], marked)
    _check(faults, 'VMAs marked as mapping',
           sorted(vma['id'] for vma in vmas if vma['mapped']),
           sorted({pte['vma'] for pte in report['ptes']}))
    _check(faults, 'VMAs mapping without a visit',
           [vma['id'] for vma in vmas if vma['mapped'] > vma['visited']], [])
    if 'reclaim' in report:
        faults += _keeper_faults(report)
    _check(faults, 'lost', walk['lost'], 0)
    for pte in report['ptes']:
        vma = vmas[pte['vma']]
        inside = int(vma['start'], 16) <= int(pte['addr'], 16) \
            < int(vma['end'], 16)
        _check(faults, f"{pte['addr']} in VMA {vma['id']}", inside, True)
    return faults


def _page_faults(report: Report) -> Iterable[str]:
    faults: List[str] = []
    page = report['page']
    if page is None or page['dma_pins'] is None:
        return faults
    left = page['refcount'] - page['expected_refs'] - page['extra_refs']
    _check(faults, 'references of DMA pins', left,
           page['dma_pins'] * (1 if page['order'] else PIN_BIAS))
    for pte in report['ptes']:
        frame = (int(pte['value'], 16) >> 12) & ((1 << 40) - 1)
        if pte['level'] == 'pte':
            _check(faults, f"frame in the entry at {pte['addr']}", frame,
                   pte['pfn'])
    return faults


def faults(report: Report, reuse: bool = False) -> List[str]:
    """All that is wrong with a report of a quiet family, in words.

    The rules for counts and AVCs hold while no fork has reused an anon_vma: a
    kernel gives one without VMAs and with one child to the next child instead
    of a new one.  With reuse they are left out.
    """
    found: List[str] = []
    for table in ('anon_vmas', 'avcs', 'mms', 'vmas'):
        ids = [record['id'] for record in report[table]]
        _check(found, f'ids of {table}', ids, list(range(len(ids))))
    for check in (_anon_vma_faults, _avc_faults, _walk_faults, _page_faults):
        found += check(report)
    if reuse:
        return [fault for fault in found
                if not fault.startswith(('children', 'refcount', 'AVCs'))]
    return found
