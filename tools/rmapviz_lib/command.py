"""The command line: what is asked, of whom, and how it is answered."""

import argparse
import json
import os
import signal
import sys
from typing import Any, Callable, List, Optional

from . import target, why
from .ask import Dump, Module, Source
from .failure import Failure
from .proc import Proc
from .words import Paper, plain

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


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    made = argparse.ArgumentParser(
        prog='rmapviz', description=DESCRIPTION,
        epilog='rmapviz COMMAND --help explains a command.')
    commands = made.add_subparsers(dest='command', metavar='COMMAND',
                                   required=True)
    common = _common()
    _add_why(commands, common)
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
