"""Pictures as one HTML page that needs nothing else and no network.

The page has the pictures that Graphviz made, and what is to be said of each
node and VMA as JSON, which page.js puts into the document as text only.
"""

import html
import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import report as reports
from .building import Column, range_of, would_be_at
from .dot import Graph, entry_at, names, render, shown_flags, title_lines
from .report import Record, Report
from .words import count, hexa, kernel_name, plain, size

HERE = Path(__file__).resolve().parent

# An era of Linux, and where the report says what it would have done.
ERAS = (('2.4 scanned all processes', 'scan'),
        ('2.6.0 had pte_chains', 'pte_chain'),
        ('2.6.11 had one list a family', 'objrmap'),
        ('since 2.6.34: anon_vma chains', 'av_avc'))

# The policy that the page gives itself: nothing is fetched.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; " \
    "script-src 'unsafe-inline'"


class Step(NamedTuple):
    """A picture of several, and what is to be said of it."""

    report: Report
    caption: str = ''
    changes: Sequence[str] = ()


def make(steps: Sequence[Step], unfold: bool = False) -> str:
    """The page."""
    graphs = [Graph(step.report, unfold) for step in steps]
    pictures = [_picture(render(graph.text(), 'svg').decode())
                for graph in graphs]
    data = [_data(step, graph, picture)
            for step, graph, picture in zip(steps, graphs, pictures)]
    return _document(data, pictures)


def _picture(svg: str) -> str:
    """A picture without what a document of its own has."""
    svg = svg[svg.index('<svg'):]
    return re.sub(r'<!--.*?-->\s*', '', svg, flags=re.DOTALL)


def _data(step: Step, graph: Graph, picture: str) -> Dict[str, Any]:
    report = step.report
    box = re.search(r'viewBox="([\d.\- ]+)"', picture)
    assert box, 'Graphviz has another SVG'
    title, *sub = [words for _, words in title_lines(report)]
    return {'title': title, 'sub': '; '.join(sub), 'caption': step.caption,
            'changes': list(step.changes),
            'box': [float(word) for word in box[1].split()],
            'links': graph.links, 'eras': list(eras(report)),
            'vmas': [_vma(graph, i) for i in range(len(report['vmas']))],
            'avs': [_av(graph, i) for i in range(len(report['anon_vmas']))],
            'nodes': {name: _node(graph, name, record)
                      for name, record in graph.records.items()
                      if name != 'title'}}


def _vma(graph: Graph, index: int) -> Dict[str, Any]:
    """A row of the table."""
    report = graph.report
    vma = report['vmas'][index]
    mm = reports.mm_of(report, vma)
    who = f"{reports.comm(mm)} ({mm['pid']})" if mm else '?'
    entries = graph.building.entries.get(index, ())
    at = [f"{int(pte['addr'], 16):x}" for pte in entries]
    name = kernel_name(vma['name']) if vma['name'] else ''
    words = [who, name, *at, *map(str, mm['tasks'] if mm else ())]
    own = vma['anon_vma']
    return {'title': f'VMA{index} of {who}', 'who': who,
            'range': reports.span(vma), 'perms': plain(vma['perms']),
            'name': name, 'result': reports.outcome(vma),
            'own': '-' if own is None else f'AV{own}',
            'at': ' '.join(at[:4]) + (
                f' and {len(at) - 4:,} more' if len(at) > 4 else ''),
            'find': ' '.join(words).lower()}


def _av(graph: Graph, index: int) -> List[str]:
    """A row of the list of those that are alike."""
    av = graph.report['anon_vmas'][index]
    above = '' if av['parent'] in (None, index) \
        else f"child of AV{av['parent']}"
    return [f'AV{index}', above, f"refcount {av['refcount']}",
            count(av['active_vmas'], 'own VMA')]


def _node(graph: Graph, name: str, record: Dict[str, Any]
          ) -> Dict[str, Any]:
    """A node: what connects it, and the facts; of many AVCs, what each of
    them joins to its VMA."""
    made = {key: value for key, value in record.items() if key != 'look'}
    kind = re.sub(r'\d.*', '', name)
    title, facts = _FACTS[kind](graph, record)
    made.update(name=plain(title),
                facts=[[key, plain(str(value))] for key, value in facts])
    if kind == 'avc' and len(record['vmas']) > 1:
        made['to'] = [' '.join(f'AV{av}' for av in graph.building.joined(
            vma, record['av'])) for vma in record['vmas']]
    return made


def _number(value: Any) -> Optional[int]:
    """What was counted, if it is a number of 64 bits."""
    return value if type(value) is int and 0 <= value < 1 << 64 else None


Facts = Tuple[str, List[Tuple[str, object]]]


def _page_facts(graph: Graph, _: Record) -> Facts:
    page = graph.report['page']
    facts: List[Tuple[str, object]] = [
        ('kind', reports.what(page)),
        ('physical', hexa(page['pfn'] * reports.PAGE)),
        ('file', kernel_name(page['file']) if page['file'] else '-'),
        ('mapping', page['mapping'] or 'none'),
        ('index', page['index'] or '-'), ('mapcount', page['mapcount']),
        ('refcount', page['refcount']),
        ('expected', page['expected_refs']), ('DMA pins', page['dma_pins']),
        ('other references', page['extra_refs']),
        ('flags', reports.flags_text(page['flags']))]
    for judge, word in ('migrate', 'verdict'), ('reclaim', 'outcome'):
        said = graph.report.get(judge)
        if said:
            facts.append((judge, ', '.join([said[word], *said['reasons']])))
    return f"PFN {hexa(page['pfn'])}", facts


def _own(graph: Graph, vma: Record) -> str:
    """A VMA's own anon_vma, or those of all that it stands for."""
    own = vma['anon_vma']
    return '-' if own is None \
        else names('AV', graph.building.like_av.get(own, [own]))


def _vma_facts(graph: Graph, record: Record) -> Facts:
    report = graph.report
    index = record['vmas'][0]
    vma, row = report['vmas'][index], _vma(graph, index)
    *_, agree = range_of(report, Column(index, tuple(record['vmas']), ()))
    facts: List[Tuple[str, object]] = [
        ('range', row['range'] if agree else 'at several addresses'),
        ('access', vma['perms']), ('offset', f"{vma['pgoff']} pages"),
        ('name', row['name'] or '-'), ('own AV', _own(graph, vma)),
        ('walk', row['result'])]
    if vma.get('unmap'):
        facts.append(('keeps the page', ', '.join(vma['unmap'])))
    at = would_be_at(report, vma)
    if at is not None and agree:
        facts.append(('start + (index - pgoff) * 4096', hexa(at)))
    return row['title'] + _alike(record['vmas']), facts


def _alike(members: Sequence[int]) -> str:
    """How many more there are."""
    more = len(members) - 1
    return f' and {more:,} alike' if more else ''


def _pte_facts(graph: Graph, record: Record) -> Facts:
    index = record['vmas'][0]
    start, _, agree = range_of(graph.report,
                               Column(index, tuple(record['vmas']), ()))
    entries = graph.building.entries[index]
    facts: List[Tuple[str, object]] = []
    for pte in entries[:8]:
        facts.append((f"{pte['level']} at {entry_at(pte, start, agree)}",
                      f"{pte['value']} {shown_flags(pte)}, "
                      f"{count(pte['pages'], 'page')}"))
    if len(entries) > 8:
        facts.append(('and', f'{len(entries) - 8:,} more'))
    each = 'each of ' if len(record['vmas']) > 1 else ''
    return f"{count(len(entries), 'entry', 'entries')} in {each}" \
        f"{names('VMA', record['vmas'])}", facts


def _av_facts(graph: Graph, record: Record) -> Facts:
    index = record['avs'][0]
    av = graph.report['anon_vmas'][index]
    in_tree = sum(avc['anon_vma'] == index for avc in graph.report['avcs'])
    above = av['parent']
    return names('AV', record['avs']), [
        ('level', f"{av['level']} forks below the root"),
        ('parent', '-' if above in (None, index) else names(
            'AV', graph.building.like_av.get(above, [above]))),
        ('refcount', av['refcount']), ('children', av['children']),
        ('own VMAs', av['active_vmas']), ('VMAs in its tree', in_tree),
        ('the page', 'points here' if av['on_page'] else 'does not point '
         'here')]


def _avc_facts(graph: Graph, record: Record) -> Facts:
    vma, av = record['vmas'][0], record['av']
    alike = graph.building.like_av[av]
    is_own = graph.report['vmas'][vma]['anon_vma'] in alike
    return 'anon_vma_chain' + _alike(record['vmas']), [
        ('role', 'to its own anon_vma' if is_own
         else 'to an ancestor\'s: a walk there visits this VMA'),
        ('VMA', names('VMA', record['vmas'])),
        ('anon_vma', names('AV', alike))]


def _file_facts(graph: Graph, _: Record) -> Facts:
    page = graph.report['page']
    return 'address_space', [
        ('file', kernel_name(page['file']) if page['file'] else '-'),
        ('VMAs in i_mmap', len(graph.report['vmas']))]


def _ksm_facts(_: Graph, __: Record) -> Facts:
    return 'stable node of KSM', [
        ('what', 'the notes that ksmd took of each place where it merged; '
         'each names an anon_vma, whose tree is searched')]


def _unreached_facts(graph: Graph, _: Record) -> Facts:
    return 'mappings that rmap does not reach', [
        ('how many', graph.report['walk']['unreached']),
        ('why', 'of a KSM page: ksmd has not yet reached a child of a '
         'process that exited')]


_FACTS = {'page': _page_facts, 'vma': _vma_facts, 'pte': _pte_facts,
          'av': _av_facts, 'avc': _avc_facts, 'file': _file_facts,
          'ksm': _ksm_facts, 'unreached': _unreached_facts}


def eras(report: Report) -> List[Dict[str, Any]]:
    """What each era would have looked at, where the report says it."""
    history = report.get('history')
    found = []
    for name, key in ERAS:
        era = history.get(key) if isinstance(history, dict) else None
        if not isinstance(era, dict):
            continue
        visits, hits, memory = (_number(era.get(what))
                                for what in ('visits', 'hits', 'bytes'))
        if visits is None:
            continue
        text = count(visits, 'look') \
            + ('' if hits is None else f', {hits:,} useful') \
            + ('' if memory is None else f', {size(memory)}')
        found.append({'name': name, 'visits': visits, 'hits': hits or 0,
                      'text': text})
    return found


def _json(value: Any) -> str:
    """JSON that no parser of HTML takes for markup."""
    text = json.dumps(value, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('>', '\\u003e') \
        .replace('&', '\\u0026')


# What is beside the picture; page.js fills it.
_ASIDE = '''<aside>
<section id="changed" hidden><h2>What changed</h2><ul id="changes"></ul>
</section>
<h2 id="what">Click on anything</h2>
<table><tbody id="facts"></tbody></table>
<section id="open" hidden><h2>All <span id="many"></span> that are alike</h2>
<table><tbody id="members"></tbody></table></section>
<section id="history" hidden><h2>What each era of Linux would have done</h2>
<table><tbody id="eras"></tbody></table></section>
<h2>Mappings</h2>
<table><thead><tr><th>process</th><th>range</th><th>walk</th>
<th>at</th></tr></thead><tbody id="rows"></tbody></table>
<p class="note">Keys: / finds, + and - zoom, arrows move, 0 shows all,
Tab and Enter choose, in a table after arrows up and down. Enter again goes to
all that are alike, Esc lets go.</p>
</aside>
'''


def _document(data: List[Dict[str, Any]], pictures: List[str]) -> str:
    css = (HERE / 'page.css').read_text(encoding='utf-8')
    script = (HERE / 'page.js').read_text(encoding='utf-8')
    several = len(data) > 1
    steps = '<div id="steps"><label for="slider">step</label><input ' \
        'id="slider" type="range" min="0" value="0"><output id="step">' \
        '</output></div>' if several else ''
    shown = ''.join(f'<div class="picture"{"" if i == 0 else " hidden"}>'
                    f'{picture}</div>' for i, picture in enumerate(pictures))
    title = html.escape(plain(data[0]['title']))
    return f'''<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{css}.picture {{ height: 100%; }}
[hidden] {{ display: none !important; }}
#pictures {{ height: 100%; }}
</style>
</head>
<body{' class="story"' if several else ''}>
<header>
<h1><span id="title"></span><small id="sub"></small></h1>
<label for="search">find</label>
<input id="search" type="search" placeholder="pid, command, address"
 autocomplete="off"><output id="count"></output>
<span><button id="in" title="zoom in (+)">+</button>
<button id="out" title="zoom out (-)">&minus;</button>
<button id="fit" title="show all (0)">all</button>
<button id="theme" title="dark or light">dark/light</button></span>
</header>
{steps}
<main id="stage" aria-label="the picture"><div id="pictures">{shown}</div>
</main>
{_ASIDE}<script type="application/json" id="data">{_json(data)}</script>
<script>
{script}</script>
</body>
</html>
'''
