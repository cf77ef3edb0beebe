"""A report as text: its sections, and what rows of it look like."""

import re
from typing import Dict, List, NamedTuple, Set

ANSWER = re.compile(r'PFN 0x[0-9a-f]+ is [^;]+; .*|'
                    r'pid \d+: \d+ anon_vmas? in \d+ famil(y|ies)')
ADDRESSES = re.compile(r', at (\d+) address(es)?\b')
GUTTER = ' ' * 10
WIDE = 160      # columns of a row with a frame and many flags
MORE = re.compile(r'(\d+) more like ')

# What tells rows apart that are alike: whose they are, and where.
NAMES = {
    'anon_vmas': [(r'^[|` -]*', ''), (r'(AV)\d+ *', r'\1 ')],
    'AVCs': [(r'(VMA)\d+ +', r'\1 '), (r'AV\d+\*', 'own')],
    'VMAs': [(r'VMA\d+ +\d+ +(.*?)\d* +(?=[0-9a-f]{12}-)', r'\1 '),
             (r'AV\d+ +', 'own ')],
    'PTEs': [(r'^VMA.*? 0x[0-9a-f]{12} ', ''),
             (r' 0x[0-9a-f]{16} (0x[0-9a-f]+ +)?', ' ')],
}


class Section(NamedTuple):
    """What is below a label: the rest of its line, and rows."""

    head: str
    lines: List[str]

    @property
    def rows(self) -> List[str]:
        """Those that are about one thing."""
        return [line for line in self.lines if not MORE.search(line)]

    @property
    def left_out(self) -> int:
        """How many are said to be like others."""
        return sum(int(found[1]) for line in self.lines
                   for found in [MORE.search(line)] if found)

    @property
    def length(self) -> int:
        """Rows that there are, shown or left out."""
        return len(self.rows) + self.left_out


def sections(text: str) -> Dict[str, Section]:
    """Every section of a report by its label, but for the first line."""
    found: Dict[str, Section] = {}
    label = ''
    for line in text.splitlines()[1:]:
        if line[:1].strip():
            label, head = line.split(None, 1)
            found[label] = Section(head, [])
        elif line:
            found[label].lines.append(line[len(GUTTER):])
    return found


def looks(label: str, section: Section) -> Set[str]:
    """What there is to see in the rows of a table, whosever they are."""
    found = set()
    for row in section.rows:
        for pattern, by in NAMES[label]:
            row = re.sub(pattern, by, row)
        found.add(row)
    return found


def misprints(text: str, columns: int = 99) -> List[str]:
    """Lines that cannot be pasted anywhere, or do not fit a terminal.

    What a row ends with after two blanks may take more: a name, a remark.
    """
    return [line for line in text.splitlines()
            if line.rstrip() != line or not line.isascii()
            or len(re.sub(r'  ([/[(]|model: )\S.*', '', line)) > columns]


def faults(text: str) -> List[str]:
    """What is wrong with a report, by itself."""
    wrong = misprints(text, WIDE)
    answer = text.split('\n', 1)[0]
    if not ANSWER.fullmatch(answer):
        wrong.append(f'no answer: {answer}')
    found = sections(text)
    told = {}
    if 'anon_vmas' in found:
        told['anon_vmas'] = found['anon_vmas'].head.split()[0]
    addresses = ADDRESSES.search(answer)
    if addresses and 'PTEs' in found:
        told['PTEs'] = addresses[1]
    return wrong + [f'{label}: {found[label].length} rows of {count}'
                    for label, count in told.items()
                    if found[label].length != int(count)]
