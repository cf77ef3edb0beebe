"""Pictures of reports: what Graphviz takes, what is in them, what a page does.

Pages are looked at by Chromium, without a window.
"""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from rmapviz_lib import changes, dot, page, report
from rmapviz_lib.building import Building
from rmapviz_lib.failure import Failure

SECONDS = 30
DATA = Path(__file__).parent / 'data'
SAMPLES = sorted(path for directory in ('pictures', 'reports')
                 for path in (DATA / directory).glob('*.json')
                 if path.stem != 'failure' and 'brief' not in path.stem)

each_sample = pytest.mark.parametrize(
    'path', [pytest.param(path, id=path.stem) for path in SAMPLES])

needs_graphviz = pytest.mark.skipif(not shutil.which('dot'),
                                    reason='Graphviz is not installed')
needs_browser = pytest.mark.skipif(
    not (shutil.which('dot') and shutil.which('chromium')),
    reason='Chromium or Graphviz is not installed')

SVG = '{http://www.w3.org/2000/svg}'


def sample(name: str) -> report.Report:
    """A recorded answer."""
    return report.load(str(DATA / 'pictures' / f'{name}.json'))


def crowd_of(number: int) -> report.Report:
    """A page that a parent shares with so many children, each alike."""
    made = sample('crowd')
    family = range(1, number + 1)
    made['anon_vmas'] = made['anon_vmas'][:1] + [
        {**made['anon_vmas'][1], 'id': i} for i in family]
    made['mms'] = made['mms'][:1] + [
        {'id': i, 'pid': 1000 + i, 'comm': f'W{i}', 'tasks': [1000 + i]}
        for i in family]
    made['vmas'] = made['vmas'][:1] + [
        {**made['vmas'][1], 'id': i, 'mm': i, 'anon_vma': i} for i in family]
    made['ptes'] = [{**made['ptes'][0], 'vma': i}
                    for i in range(number + 1)]
    made['avcs'] = [{'id': 0, 'anon_vma': 0, 'vma': 0, 'role': 'own'}]
    for i in family:
        made['avcs'] += [
            {'id': 2 * i - 1, 'anon_vma': 0, 'vma': i, 'role': 'bridge'},
            {'id': 2 * i, 'anon_vma': i, 'vma': i, 'role': 'own'}]
    return report.check(made, 'a crowd')


# ------------------------------------------------------------ the building --

@each_sample
def test_every_vma_is_in_one_column(path: Path) -> None:
    """Or drawn by one that is like it."""
    made = report.load(str(path))
    drawn = [vma for column in Building(made).columns
             for vma in column.members]
    assert sorted(drawn) == list(range(len(made['vmas'])))


@each_sample
def test_a_column_has_the_avcs_that_the_report_has(path: Path) -> None:
    """From the chain of parents, which the AVCs of the report are not."""
    made = report.load(str(path))
    for column in Building(made, unfold=True).columns:
        assert {avc['anon_vma'] for avc in made['avcs']
                if avc['vma'] == column.vma} == set(column.chain)


@each_sample
def test_a_tree_is_a_run_of_neighbours(path: Path) -> None:
    """So that a floor can be drawn as one line for each anon_vma."""
    columns = Building(report.load(str(path))).columns
    for av in {av for column in columns for av in column.chain}:
        places = [i for i, column in enumerate(columns) if av in column.chain]
        assert places == list(range(places[0], places[-1] + 1))


def test_a_crowd_is_few_columns() -> None:
    """Its parent, those that are alike, and whoever differs."""
    building = Building(sample('crowd'))
    assert sorted(len(column.members) for column in building.columns) \
        == [1, 1, 1, 1, 1, 97]


@pytest.mark.parametrize('number', [3, 100, 1000])
def test_a_family_is_folded_if_it_is_large(number: int) -> None:
    """A parent and one column for all children."""
    columns = Building(crowd_of(number)).columns
    assert len(columns) == (4 if number == 3 else 2)


def test_nothing_is_folded_if_all_is_asked_for() -> None:
    """Though they be alike."""
    assert len(Building(crowd_of(100), unfold=True).columns) == 101


def test_a_long_chain_of_forks_is_drawn() -> None:
    """Longer than Python's stack."""
    made = crowd_of(3000)
    for i in range(1, 3001):
        made['anon_vmas'][i].update(parent=i - 1, level=i)
    assert len(Building(made, unfold=True).floors) == 3001


# -------------------------------------------------------------------- dot --

@needs_graphviz
@each_sample
def test_graphviz_says_nothing_against_it(path: Path) -> None:
    """Neither an error nor a warning."""
    done = subprocess.run(
        ['dot', '-Tsvg', '-o', '/dev/null'], check=False, text=True,
        input=dot.Graph(report.load(str(path))).text(),
        stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, '')


def looks(path: Path) -> List[str]:
    """Of the VMAs of a picture."""
    graph = dot.Graph(report.load(str(path)), unfold=True)
    graph.text()
    return [str(record['look']) for name, record in graph.records.items()
            if name.startswith('vma')]


@each_sample
def test_vmas_look_as_the_walk_found_them(path: Path) -> None:
    """Mapped, visited in vain, and not visited are as many as are said."""
    made = report.load(str(path))
    found = looks(path)
    if made['page'] is None:
        assert set(found) == {'vma'}
        return
    wanted = [report.outcome(vma) for vma in made['vmas']]
    assert [found.count(look) for look in
            ('vma maps', 'vma vain', 'vma unvisited')] \
        == [wanted.count(word) for word in ('maps', 'visited', '-')]


@pytest.mark.parametrize('a, b', [
    ('vma maps', 'vma vain'), ('vma vain', 'vma unvisited'),
    ('vma maps', 'vma unvisited'), ('av', 'av onpage'),
    ('avc own', 'avc bridge'), ('pte', 'pte huge')])
def test_looks_differ_without_colour(a: str, b: str) -> None:
    """By shape or border, for who prints it."""
    def shape(look: str) -> str:
        return re.sub(r'(fill|font)color=[^,]*', '', dot.LOOKS[look])
    assert shape(a) != shape(b)


HOSTILE = ['</svg><script>alert(1)</script>', '"]; evil [label="', "a'b\\",
           '\n\x1b[31m', '&amp;<b>', ']]>', '\\N\\G\\L', '--><!--', 'x' * 4096,
           '\xff\xfe', 'gr\xc3\xbc\xc3\x9fe']


def hostile_report(name: str) -> report.Report:
    """With that name wherever names are."""
    made = sample('branch')
    made['page'].update(file=name, kind='file')
    made['kernel'] = made['query'] = name
    for mm in made['mms']:
        mm['comm'] = name
    for vma in made['vmas']:
        vma['name'] = name
    return report.check(made, 'it')


@needs_graphviz
@each_sample
def test_an_svg_is_one_by_the_definition_of_svg(path: Path, tmp_path: Path
                                                ) -> None:
    """That of the W3C, SVG 1.1."""
    definition, *_ = Path('/usr/share/xml/w3c-sgml-lib').glob(
        'schema/dtd/REC-SVG11-*/svg11.dtd')
    drawn = tmp_path / 'drawn.svg'
    drawn.write_bytes(dot.render(
        dot.Graph(report.load(str(path))).text(), 'svg'))
    done = subprocess.run(
        ['xmllint', '--noout', '--nonet', '--dtdvalid', definition, drawn],
        check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


@needs_graphviz
@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_name_is_only_words_in_a_picture(name: str) -> None:
    """The same nodes and edges as with a harmless one."""
    def shape(called: str) -> List[str]:
        graph = dot.Graph(hostile_report(called)).text()
        tree = ElementTree.fromstring(dot.render(graph, 'svg'))
        return [f"{node.tag} {node.get('id')}" for node in tree.iter()
                if node.tag in (f'{SVG}g', f'{SVG}script', f'{SVG}a')]
    assert shape(name) == shape('harmless')


@needs_graphviz
def test_the_picture_of_the_readme_is_what_would_be_drawn_now() -> None:
    """All words of it and all that is joined; make picture mends it."""
    def words(svg: bytes) -> List[str]:
        tree = ElementTree.fromstring(svg)
        return sorted([*map(str.strip, tree.itertext()),
                       *(node.get('id', '') for node in tree.iter(f'{SVG}g'))])
    drawn = dot.render(dot.Graph(sample('branch')).text(), 'svg')
    kept = DATA.parents[1] / 'docs' / 'building.svg'
    assert words(kept.read_bytes()) == words(drawn)


@needs_graphviz
def test_a_picture_shows_names_as_they_are() -> None:
    """Those of UTF-8, and what means something to Graphviz or XML."""
    name = 'gr\xc3\xbc\xc3\x9fe <"&'
    graph = dot.Graph(hostile_report(name)).text()
    text = ''.join(ElementTree.fromstring(dot.render(graph, 'svg')).itertext())
    assert 'grüße <"&' in text


def test_a_brief_report_has_nothing_to_draw() -> None:
    """Which is said."""
    with pytest.raises(Failure, match='brief'):
        dot.Graph(report.load(str(DATA / 'reports/brief.json')))


def test_a_mapping_that_rmap_does_not_reach_is_drawn() -> None:
    """With whose it is, where verify has told."""
    made = sample('ksm')
    made['walk']['unreached'] = 1
    made['verify'] = {'missing': [{'mm': 1, 'addr': '0x10000400000'}]}
    text = dot.Graph(made).text()
    assert 'class="unreached"' in text
    assert 'at 0x10000400000' in text


# ---------------------------------------------------------------- the page --

class Seen:
    """What a script found in a page, and what the browser complained of."""

    def __init__(self, result: Any, errors: List[str]) -> None:
        self.result = result
        self.errors = errors


TOOLS = '''
const click = (id) => document.getElementById(id).dispatchEvent(
  new MouseEvent('click', {bubbles: true}));
const lit = () => [...document.querySelectorAll(
  '.picture:not([hidden]) g.node.on')]
  .map(node => node.id).sort();
const text = (id) => document.getElementById(id).textContent;
const type = (words) => { const field = document.getElementById('search');
  field.value = words; field.dispatchEvent(new Event('input')); };
const key = (name, where) => (where || document).dispatchEvent(
  new KeyboardEvent('keydown', {key: name, bubbles: true}));
const box = () => document.querySelector(
  '.picture:not([hidden]) svg').getAttribute('viewBox');
'''


def browse(directory: Path, html: str, script: str) -> Seen:
    """Open a page, run a script in it that returns something."""
    result = f'''<script>{TOOLS}
    const made = (() => {{ {script} }})();
    document.body.replaceChildren();
    const out = document.createElement('pre');
    out.id = 'result';
    out.textContent = JSON.stringify(made);
    document.body.appendChild(out);</script>'''
    path = directory / 'page.html'
    path.write_text(html.replace('</body>', f'{result}</body>'))
    done = subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--disable-gpu',
         f'--user-data-dir={directory}/profile', '--enable-logging=stderr',
         '--window-size=1400,900', '--dump-dom', path.as_uri()],
        check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=120)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    errors = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
    assert found, errors or done.stdout[-500:]
    plain = found[1].replace('&lt;', '<').replace('&gt;', '>') \
        .replace('&amp;', '&')
    return Seen(json.loads(plain), errors)


def page_of(made: report.Report) -> str:
    """Of one report."""
    return page.make([page.Step(made)])


@needs_browser
@pytest.mark.parametrize('number', [3, 100, 1000])
def test_a_page_opens_without_a_complaint(number: int, tmp_path: Path
                                          ) -> None:
    """However large the family is; every mapping is in the table."""
    seen = browse(tmp_path, page_of(crowd_of(number)),
                  "return document.querySelectorAll('#rows tr').length;")
    assert (seen.result, seen.errors) == (number + 1, [])


@needs_browser
def test_a_click_lights_up_what_is_connected(tmp_path: Path) -> None:
    """The anon_vma of P1: its tree, which are P1 and P12, and the page."""
    seen = browse(tmp_path, page_of(sample('branch')),
                  "click('av1'); return [lit(), text('what')];")
    names, what = seen.result
    made = sample('branch')
    tree = {avc['vma'] for avc in made['avcs'] if avc['anon_vma'] == 1}
    graph = dot.Graph(made)
    columns = {graph.building.columns[int(name[3:])].vma for name in names
               if name.startswith('vma')}
    assert columns == tree
    assert {'av1', 'page'} <= set(names)
    assert what == 'AV1'


@needs_browser
def test_a_second_click_lets_go(tmp_path: Path) -> None:
    """And so does Escape."""
    seen = browse(tmp_path, page_of(sample('family')), '''
        click('vma0'); const first = lit().length; click('vma0');
        const second = lit().length; click('vma1'); key('Escape');
        return [first > 0, second, lit().length];''')
    assert seen.result == [True, 0, 0]


@needs_browser
def test_facts_are_shown_where_the_pointer_is(tmp_path: Path) -> None:
    """Without a click."""
    seen = browse(tmp_path, page_of(sample('family')), '''
        document.getElementById('page').dispatchEvent(
          new MouseEvent('mouseenter'));
        return [text('what'), text('facts')];''')
    what, facts = seen.result
    assert what.startswith('PFN 0x')
    assert 'an anonymous page' in facts


@needs_browser
@pytest.mark.parametrize('words, found', [
    ('W7', 1), ('P', 1), ('10000000000', 102), ('nobody', 0)])
def test_search_finds_names_and_addresses(words: str, found: int,
                                          tmp_path: Path) -> None:
    """And hides the other rows."""
    made = sample('crowd')
    for mm in made['mms']:
        mm['comm'] = mm['comm'] + ('' if mm['comm'] != 'P' else 'arent')
    words = 'parent' if words == 'P' else words
    seen = browse(tmp_path, page_of(made), f'''
        type('{words}'); return [...document.querySelectorAll('#rows tr')]
          .filter(row => !row.hidden).map(row => row.textContent);''')
    expected = found if words != 'W7' else sum(
        'w7' in mm['comm'].lower() for mm in made['mms'])
    assert len(seen.result) == expected


@needs_browser
def test_a_pid_is_found_in_a_fold(tmp_path: Path) -> None:
    """The node that stands for it is lit."""
    seen = browse(tmp_path, page_of(crowd_of(1000)),
                  "type('1777'); return [lit(), text('count')];")
    names, count = seen.result
    assert len(names) == 1 and count == '1 of 1001'


@needs_browser
def test_a_fold_opens_on_a_click(tmp_path: Path) -> None:
    """Into all that it stands for."""
    seen = browse(tmp_path, page_of(crowd_of(1000)), '''
        click('vma1');
        return [document.getElementById('open').hidden,
                document.querySelectorAll('#members tr').length];''')
    assert seen.result == [False, 1000]


@needs_browser
def test_keys_zoom_and_show_all_again(tmp_path: Path) -> None:
    """+ and 0; and Enter on a node chooses it."""
    seen = browse(tmp_path, page_of(sample('family')), '''
        const before = box(); key('+'); const near = box(); key('0');
        const after = box(); key('Enter', document.getElementById('vma0'));
        return [before !== near, before === after, lit().length > 1];''')
    assert seen.result == [True, True, True]


@needs_browser
def test_the_page_is_dark_or_light(tmp_path: Path) -> None:
    """By a button."""
    seen = browse(tmp_path, page_of(sample('family')), '''
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const first = paper(); click('theme'); return [first, paper()];''')
    assert seen.result[0] != seen.result[1]


@needs_browser
@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_name_does_nothing_in_a_page(name: str, tmp_path: Path
                                               ) -> None:
    """No script but ours, no element that is not in every page."""
    def kinds(called: str) -> Dict[str, Any]:
        seen = browse(tmp_path, page_of(hostile_report(called)), '''
            window.alert = () => { throw new Error('alert'); };
            click('vma0');
            const kinds = {};
            for (const one of document.querySelectorAll('*'))
              if (one.tagName !== 'text')
                kinds[one.tagName] = (kinds[one.tagName] || 0) + 1;
            return kinds;''')
        assert seen.errors == []
        found: Dict[str, Any] = seen.result
        return found
    assert kinds(name) == kinds('harmless')


@needs_graphviz
def test_a_page_fetches_nothing() -> None:
    """It names no other place, and forbids itself to."""
    html = page_of(sample('family'))
    assert "default-src 'none'" in html
    named: Set[str] = set(re.findall(r'https?://[^"\s<]+', html))
    assert all(place.startswith('http://www.w3.org/') for place in named)


@needs_graphviz
def test_the_eras_are_bars_where_the_report_has_them() -> None:
    """Those that say how much was looked at."""
    made = sample('family')
    made['history'] = {
        'scan': None,
        'pte_chain': {'visits': 3, 'hits': 3, 'bytes': 64},
        'objrmap': {'visits': 5, 'hits': 3, 'bytes': 24},
        'av_avc': {'visits': None, 'hits': None, 'bytes': 1}}
    assert [(era['visits'], era['hits']) for era in page.eras(made)] \
        == [(3, 3), (5, 3)]


# --------------------------------------------------------- diff and story --

def exited() -> report.Report:
    """The sample of a family, after P12 has gone and P2 has written."""
    made = sample('family')
    gone = next(i for i, mm in enumerate(made['mms'])
                if mm['comm'] == 'P12')
    writer = next(i for i, mm in enumerate(made['mms'])
                  if mm['comm'] == 'P2')
    made['vmas'][writer]['mapped'] = False
    made['ptes'] = [pte for pte in made['ptes'] if pte['vma'] != writer]
    made['mms'][gone].update(pid=0, comm='', tasks=[])
    made['page']['mapcount'] -= 1
    return report.check(made, 'it')


def test_what_changed_is_told_by_who_it_is() -> None:
    """Not by ids."""
    found = changes.news(sample('family'), exited())
    assert [line for line in found if re.fullmatch(r'P12 \(\d+\) went', line)]
    assert [line for line in found if re.fullmatch(
        r'P2 \(\d+\) is visited in vain now, at 10000000000', line)]
    assert [line for line in found if line.startswith('mapcount: ')]


@each_sample
def test_nothing_has_changed_of_what_is_the_same(path: Path) -> None:
    """In neither words."""
    one, other = (report.load(str(path)) for _ in range(2))
    assert changes.news(one, other) == changes.between(one, other) == []


@needs_browser
def test_the_slider_shows_one_step_after_the_other(tmp_path: Path) -> None:
    """Each with its picture, its caption and what changed."""
    html = page.make(changes.story([('before', sample('family')),
                                    ('after', exited())]))
    seen = browse(tmp_path, html, '''
        const slide = document.getElementById('slider');
        const look = () => [text('step'), document.querySelectorAll(
          '.picture:not([hidden])').length, lit().length,
          document.querySelectorAll('#changes li').length > 0];
        const first = look(); click('vma0');
        slide.value = 1; slide.dispatchEvent(new Event('input'));
        return [first, look()];''')
    assert seen.result == [['1 of 2: before', 1, 0, False],
                           ['2 of 2: after', 1, 0, True]]
    assert seen.errors == []
