"""A building as a graph in the language of Graphviz, which lays it out.

Every look can be told from the others in black and white: by border and shape.
All words pass _text(), whoever wrote them: nothing in them has an effect on
Graphviz, on a terminal or on what reads the picture.
"""

import html
import re
import subprocess
from typing import Dict, List, Sequence, Tuple

from . import report as reports
from .building import Building, Column, range_of, would_be_at
from .failure import Failure
from .report import Record, Report
from .words import count, hexa, kernel_name, plain, shortened

# Looks: attributes of nodes, by class.
LOOKS = {
    'page': 'shape=box, style="filled,bold", penwidth=2.5, '
            'fillcolor="#ffe9a8"',
    'pte': 'shape=box, style="filled,rounded", fillcolor="#fff7dc"',
    'pte huge': 'shape=box, style="filled,rounded,bold", penwidth=3, '
                'fillcolor="#fff7dc"',
    'vma maps': 'shape=box, style="filled,bold", penwidth=2.5, '
                'fillcolor="#d5ecd7"',
    'vma vain': 'shape=box, style="filled,dashed", penwidth=1.5, '
                'fillcolor="#f8e0d2"',
    'vma unvisited': 'shape=box, style="filled,dotted", penwidth=1.5, '
                     'fillcolor="#f2f2f2", fontcolor="#555555"',
    'vma': 'shape=box, style=filled, fillcolor="#f7f7f7"',
    'av': 'shape=ellipse, style=filled, fillcolor="#dbe8f6"',
    'av onpage': 'shape=ellipse, style="filled,bold", peripheries=2, '
                 'penwidth=2, fillcolor="#b4d0ee"',
    'avc own': 'shape=box, style=filled, fillcolor="#46627f", '
               'fontcolor=white, width=0.5, height=0.25',
    'avc bridge': 'shape=box, style="filled,rounded", fillcolor=white, '
                  'width=0.5, height=0.25',
    'file': 'shape=folder, style=filled, fillcolor="#e6ddf2"',
    'ksm': 'shape=hexagon, style=filled, fillcolor="#e6ddf2"',
    'unreached': 'shape=octagon, style="filled,dashed", penwidth=2.5, '
                 'fillcolor="#f6c4c4"',
    'title': 'shape=plain',
}

# a font that is wide: where it is not to be had, others fit its boxes
_SHARED = 'fontname="DejaVu Sans,Verdana,sans-serif"'

# Of words that are in no box: page.css knows them by it.
_INK = '#1d2733'

# How long names and lines are in a picture; the HTML page shows them whole.
# Graphviz cannot take lines of several thousand letters.
NAME, PATH, LINE = 20, 34, 200


def _text(words: str) -> str:
    """Words in a label, whatever is in them, also nothing."""
    return html.escape(shortened(plain(words), LINE), quote=True) or ' '


def _label(lines: Sequence[Tuple[str, str]]) -> str:
    """A label of lines; a line is bold, plain, or small."""
    rows = []
    for how, words in lines:
        inner = _text(words)
        if how == 'bold':
            inner = f'<B>{inner}</B>'
        elif how == 'small':
            inner = f'<FONT POINT-SIZE="11">{inner}</FONT>'
        rows.append(f'<TR><TD>{inner}</TD></TR>')
    return '<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" ' \
        f'CELLPADDING="1">{"".join(rows)}</TABLE>>'


class Graph:
    """The picture of a report."""

    def __init__(self, report: Report, unfold: bool = False) -> None:
        if reports.is_brief(report):
            raise Failure('a report with brief has nothing to draw: ask '
                          'without')
        self.report = report
        self.building = Building(report, unfold)
        self.lines: List[str] = []
        self.records: Dict[str, Dict[str, object]] = {}
        self.links: List[Tuple[str, str]] = []

    def text(self) -> str:
        """The graph."""
        self._node('title', 'title', title_lines(self.report))
        self._page()
        for i, column in enumerate(self.building.columns):
            self._column(i, column)
        self._floors()
        self._order()
        self._mapping()
        self._unreached()
        body = '\n'.join(f'  {line}' for line in self.lines)
        return f'digraph rmapviz {{\n{_head(self.building)}{body}\n}}\n'

    # ---------------------------------------------------------------- nodes --

    def _node(self, name: str, look: str, lines: Sequence[Tuple[str, str]],
              **record: object) -> None:
        self.lines.append(
            f'{name} [id="{name}", class="{look}", {LOOKS[look]}, '
            f'label={_label(lines)}, tooltip="{look.split()[0]}"];')
        self.records[name] = {'look': look, **record}

    def _edge(self, a: str, b: str, look: str, attributes: str = '') -> None:
        self.lines.append(
            f'{a} -> {b} [id="{a}-{b}", class="{look}", tooltip="{look}"'
            f'{", " if attributes else ""}{attributes}];')
        self.links.append((a, b))

    def _page(self) -> None:
        page = self.report['page']
        if page:
            self._node('page', 'page', page_lines(page))
            self.lines.append('title -> page [style=invis];')

    def _column(self, i: int, column: Column) -> None:
        vma = self.report['vmas'][column.vma]
        look = {'maps': 'vma maps', 'visited': 'vma vain'}.get(
            reports.outcome(vma), 'vma unvisited') \
            if self.report['page'] else 'vma'
        self._node(f'vma{i}', look, self._vma_lines(column),
                   vmas=list(column.members))
        entries = self.building.entries.get(column.vma)
        if entries and self.report['page']:
            huge = any(pte['level'] != 'pte' for pte in entries)
            self._node(f'pte{i}', 'pte huge' if huge else 'pte',
                       self._entry_lines(column),
                       vmas=list(column.members))
            self._edge('page', f'pte{i}', 'maps', 'dir=back, penwidth=1.5')
            self._edge(f'pte{i}', f'vma{i}', 'of', 'arrowhead=none, weight=9')
        elif self.report['page']:
            self.lines.append(f'page -> vma{i} [style=invis, minlen=2];')
        else:
            self.lines.append(f'title -> vma{i} [style=invis];')
        before = f'vma{i}'
        for av in column.chain:
            own = vma['anon_vma'] in self.building.like_av[av]
            name = f'avc{i}_{av}'
            self._node(name, 'avc own' if own else 'avc bridge',
                       [('small', self._avc_name(i, av, own))],
                       vmas=list(column.members), av=av)
            self._edge(before, name, 'chain', 'arrowhead=none, weight=20, '
                       f'color="#46627f"{"" if own else ", style=dashed"}')
            before = name

    def _avc_name(self, column: int, av: int, own: bool) -> str:
        number = self.building.columns[column].vma
        return f'AVC{number}' if own else f'AVC_x{av}{number}' \
            if av < 10 and number < 10 else f'AVC_x{av},{number}'

    def _vma_lines(self, column: Column) -> List[Tuple[str, str]]:
        vma = self.report['vmas'][column.vma]
        start, end, agree = range_of(self.report, column)
        lines = [('bold', self._who(column)),
                 ('small', f'{names("VMA", column.members)}  '
                  f"{vma['perms']}")]
        lines.append(('small', f'{start:x}-{end:x}' if agree else
                      f'{hexa(end - start)} bytes, at several addresses'))
        if vma['name']:
            lines.append(('small', shortened(kernel_name(vma['name']), PATH)))
        words = {'maps': 'maps the page', 'visited': 'visited in vain',
                 '-': 'not visited'}[reports.outcome(vma)]
        if self.report['page']:
            lines.append(('plain', words))
            at = would_be_at(self.report, vma)
            if at is not None and agree and not vma['mapped']:
                lines.append(('small', f'would be at {at:x}'))
            # that it was referenced its entries say
            stays = [word for word in vma.get('unmap') or ()
                     if word != 'referenced']
            if stays:
                lines.append(('small', f"keeps it: {', '.join(stays)}"))
        return lines

    def _entry_lines(self, column: Column) -> List[Tuple[str, str]]:
        """The entries of a VMA, or of each of some."""
        entries = self.building.entries[column.vma]
        start, _, agree = range_of(self.report, column)
        lines = []
        for pte in entries[:3]:
            pages = f" x{pte['pages']}" if pte['pages'] > 1 else ''
            lines.append(('small', f"{pte['level'].upper()} at "
                          f'{entry_at(pte, start, agree)}{pages}'))
            lines.append(('small', shown_flags(pte)))
        if len(entries) > 3:
            lines.append(('small', f'and {len(entries) - 3:,} more'))
        if len(column.members) > 1:
            lines.append(('small', f'in each of {len(column.members):,}'))
        return lines

    def _who(self, column: Column) -> str:
        mms = [reports.mm_of(self.report, self.report['vmas'][i])
               for i in column.members]
        name = shortened(reports.comm(mms[0]), NAME) if mms[0] else '?'
        pids = sorted(mm['pid'] for mm in mms if mm) or ['?']
        if len(mms) == 1:
            return f'{name} ({pids[0]})'
        return f'{name} and {len(mms) - 1:,} alike ({pids[0]}..{pids[-1]})'

    def _floors(self) -> None:
        for floor in self.building.floors:
            for av, _ in floor.avs:
                self._av(av)

    def _av(self, av: int) -> None:
        record = self.report['anon_vmas'][av]
        alike = self.building.like_av.get(av, [av])
        lines = [('bold', names('AV', alike)),
                 ('small', f"refcount {record['refcount']}, "
                  f"{count(record['children'], 'child', 'children')}")]
        if record['parent'] not in (None, av):
            lines.append(('small', self._child_of(record['parent'])))
        if record['on_page']:
            lines.append(('small', 'the page points here'))
        self._node(f'av{av}', 'av onpage' if record['on_page'] else 'av',
                   lines, avs=alike)

    def _child_of(self, parent: int) -> str:
        """Whose child an anon_vma is, or are those that are alike."""
        above = self.building.like_av.get(parent, [parent])
        return f"child{'ren' if len(above) > 1 else ''} of " \
            f"{names('AV', above)}"

    # ---------------------------------------------------------------- order --

    def _order(self) -> None:
        columns = self.building.columns
        self._rank([f'pte{i}' for i in range(len(columns))
                    if f'pte{i}' in self.records])
        names = [f'vma{i}' for i in range(len(columns))]
        if self.building.floors and names:
            # keeps the root's anon_vma on the left of its tree
            self.lines.append('left [style=invis, shape=point, width=0];')
            self.lines.append(f'left -> av{self.building.floors[0].avs[0][0]}'
                              ' [style=invis, weight=9];')
            names.insert(0, 'left')
        self._rank(names)
        for floor in self.building.floors:
            self._floor_order(floor.avs)

    def _rank(self, names: List[str]) -> None:
        """On one level, in this order."""
        if names:
            self.lines.append(f"{{ rank=same; {'; '.join(names)}; }}")
        for a, b in zip(names, names[1:]):
            self.lines.append(f'{a} -> {b} [style=invis];')

    def _floor_order(self, avs: Sequence[Tuple[int, int]]) -> None:
        """Each anon_vma, and joined to it the AVCs of its tree.

        In a column those come first whose line is under way, so that it does
        not cross a new one.
        """
        starts: Dict[int, List[int]] = {}
        for av, place in avs:
            starts.setdefault(place, []).append(av)
        names: List[str] = []
        last: Dict[int, str] = {}
        for i, column in enumerate([*self.building.columns, None]):
            new = starts.get(i, [])
            joined = [av for av in column.chain if av in last] \
                if column else []
            for av in joined + new:
                if av in new:
                    names.append(f'av{av}')
                    last[av] = names[-1]
                if column and av in column.chain:
                    names.append(f'avc{i}_{av}')
                    self._edge(last[av], names[-1], 'tree',
                               'arrowhead=none, color="#2c5c94", '
                               'penwidth=1.5')
                    last[av] = names[-1]
        self._rank(names)

    # -------------------------------------------------------- what leads on --

    def _mapping(self) -> None:
        page = self.report['page']
        if not page:
            return
        if page['mapping'] == 'file':
            self._file(page)
        elif page['mapping'] == 'ksm':
            self._node('ksm', 'ksm', [
                ('bold', 'stable node of KSM'),
                ('small', 'its items name anon_vmas')])
            self.lines.append('{ rank=same; page; ksm; }')
            self._edge('page', 'ksm', 'mapping', 'label="mapping"')
            for floor in self.building.floors[:1]:
                for av, _ in floor.avs:
                    self._edge('ksm', f'av{av}', 'items',
                               'style=dashed, constraint=false')
        for av, record in enumerate(self.report['anon_vmas']):
            if record['on_page'] and f'av{av}' in self.records:
                self._edge('page', f'av{av}', 'mapping',
                           'penwidth=2, weight=0')

    def _file(self, page: Record) -> None:
        name = kernel_name(page['file']) if page['file'] else 'without a name'
        self._node('file', 'file', [
            ('bold', 'address_space'), ('small', shortened(name, 60)),
            ('small', "the page's mapping; its i_mmap has the VMAs")])
        for i in range(len(self.building.columns)):
            self._edge(f'vma{i}', 'file', 'i_mmap', 'dir=none, style=dashed')
        self._edge('page', 'file', 'mapping', 'penwidth=2, weight=0')

    def _unreached(self) -> None:
        missed = self.report['walk']['unreached']
        missing = (self.report.get('verify') or {}).get('missing', ())
        if not missed and not missing:
            return
        lines = [('bold', f'{count(missed or len(missing), "mapping")} that '
                  "the kernel's rmap"), ('bold', 'does not reach')]
        for entry in list(missing)[:6]:
            lines.append(('small', self._missing(entry)))
        self._node('unreached', 'unreached', lines)
        self.lines.append('{ rank=same; page; unreached; }')
        self._edge('unreached', 'page', 'unreached',
                   'style=dashed, constraint=false')

    def _missing(self, entry: Record) -> str:
        mms: List[Record] = self.report['mms']
        i = entry.get('mm')
        who = f"{shortened(reports.comm(mms[i]), NAME)} ({mms[i]['pid']})" \
            if isinstance(i, int) and 0 <= i < len(mms) else '?'
        return f"{who} at {str(entry.get('addr')):.18}"


def names(kind: str, numbers: Sequence[int]) -> str:
    """One record, or many that are alike."""
    if len(numbers) == 1:
        return f'{kind}{numbers[0]}'
    return f'{kind}{numbers[0]} and {len(numbers) - 1:,} alike'


def page_lines(page: Record) -> List[Tuple[str, str]]:
    """The page."""
    lines = [('bold', f"PFN {hexa(page['pfn'])}")]
    if page['order']:
        lines.append(('small', f"page {page['pfn'] - page['head']} of "
                      f"{1 << page['order']} at {hexa(page['head'])}"))
    refs = f"refcount {page['refcount']}"
    extras = [(page['dma_pins'], 'DMA pin'), (page['extra_refs'], 'other')]
    said = [count(number, name, name if name == 'other' else '')
            for number, name in extras if number and number > 0]
    lines.append(('small', f"mapcount {page['mapcount']}, {refs}"
                  + (f" ({', '.join(said)})" if said else '')))
    return lines


def entry_at(pte: Record, start: int, agree: bool) -> str:
    """Where an entry maps its page; in VMAs at several addresses, from their
    start."""
    at = int(pte['addr'], 16)
    return f'{at:x}' if agree else f'start + {at - start:x}'


def shown_flags(pte: Record) -> str:
    """The flags of an entry that differ from page to page."""
    shown = [flag for flag in pte['flags']
             if flag not in ('present', 'user', 'nx')]
    return kernel_name(' '.join(shown)) or 'read-only'


def title_lines(report: Report) -> List[Tuple[str, str]]:
    """What is to be seen, on a line or two."""
    page = report['page']
    kernel = f"Linux {shortened(kernel_name(report['kernel']), 60)}"
    if not page:
        return [('bold', f"{kernel}: {shortened(plain(report['query']), 40)}")]
    of_file = f" {shortened(kernel_name(page['file']), 50)}" \
        if page['file'] else ''
    said = (report.get('migrate') or {}).get('verdict')
    will = {'yes': 'it would move', 'no': 'it cannot move',
            'not now': 'it will not move now'}.get(said or '', '')
    reason = ', '.join((report.get('migrate') or {}).get('reasons', ()))
    walk = report['walk']
    facts = f"{count(walk['visited'], 'VMA')} visited, " \
        f"{walk['mapped']:,} with the page"
    return [('bold', f"PFN {hexa(page['pfn'])} is {reports.what(page)}"
             f'{of_file}'),
            ('small', '; '.join(filter(None, (kernel, facts, will + (
                f' ({kernel_name(reason)})' if reason else '')))))]


# --------------------------------------------------------- around the graph --

def _head(building: Building) -> str:
    hidden, lost = building.hidden(), building.report['walk']['lost']
    notes = [f'{count(hidden, "VMA")} of {len(building.report["vmas"]):,} '
             'are drawn by one that is like them'] if hidden else []
    if lost:
        notes.append(f'{count(lost, "record")} did not fit into the report')
    return f'''  graph [{_SHARED}, fontsize=11, rankdir=TB, newrank=true,
    nodesep=0.22, ranksep=0.35, labelloc=b, pad=0.2,
    label={_legend(building, notes)}];
  node [{_SHARED}, fontsize=13, margin="0.08,0.04"];
  edge [{_SHARED}, fontsize=11];
'''


def _legend(building: Building, notes: List[str]) -> str:
    """What the looks mean: those that there are."""
    page = building.report['page']
    cells = [_cell('bold', '#d5ecd7', 'VMA that maps the page'),
             _cell('DASHED', '#f8e0d2', 'VMA visited in vain'),
             _cell('DOTTED', '#f2f2f2', 'VMA not visited')] if page else []
    if building.floors:
        cells += [_cell('', '#46627f', 'AVC to its own anon_vma (AV)',
                        'white'),
                  _cell('ROUNDED', 'white', 'AVC that bridges to an ancestor')]
        if any(av['on_page'] for av in building.report['anon_vmas']):
            cells.append(_cell('double', '#b4d0ee', 'AV of the page'))
    if page and any(pte['level'] != 'pte' for pte in building.report['ptes']):
        cells.append(_cell('bold ROUNDED', '#fff7dc', 'entry of a huge page'))
    rows = [f'<TR>{"".join(cells[i:i + 3])}</TR>'
            for i in range(0, len(cells), 3)]
    rows += ['<TR><TD COLSPAN="3" BORDER="0">'
             f'<FONT COLOR="{_INK}">{_text(note)}</FONT></TD></TR>'
             for note in notes]
    if not rows:
        return '""'
    return '<<TABLE BORDER="0" CELLSPACING="6" CELLPADDING="3">' \
        f'{"".join(rows)}</TABLE>>'


def _cell(style: str, colour: str, words: str, ink: str = 'black') -> str:
    """A sample of a look, with what it means in it."""
    border = 3 if 'bold' in style or style == 'double' else 1
    shape = [name for name in style.split() if name.isupper()]
    how = f' STYLE="{shape[0]}"' if shape else ''
    return f'<TD BORDER="{border}" BGCOLOR="{colour}"{how}>' \
        f'<FONT COLOR="{ink}">{_text(words)}</FONT></TD>'


def render(graph: str, form: str) -> bytes:
    """A picture, by Graphviz."""
    try:
        done = subprocess.run(
            ['dot', f'-T{form}'], input=graph.encode(), check=False,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Failure('pictures take Graphviz, which is not installed: sudo '
                      'apt-get install graphviz; --dot needs none') from None
    if done.returncode or not done.stdout:
        said = done.stderr.decode('utf-8', 'replace').strip().splitlines()
        raise Failure(f"Graphviz failed: {(said or ['it says nothing'])[0]}")
    return _tidy(done.stdout) if form == 'svg' else done.stdout


def _tidy(svg: bytes) -> bytes:
    """Letters a little smaller than the boxes were made for, and no links.

    Browsers draw letters up to 8 % wider than Graphviz measures.  It makes
    links of tooltips, which lead nowhere, as SVG does not allow.
    """
    for size in (11, 13):
        svg = svg.replace(b'font-size="%d.00"' % size,
                          b'font-size="%d.00"' % (size - 1))
    return re.sub(rb'<a xlink:title="([^"]*)">(.*?)</a>\n',
                  rb'<title>\1</title>\2', svg, flags=re.DOTALL)
