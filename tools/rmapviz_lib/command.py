"""The command line: what is asked, of whom, and how it is answered."""

import argparse
import errno
import itertools
import json
import os
import re
import signal
import sys
import time
from typing import (Any, Callable, Dict, List, NoReturn, Optional, TextIO,
                    cast)

from . import (audit, changes, dot, page, place, report, target, top, who,
               why)
from .ask import Answer, Dump, Module, Source
from .failure import Failure
from .proc import PAGE, Proc
from .words import Paper, Progress, hexa, plain, unwritten

# Of the module that it comes with.
VERSION = '0.1.0'

# Of more pages at once nobody asks who has them: 4 GB.
MOST_PAGES = 1 << 20

DESCRIPTION = '''Who maps a page of physical memory, why it will not move, and
pictures of it: from a PFN, a line of dmesg, a process or a file.'''


class Answering:
    """One run of the command: its options, whom it asks, where it writes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.proc = Proc(options.root)
        colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ \
            and os.environ.get('TERM') != 'dumb'
        self.paper = Paper(sys.stdout, colour)
        self._source: Optional[Source] = None

    @property
    def source(self) -> Source:
        """Who is asked."""
        if self._source is None:
            asked = self.options
            self._source = Dump(asked.vmcore, asked.vmlinux) \
                if asked.vmcore or asked.vmlinux else Module()
        return self._source

    @property
    def running(self) -> Optional[Proc]:
        """/proc and /sys, unless a dump is asked, of which they are not."""
        return self.proc if self.source.live else None

    def json(self, value: Any) -> None:
        """A line for programs."""
        self.paper.line(json.dumps(value))

    def complain(self, text: str) -> None:
        """A line on standard error, behind what was answered so far."""
        self.paper.flush()
        complain(text)


def complain(text: str) -> None:
    """A line on standard error, if it takes one."""
    try:
        print(f'rmapviz: {plain(text)}', file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Drop what a stream does not take, so that Python does not try again
    when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _each(run: Answering, found: List[target.Frames],
          answer: Callable[[Answering, target.Frames], int]) -> int:
    """Answer for one target after the other; the gravest status.

    That there is no answer about one page is said, and the next has its turn.
    """
    status = 0
    for frames in found:
        try:
            status = max(status, answer(run, frames))
        except Failure as failure:
            if len(found) == 1 or not failure.of_a_page:
                raise
            status = 2
            run.complain(str(failure))
    return status


# -------------------------------------------------------------------- why --

def _targets(run: Answering) -> List[target.Frames]:
    words: List[str] = run.options.target
    if words == ['-']:
        lines = sys.stdin.buffer.read().decode('utf-8', 'replace')
        found = list(target.of_lines(lines.splitlines()))
        if not found:
            raise Failure('standard input has no line with a PFN, as the '
                          'kernel prints it')
        return found
    return target.of_words(words, run.running)


def do_why(run: Answering) -> int:
    """Answer rmapviz why; 1 if something does not move, 2 if that is not
    known of all."""
    found = _targets(run)
    return _each(run, found, lambda run, frames: _why(
        run, frames, frames is not found[0] and not run.options.json))


def _why(run: Answering, frames: target.Frames, gap: bool) -> int:
    if gap:
        run.paper.line()
    if frames.pages > 1:
        return _why_range(run, frames)
    case = why.look(frames, run.source, run.proc)
    if run.options.json:
        run.json(why.case_json(case, run.proc, run.source.live))
    else:
        why.print_case(case, run.paper, run.proc, run.source.live)
    return 0 if why.verdict(case.report) == 'yes' else 1


def _why_range(run: Answering, frames: target.Frames) -> int:
    asked = run.options
    block = why.look_at_range(frames, run.source, run.proc)
    if asked.json:
        run.json(why.block_json(block, run.source, run.proc, asked.n))
    else:
        why.print_block(block, run.source, run.paper, run.proc, asked.n)
    if block.unanswered:
        _complain_of_silence(run, frames, block.unanswered)
    return block.status


# -------------------------------------------------------------------- who --

def do_who(run: Answering) -> int:
    """Answer rmapviz who; 1 if no page is there, 2 if some did not answer."""
    asked = run.options
    teller = who.Who(run.source, run.proc, run.paper, asked.all)
    _check_who(run)
    if asked.file:
        length = asked.length or (PAGE if asked.offset is not None
                                  else os.path.getsize(asked.file)
                                  if os.path.exists(asked.file) else PAGE)
        pages = teller.of_file(asked.file, asked.offset or 0, length,
                               asked.max)
        return _tell(run, teller, plain(asked.file), pages)
    if asked.pid is not None:
        pages = teller.of_areas(asked.pid, asked.vma, asked.max)
        return _tell(run, teller, f'{plain(asked.vma)} of process '
                     f'{asked.pid}', pages)
    if place.names_address(asked.target):
        return _who_address(run, teller)
    return _each(run, target.of_words(asked.target, run.running),
                 lambda run, frames: _who_frames(run, teller, frames))


def _check_who(run: Answering) -> None:
    """Whether that is one question, and whom it is for can answer it."""
    asked = run.options
    if [bool(asked.target), asked.pid is not None,
            bool(asked.file)].count(True) != 1:
        raise Failure('who takes a PFN or PID:ADDRESS, or --pid, or --file')
    if (asked.pid is not None) != bool(asked.vma):
        raise Failure('--pid and --vma go together; --vma is heap, stack, or '
                      "a part of a file's name")
    if not asked.file and (asked.offset, asked.length) != (None, None):
        raise Failure('--offset and --length are of a --file')
    in_proc = asked.vma or asked.file or (
        place.names_address(asked.target) and '-' in asked.target[0])
    if in_proc and not run.source.live:
        raise Failure('that is looked up in /proc, which is of the running '
                      'kernel; ask a dump for PID:ADDRESS or a PFN')


def _who_address(run: Answering, teller: who.Who) -> int:
    word = run.options.target[0]
    start, dash, end = word.partition('-')
    pid, address = place.address_of(start)
    if not dash:
        return _tell(run, teller, '', [teller.of_address(pid, address)])
    pages = teller.of_range(pid, address, place.address_of(
        f'{pid}:{end}')[1], run.options.max)
    return _tell(run, teller, word, pages)


def _who_frames(run: Answering, teller: who.Who, frames: target.Frames
                ) -> int:
    """Who has a frame, or each of a range."""
    if frames.pages == 1:
        report_, = why.answers(run.source, [frames.first])
        if isinstance(report_, Failure):
            raise report_
        return _tell(run, teller, '', [who.Found('', None, report_, '')])
    if frames.pages > MOST_PAGES:
        raise Failure(f'{target.text(frames)}: more than {MOST_PAGES:,} '
                      'pages')
    found = _answers(run, frames)
    status = _tell(run, teller, target.text(frames), [
        _found(pfn, found.get(pfn))
        for pfn in range(frames.first, frames.end)])
    silent = sum(isinstance(answer, Failure) and not answer.no_page
                 for answer in found.values())
    if silent:
        _complain_of_silence(run, frames, silent)
    return 2 if silent else status


def _answers(run: Answering, frames: target.Frames) -> Dict[int, Answer]:
    """What is said of as many of a range as shall be asked about."""
    pfns = range(frames.first, frames.end)
    asked = pfns[::-(-len(pfns) // run.options.max)]
    step = run.source.at_once
    found: Dict[int, Answer] = {}
    with Progress(f'asking about {target.text(frames)}', len(asked)) as bar:
        for i in range(0, len(asked), step):
            bar.at(i)
            found.update(zip(asked[i:], why.answers(
                run.source, asked[i:i + step])))
    return found


def _complain_of_silence(run: Answering, frames: target.Frames, number: int
                         ) -> None:
    why_not = 'answer, being busy; ask again' if run.source.live \
        else 'answer: the dump lacks something of them, or was in a change'
    run.complain(f'{target.text(frames)}: {number} of its pages did not '
                 f'{why_not}')


def _found(pfn: int, answer: Optional[Answer]) -> who.Found:
    """One of many pages by its frame."""
    if isinstance(answer, Failure):
        return who.no_report(pfn * PAGE, answer)
    return who.Found('', pfn * PAGE, answer,
                     '' if answer else who.NOT_ASKED)


def _tell(run: Answering, teller: who.Who, what: str,
          pages: List[who.Found]) -> int:
    """Print them; 1 if there is none."""
    if run.options.json:
        for found in pages:
            run.json(teller.as_json(found))
    elif what:
        teller.print_pages(what, pages)
    else:
        teller.print_page(pages[0])
    return 0 if any(page.report for page in pages) else 1


# ------------------------------------------------------------------- draw --

def in_file(words: List[str]) -> bool:
    """Whether a report is named, and not a page to ask about."""
    return len(words) == 1 and (words[0] == '-' or os.path.exists(words[0])
                                or words[0].endswith('.json'))


def question(run: Answering, words: List[str]) -> str:
    """One page, or a process, as the module is asked about it."""
    if words[0] == 'pid':
        query = ' '.join(words)
        # without 0x it is decimal for the module, and hex for people
        if not re.fullmatch(r'pid [0-9]+( 0x[0-9a-fA-F]+)?', query):
            raise Failure('pid PID or pid PID 0xADDRESS is expected')
        return query
    if place.names_address(words):
        return 'pid {} {:#x}'.format(*place.address_of(words[0]))
    frames = target.of_words(words, run.running)
    if len(frames) != 1 or frames[0].pages != 1:
        raise Failure('one page is expected')
    return hexa(frames[0].first)


def asked_report(run: Answering, words: List[str], extra: str = ''
                 ) -> report.Report:
    """A report from a file, or - for standard input, or the answer to a
    question."""
    if in_file(words):
        _check_file(run, words[0])
        if extra:
            raise Failure(f'{words[0]}: is a report; --folio and --verify are '
                          'words of a question')
        return report.load(words[0])
    if extra and words[0] == 'pid' and len(words) == 2:
        raise Failure('--folio and --verify are about a page, not a process')
    return run.source.ask(f'{question(run, words)}{extra}')


def _check_file(run: Answering, path: str) -> None:
    """Whether nobody is to be asked."""
    if run.options.vmcore or run.options.vmlinux:
        raise Failure(f'{path}: is a report; --vmcore and --vmlinux are for a '
                      'question')


def do_draw(run: Answering) -> int:
    """Answer rmapviz draw."""
    asked = run.options
    extra = (' folio' if asked.folio else '') \
        + (' verify' if asked.verify else '')
    drawn = asked_report(run, asked.target, extra)
    if asked.form == 'html':
        write(asked.output, page.make([page.Step(drawn)], asked.all).encode())
        return 0
    text = dot.Graph(drawn, asked.all).text()
    if asked.form == 'dot':
        write(asked.output, text.encode())
    else:
        write(asked.output, dot.render(text, asked.form))
    return 0


def write(path: Optional[str], data: bytes) -> None:
    """To a file, or to standard output unless that is a terminal and the
    data would be a mess on it."""
    if path:
        try:
            with open(path, 'wb') as file:
                file.write(data)
        except OSError as error:
            raise Failure(f'{path}: {os.strerror(error.errno or 0)}') \
                from None
        return
    if sys.stdout.isatty() and data[:4] == b'\x89PNG':
        raise Failure('a PNG is not for a terminal: -o FILE, or > FILE')
    try:
        sys.stdout.buffer.write(data)
    except OSError as error:
        raise unwritten(error) from None


# --------------------------------------------------------- diff and story --

def do_diff(run: Answering) -> int:
    """Answer rmapviz diff; 1 if they differ."""
    asked = run.options
    if asked.output and not asked.html:
        raise Failure('--output is for the page that --html makes')
    if asked.all and not asked.html:
        raise Failure('--all is for the page that --html makes')
    reports = [report.load(path) for path in (asked.first, asked.second)]
    found = changes.between(*reports)
    if asked.html:
        write(asked.output, page.make(
            [page.Step(reports[0], asked.first),
             page.Step(reports[1], asked.second,
                       changes.news(*reports))],
            asked.all).encode())
    elif asked.json:
        run.json({'rmapviz_diff': 1, 'differences': found})
    else:
        run.paper.lines(map(plain, found))
    return 1 if found else 0


def do_story(run: Answering) -> int:
    """Answer rmapviz story."""
    asked = run.options
    told = []
    for word in asked.step:
        caption, mark, path = word.rpartition('=')
        told.append((caption if mark else os.path.basename(path),
                     report.load(path)))
    write(asked.output, page.make(changes.story(told), asked.all).encode())
    return 0


# ------------------------------------------------- top, audit and watch --

def module_of(run: Answering) -> Module:
    """The module, for what a dump cannot say."""
    if not run.source.live:
        raise Failure(f'{run.options.command}: that is asked of the module '
                      'only; of a dump, top tells what folios are on top')
    return cast(Module, run.source)


def do_top(run: Answering) -> int:
    """Answer rmapviz top."""
    asked = run.options
    if asked.prometheus:
        if asked.json or (asked.pid, asked.cgroup, asked.n) != (None,) * 3:
            raise Failure('--prometheus is of the whole machine and has a '
                          'format of its own: without --json, --pid, --cgroup '
                          'or -n')
        run.paper.lines(top.prometheus(module_of(run)))
        return 0
    if asked.pid is not None or asked.cgroup is not None:
        module_of(run)
    number = 10 if asked.n is None else asked.n
    teller = top.Top(run.source, run.proc, run.paper)
    chosen = top.only(run.proc, asked.pid, asked.cgroup)
    if asked.what == 'families':
        families = teller.families(number, chosen)
        if asked.json:
            for family in families:
                run.json({'rmapviz_top': 1, **family._asdict()})
        else:
            teller.print_families(families)
        return 0
    folios = teller.folios(asked.what, number, chosen)
    if asked.json:
        for folio, groups in zip(folios, teller.who(folios)):
            run.json({'rmapviz_top': 1, **folio._asdict(), 'who': [
                group.as_json() for group in groups]})
    else:
        teller.print_folios(asked.what, folios)
    return 0


def do_audit(run: Answering) -> int:
    """Answer rmapviz audit; 1 if something stands."""
    start = time.monotonic()
    made = audit.Audit(module_of(run), run.proc)
    found = list(made.run())
    seconds = time.monotonic() - start
    if run.options.json:
        run.json(audit.as_json(made, found, seconds))
    else:
        audit.print_result(made, found, seconds, run.paper)
    return 0 if all(find.explained for find in found) else 1


def do_watch(run: Answering) -> int:
    """Answer rmapviz watch: again and again, until it is interrupted; 1 if
    the process has gone."""
    asked = run.options
    query = None
    if in_file(asked.target):
        _check_file(run, asked.target[0])
    else:
        query = question(run, asked.target)
    before: Optional[report.Report] = None
    missed: Optional[Failure] = None
    for number in itertools.count() if asked.times is None \
            else range(asked.times):
        if number:
            time.sleep(asked.interval)
        try:
            now = report.load(asked.target[0]) if query is None \
                else run.source.ask(query)
        except Failure as failure:
            missed = failure
            if not _print_missed(run, query, failure, before is not None):
                return 1
        else:
            _print_change(run, before, now)
            before = now
        run.paper.flush()
    if missed and not before:
        raise missed
    return 0


def _print_missed(run: Answering, query: Optional[str], failure: Failure,
                  seen: bool) -> bool:
    """Say that there was no answer; whether it is worth to ask again.

    A page that is busy is; one that was there, and is not, may come back.
    """
    gone = seen and failure.number == errno.ESRCH
    if not (gone or failure.busy or seen and failure.number in (
            errno.ENXIO, errno.EFAULT)):
        raise failure
    if run.options.json:
        run.json({'rmapviz': report.VERSION, 'query': query,
                  'error': str(failure)})
    else:
        _print_timed(run, [str(failure)])
    return not gone


def _print_change(run: Answering, before: Optional[report.Report],
                  now: report.Report) -> None:
    if run.options.json:
        run.json(now)
    else:
        _print_timed(run, watch_lines(before, now))


def _print_timed(run: Answering, lines: List[str]) -> None:
    for line in lines:
        run.paper.line(f"{time.strftime('%H:%M:%S')} {plain(line)}")


def watch_lines(before: Optional[report.Report], now: report.Report
                ) -> List[str]:
    """What there is, and then what has changed."""
    if before is None:
        return [words_ for _, words_ in dot.title_lines(now)]
    found = changes.news(before, now)
    said, says = (why.verdict(one) for one in (before, now))
    if said != says:
        found.append(f'will it move? {says}; {said} before')
    return found


# ----------------------------------------------------------- command line --

class _Parents:
    """Options that several commands take; each takes those that it heeds."""

    def __init__(self) -> None:
        self.root = argparse.ArgumentParser(add_help=False)
        # for tests: where /proc and /sys are
        self.root.add_argument('--root', default='/', help=argparse.SUPPRESS)
        self.json = argparse.ArgumentParser(add_help=False)
        self.json.add_argument('--json', action='store_true',
                               help='for programs, an object a line')
        self.vmlinux = argparse.ArgumentParser(add_help=False)
        self.vmlinux.add_argument('--vmlinux', metavar='FILE',
                                  help="the kernel's debug information: ask "
                                  'by drgn, without --vmcore the running one')
        self.source = argparse.ArgumentParser(add_help=False,
                                              parents=[self.vmlinux])
        self.source.add_argument('--vmcore', metavar='FILE',
                                 help='ask a dump of a kernel, by drgn')
        self.page = argparse.ArgumentParser(add_help=False)
        self.page.add_argument('-o', '--output', metavar='FILE',
                               help='write there, not to standard output')
        self.page.add_argument('--all', action='store_true',
                               help='fold nothing, though a thousand be alike')

    @property
    def asking(self) -> List[argparse.ArgumentParser]:
        """Of those that ask, and say what the answer is."""
        return [self.json, self.source, self.root]


def _add_why(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'why', parents=parents.asking,
        help='will it move? if not, because of whom',
        description='Will a page move, be reclaimed, be offlined; and if '
        'not, because of whom. Exits with 1 if something does not move, and '
        'with 2 if of something that is not known: there is no such page, or '
        'it is too busy to answer.')
    new.add_argument('target', nargs='+', metavar='TARGET',
                     help="PFN, FIRST-LAST, pfn:HEX, pfn:FIRST-LAST, a line "
                     "of the kernel's log, a block of memory (memory42), or "
                     '- for a log on standard input')
    new.add_argument('-n', type=_number, default=5, metavar='N',
                     help='of a range, show N pages that stay (5)')
    new.set_defaults(answer=do_why)


def _add_who(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'who', parents=parents.asking, help='who has a page, an area, a file',
        description='Who has a page. Processes of one command in one unit '
        'are one line. Exits with 1 if no page is there, and with 2 if some '
        'did not answer. A dump is asked for PFNs or PID:ADDRESS only.')
    new.add_argument('target', nargs='*', metavar='TARGET',
                     help='PFN, FIRST-LAST, PID:ADDRESS, PID:FIRST-LAST, or '
                     "a line of the kernel's log")
    new.add_argument('--pid', type=int, help='the process of --vma')
    new.add_argument('--vma', metavar='NAME',
                     help="heap, stack, or a part of a file's name")
    new.add_argument('--file', metavar='PATH',
                     help='pages of a file that are in memory')
    new.add_argument('--offset', type=_bytes, metavar='N',
                     help='only the page of that byte of the file')
    new.add_argument('--length', type=_length, metavar='N',
                     help='so many bytes of the file')
    new.add_argument('--max', type=_positive, default=256, metavar='N',
                     help='of many pages, ask about N, evenly spread (256)')
    new.add_argument('--all', action='store_true',
                     help='every process on a line of its own')
    new.set_defaults(answer=do_who)


def _add_draw(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'draw', parents=[parents.source, parents.page, parents.root],
        help='a picture',
        description='Draw the building of anon_vmas, AVCs and VMAs, or the '
        'VMAs of a file, by Graphviz.')
    new.add_argument('target', nargs='+', metavar='TARGET',
                     help='a report as JSON: FILE, or - for standard input; '
                     'or a page to ask about: PFN, PID:ADDRESS, a line of '
                     "the kernel's log, pid PID")
    form = new.add_mutually_exclusive_group()
    for name, text in (('dot', "in Graphviz's language"), ('png', 'as PNG'),
                       ('svg', 'as SVG (default)'),
                       ('html', 'as a page to look around in')):
        form.add_argument(f'--{name}', dest='form', action='store_const',
                          const=name, help=text)
    new.add_argument('--folio', action='store_true',
                     help='ask for every page of the folio')
    new.add_argument('--verify', action='store_true',
                     help='ask for verify, to draw what rmap does not reach')
    new.set_defaults(answer=do_draw, form='svg')


def _add_diff(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'diff', parents=[parents.page, parents.root],
        help='what differs between two reports',
        description='Say where two reports differ, in words or as a page '
        'with both. Exits with 1 if they differ.')
    new.add_argument('first', metavar='A', help='a report as JSON, or -')
    new.add_argument('second', metavar='B', help='another')
    form = new.add_mutually_exclusive_group()
    form.add_argument('--html', action='store_true', help='as a page')
    form.add_argument('--json', action='store_true',
                      help='for programs, one object')
    new.set_defaults(answer=do_diff)


def _add_story(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'story', parents=[parents.page, parents.root],
        help='several reports as a page',
        description='Make a page with a slider of several reports of one '
        'page or process, with what changed from one to the next.')
    new.add_argument('step', nargs='+', metavar='[CAPTION=]FILE',
                     help='a report as JSON')
    new.set_defaults(answer=do_story)


def _add_top(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'top', parents=parents.asking, help='the most shared, wasted, pinned',
        description='What there is most of on this machine.')
    what = new.add_mutually_exclusive_group(required=True)
    for name, text in top.TITLES.items():
        what.add_argument(f'--{name}', dest='what', action='store_const',
                          const=name, help=text)
    what.add_argument('--prometheus', action='store_true',
                      help="totals for node_exporter's textfile collector, "
                      'without --json')
    new.add_argument('-n', type=_number, metavar='N', help='show N (10)')
    some = new.add_mutually_exclusive_group()
    some.add_argument('--pid', type=int, help='only what that process has')
    some.add_argument('--cgroup', metavar='NAME',
                      help='only what a unit or cgroup has')
    new.set_defaults(answer=do_top)


def _add_audit(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'audit', parents=[parents.json, parents.root],
        help='check all reverse maps once',
        description="Hold the kernel's reverse maps against all page tables. "
        'Exits with 1 if they disagree in a way that is not explained.')
    new.set_defaults(answer=do_audit, vmcore=None, vmlinux=None)


def _add_watch(commands: Any, parents: _Parents) -> None:
    new = commands.add_parser(
        'watch', parents=[parents.json, parents.vmlinux, parents.root],
        help='ask again and again',
        description='Ask about one page again and again, and say what has '
        'changed. A page that is too busy to answer, or not there for a '
        'while, is asked about again. Exits with 1 if the process has gone.')
    new.add_argument('target', nargs='+', metavar='TARGET',
                     help='PFN, PID:ADDRESS, pid PID')
    new.add_argument('-i', '--interval', type=_seconds, default=2,
                     metavar='SECONDS', help='wait so long (2)')
    new.add_argument('--times', type=_positive, metavar='N',
                     help='ask N times; until interrupted without it')
    new.set_defaults(answer=do_watch, vmcore=None)


def _bytes(word: str) -> int:
    """A number of bytes, decimal or 0x hex."""
    return int(_checked(word, lambda word: int(word, 0), 0,
                        'a number of bytes'))


def _length(word: str) -> int:
    """As many bytes, of which there is one at least."""
    return int(_checked(word, lambda word: int(word, 0), 1,
                        'a number of bytes from 1 on'))


def _number(word: str) -> int:
    """How many are shown."""
    return int(_checked(word, int, 0, 'a number'))


def _positive(word: str) -> int:
    """How many are asked about, or how often."""
    return int(_checked(word, int, 1, 'a number from 1 on'))


def _seconds(word: str) -> float:
    """A time to wait, which the clock must be able to tell."""
    return min(float(_checked(word, float, 0, 'a number of seconds')), 1e9)


def _checked(word: str, read: Callable[[str], Any], least: int, what: str
             ) -> Any:
    """A number of a command line that is not too small, nor beyond reason."""
    try:
        value = read(word)
        if least <= value < 1 << 52:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{what} is expected')


class _Parser(argparse.ArgumentParser):
    """One that complains in a line."""

    def error(self, message: str) -> NoReturn:
        """End, without all of the usage."""
        complain(f'{message}; see {self.prog} --help')
        self.exit(2)


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    made = _Parser(
        prog='rmapviz', description=DESCRIPTION,
        epilog='rmapviz COMMAND --help explains a command. The exit status '
        'is 2 where there is no answer, for which one line on standard error '
        'says why.')
    made.add_argument('--version', action='version',
                      version=f'%(prog)s {VERSION}')
    commands = made.add_subparsers(dest='command', metavar='COMMAND',
                                   required=True)
    parents = _Parents()
    for add in (_add_why, _add_who, _add_draw, _add_diff, _add_story,
                _add_top, _add_audit, _add_watch):
        add(commands, parents)
    return made


def run(argv: List[str]) -> int:
    """Do what the command line says; the status to exit with."""
    if not _prepare_streams():
        return 2
    try:
        status = _answer(argv)
        try:
            sys.stdout.flush()
        except OSError as error:
            raise unwritten(error) from None
    except BrokenPipeError:
        # a closed pipe ends the command, as it does others; the signal is
        # ignored until here, for a child's pipe may break, too
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    except Failure as failure:
        _flush_before()
        complain(str(failure))
        return 2
    return status


def _prepare_streams() -> bool:
    """Whether there is somewhere to write to.

    What is closed is given a file, so that no other gets its number.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w', encoding='ascii')
    if sys.stdout is None:
        complain('standard output is closed')
        return False
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding='ascii')
    for stream in sys.stdout, sys.stderr:
        # names are printed as what they are, whatever the locale can do
        stream.reconfigure(errors='backslashreplace')   # type: ignore
    return True


def _answer(argv: List[str]) -> int:
    try:
        options = parser().parse_args(argv)
    except SystemExit as end:       # which has said why
        return int(end.code or 0)
    except OSError as error:        # it prints its help
        raise unwritten(error) from None
    answer: Callable[[Answering], int] = options.answer
    try:
        return answer(Answering(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        raise Failure(f'{where}{os.strerror(error.errno or 0)}') from None


def _flush_before() -> None:
    """What was answered comes before what is complained of."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _silence(sys.stdout)
