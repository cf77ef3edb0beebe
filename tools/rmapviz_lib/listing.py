"""The two listings of the module: all folios, and all families."""

from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

from .failure import Failure
from .proc import Proc, unescaped
from .words import Progress, kernel_name


class Folio(NamedTuple):
    """A line of rmapviz_survey."""

    pfn: int
    order: int
    kind: str
    mapcount: int
    refcount: int
    dma_pins: int
    extra_refs: int
    visited: Optional[int]      # None where it stayed locked
    mapped: Optional[int]
    family: str
    chain_bytes: int

    @property
    def wasted(self) -> int:
        """VMAs that a walk visits in vain."""
        return (self.visited or 0) - (self.mapped or 0)


class Family(NamedTuple):
    """A line of rmapviz_families."""

    family: str
    pid: int
    processes: int
    vmas: int
    avs: int
    avcs: int
    depth: int
    bytes: int
    fork_bytes: int
    comm: str


def _lines(path: Path, names: List[str]) -> Iterator[Dict[str, str]]:
    """Lines by the names of the columns, which the first line has."""
    try:
        with open(path, encoding='latin-1', newline='\n') as file:
            columns = file.readline().lower().split()
            missing = set(names) - set(columns)
            if missing:
                raise Failure(f'{path}: it has no column {min(missing)}; is '
                              'the module of another version?')
            for line in file:
                yield from _by_column(columns, line)
    except OSError as error:
        raise Failure(f'{path}: {error.strerror}') from None


def _by_column(columns: List[str], line: str) -> Iterator[Dict[str, str]]:
    """A line, if it is whole: a name is the last column, and may be empty."""
    words = line.rstrip('\n').split(None, len(columns) - 1)
    if columns[-1] == 'comm' and len(words) == len(columns) - 1:
        words.append('')
    if len(words) == len(columns):
        yield dict(zip(columns, words))


def _number(word: str) -> Optional[int]:
    return None if word == '-' else int(word, 0)


def survey(path: Path) -> Iterator[Folio]:
    """Every mapped folio, by PFN."""
    for words in _lines(path, list(Folio._fields)):
        yield Folio(
            int(words['pfn'], 16), int(words['order']), words['kind'],
            _number(words['mapcount']) or 0, _number(words['refcount']) or 0,
            _number(words['dma_pins']) or 0,
            _number(words['extra_refs']) or 0, _number(words['visited']),
            _number(words['mapped']), words['family'],
            _number(words['chain_bytes']) or 0)


def watched_survey(path: Path, proc: Optional[Proc]) -> Iterator[Folio]:
    """The same, with what is done shown on the way, if it is known how much
    there is to do."""
    frames = proc.last_frame() if proc else 0
    with Progress('reading the survey', frames) as progress:
        for folio in survey(path):
            if frames:
                progress.at(folio.pfn)
            yield folio


def families(path: Path) -> Iterator[Family]:
    """Every family of anon_vmas."""
    for words in _lines(path, list(Family._fields)):
        numbers = [_number(words[name]) or 0 for name in Family._fields[1:-1]]
        yield Family._make([words['family'], *numbers,
                            kernel_name(unescaped(words['comm']))])
