"""The command line: what is asked, of whom, and how it is answered."""

import argparse
import json
import os
import signal
import sys
import time
from typing import Any, Callable, List, Optional

from . import (audit, changes, dot, page, place, report, target, top, who,
               why)
from .ask import Dump, Module, Source
from .failure import Failure
from .proc import PAGE, Proc
from .words import Paper, hexa, plain

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

    def json(self, value: Any) -> None:
        """A line for programs."""
        self.paper.line(json.dumps(value))


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
    return target.of_words(words, run.proc)


def do_why(run: Answering) -> int:
    """Answer rmapviz why; 1 if something does not move."""
    status = 0
    found = _targets(run)
    for i, frames in enumerate(found):
        if i and not run.options.json:
            run.paper.line()
        try:
            status |= _why(run, frames)
        except Failure as failure:
            if len(found) == 1:
                raise
            status = 2
            print(f'rmapviz: {failure}', file=sys.stderr)
    return status


def _why(run: Answering, frames: target.Frames) -> int:
    asked = run.options
    if frames.pages > 1:
        block = why.look_at_range(frames, run.source, run.proc)
        if asked.json:
            run.json(why.block_json(block, run.source, run.proc, asked.n))
        else:
            why.print_block(block, run.source, run.paper, run.proc, asked.n)
        return 1 if block.stay else 0
    case = why.look(frames, run.source, run.proc)
    if asked.json:
        run.json(why.case_json(case, run.proc, run.source.live))
    else:
        why.print_case(case, run.paper, run.proc, run.source.live)
    return 0 if why.verdict(case.report) in ('yes', None) else 1


# -------------------------------------------------------------------- who --

def do_who(run: Answering) -> int:
    """Answer rmapviz who."""
    asked = run.options
    teller = who.Who(run.source, run.proc, run.paper, asked.all)
    if sum(map(bool, (asked.target, asked.pid, asked.file))) != 1:
        raise Failure('who takes a PFN or PID:ADDRESS, or --pid, or --file')
    if asked.file:
        length = asked.length or (PAGE if asked.offset is not None
                                  else os.path.getsize(asked.file)
                                  if os.path.exists(asked.file) else PAGE)
        pages = teller.of_file(asked.file, asked.offset or 0, length,
                               asked.max)
        return _tell(run, teller, plain(asked.file), pages)
    if asked.pid:
        if not asked.vma:
            raise Failure('--pid takes --vma: heap, stack, or a part of a '
                          "file's name")
        pages = teller.of_areas(asked.pid, asked.vma, asked.max)
        return _tell(run, teller, f'{plain(asked.vma)} of process '
                     f'{asked.pid}', pages)
    return _who_targets(run, teller)


def _who_targets(run: Answering, teller: who.Who) -> int:
    asked = run.options
    word = asked.target[0]
    if place.names_address(asked.target):
        start, dash, end = word.partition('-')
        pid, address = place.address_of(start)
        if not dash:
            return _tell(run, teller, '', [teller.of_address(pid, address)])
        pages = teller.of_range(pid, address, place.address_of(
            f'{pid}:{end}')[1], asked.max)
        return _tell(run, teller, word, pages)
    for frames in target.of_words(asked.target, run.proc):
        if frames.pages == 1:
            _tell(run, teller, '', [teller.of_pfn(frames.first)])
        else:
            pages = [teller.of_frame(pfn, pfn * PAGE)
                     for pfn in range(frames.first, frames.end)]
            _tell(run, teller, target.text(frames), pages)
    return 0


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

def asked_report(run: Answering, words: List[str], extra: str = ''
                 ) -> report.Report:
    """A report from a file, or - for standard input, or the answer to a
    question."""
    if len(words) == 1 and (words[0] == '-' or os.path.exists(words[0])
                            or words[0].endswith('.json')):
        return report.load(words[0])
    if words[0] == 'pid':
        query = ' '.join(words)
    elif place.names_address(words):
        query = 'pid {} {:#x}'.format(*place.address_of(words[0]))
    else:
        frames = target.of_words(words, run.proc)
        if len(frames) != 1 or frames[0].pages != 1:
            raise Failure('one page is expected')
        query = hexa(frames[0].first)
    return run.source.ask(f'{query}{extra}')


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
    sys.stdout.buffer.write(data)


# --------------------------------------------------------- diff and story --

def do_diff(run: Answering) -> int:
    """Answer rmapviz diff; 1 if they differ."""
    asked = run.options
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
    if not isinstance(run.source, Module):
        raise Failure(f'{run.options.command} asks the module; a dump has no '
                      'such listing')
    return run.source


def do_top(run: Answering) -> int:
    """Answer rmapviz top."""
    asked = run.options
    source = module_of(run)
    if asked.prometheus:
        run.paper.lines(top.prometheus(source))
        return 0
    teller = top.Top(source, run.proc, run.paper)
    chosen = top.only(run.proc, asked.pid, asked.cgroup)
    if asked.what == 'families':
        families = teller.families(asked.n, chosen)
        if asked.json:
            for family in families:
                run.json({'rmapviz_top': 1, **family._asdict()})
        else:
            teller.print_families(families)
        return 0
    folios = teller.folios(asked.what, asked.n, chosen)
    if asked.json:
        for folio in folios:
            run.json({'rmapviz_top': 1, **folio._asdict(), 'who': [
                group.as_json() for group in teller.who(folio)]})
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
    """Answer rmapviz watch: again and again, until it is interrupted."""
    asked = run.options
    before: Optional[report.Report] = None
    number = 0
    while asked.times is None or number < asked.times:
        if number:
            time.sleep(asked.interval)
        try:
            now = asked_report(run, asked.target)
        except Failure as failure:
            if before is None:
                raise
            run.paper.line(f"{time.strftime('%H:%M:%S')} {failure}")
            return 1
        if asked.json:
            run.json(now)
        for line in () if asked.json else watch_lines(before, now):
            run.paper.line(f"{time.strftime('%H:%M:%S')} {line}")
        sys.stdout.flush()
        before, number = now, number + 1
    return 0


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

def _common() -> argparse.ArgumentParser:
    """What every command takes."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--json', action='store_true',
                        help='for programs, an object a line')
    common.add_argument('--vmcore', metavar='FILE',
                        help='ask a dump of a kernel, by drgn')
    common.add_argument('--vmlinux', metavar='FILE',
                        help="that kernel's debug information")
    # for tests: where /proc and /sys are
    common.add_argument('--root', default='/', help=argparse.SUPPRESS)
    return common


def _add_why(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'why', parents=[common], help='will it move? if not, because of whom',
        description='Will a page move, be reclaimed, be offlined; and if '
        'not, because of whom. Exits with 1 if something does not move.')
    new.add_argument('target', nargs='+', metavar='TARGET',
                     help="PFN, FIRST-LAST, pfn:HEX, a line of the kernel's "
                     'log, a block of memory (memory42), or - for a log on '
                     'standard input')
    new.add_argument('-n', type=int, default=5, metavar='N',
                     help='of a range, show N pages that stay (5)')
    new.set_defaults(answer=do_why)


def _add_who(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'who', parents=[common], help='who has a page, an area, a file',
        description='Who has a page. Processes of one command in one unit '
        'are one line. Exits with 1 if no page is there.')
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
    new.add_argument('--length', type=_bytes, metavar='N',
                     help='so many bytes of the file')
    new.add_argument('--max', type=int, default=256, metavar='N',
                     help='of many pages, ask about N, evenly spread (256)')
    new.add_argument('--all', action='store_true',
                     help='every process on a line of its own')
    new.set_defaults(answer=do_who)


def _add_draw(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'draw', parents=[common], help='a picture',
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
    new.add_argument('-o', '--output', metavar='FILE',
                     help='write there, not to standard output')
    new.add_argument('--all', action='store_true',
                     help='fold nothing, though a thousand be alike')
    new.add_argument('--folio', action='store_true',
                     help='ask for every page of the folio')
    new.add_argument('--verify', action='store_true',
                     help='ask for verify, to draw what rmap does not reach')
    new.set_defaults(answer=do_draw, form='svg')


def _add_diff(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'diff', parents=[common], help='what differs between two reports',
        description='Say where two reports differ, in words or as a page '
        'with both. Exits with 1 if they differ.')
    new.add_argument('first', metavar='A', help='a report as JSON, or -')
    new.add_argument('second', metavar='B', help='another')
    _add_page_options(new)
    new.add_argument('--html', action='store_true', help='as a page')
    new.set_defaults(answer=do_diff)


def _add_story(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'story', parents=[common], help='several reports as a page',
        description='Make a page with a slider of several reports of one '
        'page or process, with what changed from one to the next.')
    new.add_argument('step', nargs='+', metavar='[CAPTION=]FILE',
                     help='a report as JSON')
    _add_page_options(new)
    new.set_defaults(answer=do_story)


def _add_top(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'top', parents=[common], help='the most shared, wasted, pinned',
        description='What there is most of on this machine.')
    what = new.add_mutually_exclusive_group(required=True)
    for name, text in top.TITLES.items():
        what.add_argument(f'--{name}', dest='what', action='store_const',
                          const=name, help=text)
    what.add_argument('--prometheus', action='store_true',
                      help="totals for node_exporter's textfile collector")
    new.add_argument('-n', type=int, default=10, metavar='N',
                     help='show N (10)')
    some = new.add_mutually_exclusive_group()
    some.add_argument('--pid', type=int, help='only what that process has')
    some.add_argument('--cgroup', metavar='NAME',
                      help='only what a unit or cgroup has')
    new.set_defaults(answer=do_top)


def _add_audit(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'audit', parents=[common], help='check all reverse maps once',
        description="Hold the kernel's reverse maps against all page tables. "
        'Exits with 1 if they disagree in a way that is not explained.')
    new.set_defaults(answer=do_audit)


def _add_watch(commands: Any, common: argparse.ArgumentParser) -> None:
    new = commands.add_parser(
        'watch', parents=[common], help='ask again and again',
        description='Ask about one page again and again, and say what has '
        'changed.')
    new.add_argument('target', nargs='+', metavar='TARGET',
                     help='PFN, PID:ADDRESS, pid PID')
    new.add_argument('-i', '--interval', type=float, default=2,
                     metavar='SECONDS', help='wait so long (2)')
    new.add_argument('--times', type=int, metavar='N',
                     help='ask N times; until interrupted without it')
    new.set_defaults(answer=do_watch)


def _add_page_options(new: argparse.ArgumentParser) -> None:
    new.add_argument('-o', '--output', metavar='FILE',
                     help='write there, not to standard output')
    new.add_argument('--all', action='store_true',
                     help='fold nothing, though a thousand be alike')


def _bytes(word: str) -> int:
    """A number of bytes, decimal or 0x hex."""
    value = int(word, 0)
    if value < 0:
        raise ValueError
    return value


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    made = argparse.ArgumentParser(
        prog='rmapviz', description=DESCRIPTION,
        epilog='rmapviz COMMAND --help explains a command.')
    commands = made.add_subparsers(dest='command', metavar='COMMAND',
                                   required=True)
    common = _common()
    _add_why(commands, common)
    _add_who(commands, common)
    _add_draw(commands, common)
    _add_diff(commands, common)
    _add_story(commands, common)
    for add in _add_top, _add_audit, _add_watch:
        add(commands, common)
    return made


def run(argv: List[str]) -> int:
    """Do what the command line says; the status to exit with."""
    # a closed pipe ends the command, as it does others
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in sys.stdout, sys.stderr:
        # names are printed as what they are, whatever the locale can do
        stream.reconfigure(errors='backslashreplace')   # type: ignore
    options = parser().parse_args(argv)
    answer: Callable[[Answering], int] = options.answer
    try:
        return answer(Answering(options))
    except Failure as failure:
        print(f'rmapviz: {plain(str(failure))}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
