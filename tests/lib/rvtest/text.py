"""A report as text: its sections, and what rows of it look like."""

import re
from typing import Dict, List, NamedTuple, Set

GUTTER = ' ' * 10
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
