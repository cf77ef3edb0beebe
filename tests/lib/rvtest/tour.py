"""What docs/history.md shows, and make demo STEP=1, step by step.

A chapter is about some processes, who do more from step to step; after each
a question is asked.  What is typed can be typed in `make shell` as well.
"""

import re
from contextlib import ExitStack
from difflib import SequenceMatcher
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from .disk import SETUP
from .guest import Guest
from .scene import Scene


class Step(NamedTuple):
    """Some commands, and a question about a page."""

    name: str           # of the transcript in the document
    say: str            # what it is about
    told: str           # to actors, or with ! to the shell
    page: str           # ACTOR REGION PAGE, or ! and what prints a target,
    #                     or nothing: the frame of the step before
    words: str = ''     # more words of the question
    sections: str = ''  # of the answer, that the document shows; '' is all


class Chapter(NamedTuple):
    """Steps of the same processes."""

    name: str
    first: str          # who is there at the beginning; nobody if ''
    steps: Tuple[Step, ...]
    after: str = ''     # to be done in the end


OLD = 'for pid in $(pidof actor); do echo 1 >/proc/$pid/clear_refs; done'

BUILDING = Chapter('building', 'parent', (
    Step('first-fault', 'A process touches a page of a new area: the area '
         'gets an anon_vma, and an AVC that\njoins the two.', '''
         parent map M 2
         parent write M 0
         ''', 'parent M 0', sections='anon_vmas AVCs VMAs PTEs'),
    Step('first-fork', 'It forks. The child has a VMA of its own: it joins '
         "the parent's anon_vma, whose pages it\nshares, by AVC_x01, and has "
         'one for pages to come, by AVC1.', '''
         parent fork child
         ''', 'parent M 0', sections='anon_vmas AVCs VMAs PTEs'),
    Step('second-fork', 'The child forks. The grandchild joins all that its '
         'parent was joined to, and has one more.', '''
         child fork grandchild
         ''', 'parent M 0', sections='anon_vmas AVCs VMAs PTEs cost history'),
    Step('grandchild-writes', 'The grandchild writes, and has a copy. It '
         'belongs to the anon_vma of the grandchild,\nwhose tree has one VMA.',
         '''
         grandchild write M 0
         ''', 'grandchild M 0', sections='anon_vmas VMAs PTEs history'),
    Step('left-behind', 'The page it left: its VMA is still in that tree, and '
         'is visited in vain.', '', 'parent M 0',
         sections='VMAs PTEs history'),
    Step('scan', 'The same page as 2.4 would have looked for it: everywhere.',
         '', 'parent M 0', 'verify', sections='history verify'),
))

CLASSIC = Chapter('classic', 'P', (
    Step('p-alone', 'P has an area of two pages, and writes to the first.', '''
         P map M 2
         P write M 0
         ''', 'P M 0', sections='anon_vmas AVCs PTEs'),
    Step('p-shares', 'P forks P1 and P2, these fork P12 and P21. All five '
         'have the page.', '''
         P fork P1
         P fork P2
         P1 fork P12
         P2 fork P21
         ''', 'P M 0', sections='anon_vmas AVCs PTEs'),
    Step('p1-copies', 'P1 writes, and has a copy. It belongs to the anon_vma '
         'of P1: P1 and P12 are visited for it,\nnobody else; P12 in vain, '
         'for it was there before the copy.', '''
         P1 write M 0
         ''', 'P1 M 0', sections='anon_vmas VMAs PTEs history'),
    Step('p-without-p1', "P's page is still looked for in all five.", '',
         'P M 0', sections='VMAs PTEs history'),
    Step('not-yet-there', 'The second page was not there when they forked. '
         'P21 touches it: it is its own.', '''
         P21 write M 1
         ''', 'P21 M 1', sections='anon_vmas VMAs PTEs history'),
    Step('not-yet-there-for-p2', 'P2 touches it, too: another frame, that P21 '
         'is asked for in vain, since it might have it.', '''
         P2 write M 1
         ''', 'P2 M 1', sections='VMAs PTEs history'),
))

CHAINS = Chapter('chains', 'P', (
    Step('direct', 'One entry: struct page points to it.', '''
         P map M 1
         P write M
         ''', 'P M 0', sections='history'),
    Step('one-block', 'A fork makes it two: they stand in a block.', '''
         P fork C
         ''', 'P M 0', sections='history'),
    Step('two-blocks', 'Eight entries do not fit a block of seven.', '''
         P forkmany 6 D
         ''', 'P M 0', sections='history'),
))

CROWD = Chapter('crowd', 'server', (
    Step('one-of-twenty', 'A server forks 20 workers, and each of them writes '
         'to its copy of a page.', '''
         server map M 1
         server write M
         server forkmany 20 w
         ! for i in $(seq 0 19); do tell w$i write M >/dev/null; done
         ''', 'w7 M 0', sections='history'),
    Step('of-the-server', 'The page of the server, which no worker has any '
         'more.', '', 'server M 0', sections='cost history'),
))

UNMAP = Chapter('unmap', 'P', (
    Step('unmap-referenced', 'Both have just used the page.', '''
         P map M 1
         P write M
         P fork C
         P read M
         C read M
         ''', 'P M 0', sections='VMAs PTEs reclaim'),
    Step('unmap-success', 'Nobody has used it since the accessed bits were '
         'cleared.', f'''
         ! {OLD}
         ''', 'P M 0', sections='VMAs PTEs reclaim'),
    Step('unmap-fail', 'One of them locks it.', f'''
         C mprotect M 0 1 r
         C mlock M 0 1
         ! {OLD}
         ''', 'P M 0', sections='VMAs PTEs reclaim'),
))

WORDS = Chapter('words', 'P', (
    Step('word-of-a-file', 'A page of a file, that one process maps.', '''
         P map F 1 shared file /mnt/data 3
         P read F
         ''', 'P F 0', 'ptrs', sections='page'),
    Step('nobody', 'Nobody maps it any more; it stays in the page cache.', '''
         P unmap F 0 1
         ''', '', 'ptrs', sections='page'),
    Step('word-of-anon', 'An anonymous page.', '''
         P map M 1
         P write M
         ''', 'P M 0', 'ptrs', sections='page'),
    Step('one-more', 'It has one more mapping after a fork.', '''
         P fork C
         ''', 'P M 0', 'ptrs', sections='page'),
    Step('yet-one-more', 'And one more after another.', '''
         C fork D
         ''', 'P M 0', 'ptrs', sections='page'),
))

GAP = Chapter('gap', '', (
    Step('gap', 'A KSM page that a child maps twice; its parent has exited, '
         'and ksmd has not yet come to it.', '''
         ! gap >/tmp/gap & until [ -s /tmp/gap ]; do usleep 10000; done
         ''', '! cat /tmp/gap', 'verify',
         'VMAs PTEs cost verify'),
    Step('unmap-again', 'Nobody has used it since the accessed bits were '
         'cleared.', '''
         ! for pid in $(pidof gap); do echo 1 >/proc/$pid/clear_refs; done
         ''', '', 'verify', 'PTEs reclaim'),
    Step('gap-closed', 'ksmd has come to it.', '''
         ! cd /sys/kernel/mm/ksm; scans=$(($(cat full_scans) + 1))
         ! echo 1000 >pages_to_scan; echo 0 >sleep_millisecs; cd /
         ! passed() { [ $(cat /sys/kernel/mm/ksm/full_scans) -gt $scans ]; }
         ! until passed; do usleep 10000; done
         ! echo 0 >/sys/kernel/mm/ksm/run
         ''', '! cat /tmp/gap', 'verify',
         'VMAs PTEs reclaim verify'),
    Step('word-of-ksm', 'The words of struct page of that page.', '', '',
         'ptrs', 'page'),
), 'kill $!; wait')

CHAPTERS = (BUILDING, CLASSIC, CHAINS, CROWD, UNMAP, WORDS, GAP)


# --------------------------------------------------------------- the show --

def prepare(guest: Guest) -> None:
    """A file system and swap."""
    guest.check(SETUP)
    guest.check('head -c 65536 </bin/busybox >/mnt/data; sync; '
                'echo 3 >/proc/sys/vm/drop_caches')


class Shown(NamedTuple):
    """A step as one sees it."""

    step: Step
    typed: List[str]    # commands before the question, and what they print
    question: str
    answer: List[str]   # all of it


def perform(guest: Guest, chapter: Chapter) -> Iterator[Shown]:
    """The steps of a chapter; when it is over, its processes are gone."""
    with ExitStack() as stack:
        scene: Optional[Scene] = None
        if chapter.first:
            scene = stack.enter_context(Scene(guest, chapter.first))
        if chapter.after:
            stack.callback(guest.undo, chapter.after)
        typed = [f'# actor {chapter.first}'] if scene else []
        asked = ''
        for step in chapter.steps:
            typed += act(guest, scene, step)
            if step.page:
                asked = target(guest, scene, step)
            query = f'{asked} {step.words}'.strip()
            answer = guest.check(f'ask {query}', 300)
            yield Shown(step, typed, f'# ask {query}', answer.splitlines())
            typed = []


def act(guest: Guest, scene: Optional[Scene], step: Step) -> List[str]:
    """Do what a step tells; as commands with what the shell's print."""
    found = []
    for line in map(str.strip, step.told.strip().splitlines()):
        if line.startswith('!'):
            command = line[1:].strip()
            found += [f'# {command}', *guest.check(command).splitlines()]
        elif line:
            assert scene
            scene.play(line)
            found.append(f'# tell {line}')
    guest.check('drain')
    return found


def target(guest: Guest, scene: Optional[Scene], step: Step) -> str:
    """What to ask about."""
    if step.page.startswith('!'):
        return guest.check(step.page[1:].strip()).strip()
    assert scene
    actor, region, page = step.page.split()
    return f'{scene.pfn(actor, region, int(page)):#x}'


def chosen(shown: Shown) -> List[str]:
    """The answer's first line and the sections that a document shows."""
    wanted = shown.step.sections.split()
    if not wanted:
        return shown.answer
    found: List[str] = [shown.answer[0], '']
    keep = True
    for line in shown.answer[2:]:
        heading = re.match(r'\w+', line)
        if heading:
            keep = heading[0] in wanted
            if not keep and found[-2:] != ['[...]', '']:
                found += ['[...]', '']
        if keep:
            found.append(line)
    while not found[-1]:
        found.pop()
    return found


def transcript(shown: Shown) -> str:
    """A step for a document, as a block of code."""
    lines = [*shown.typed, shown.question, *chosen(shown)]
    return ''.join(f'    {line}'.rstrip() + '\n' for line in lines)


# What differs from run to run, and what stands for it.
_VARYING = (
    # addresses of the kernel, but for the bits that say something
    (r'\b0xffff[0-9a-f]{11}[048c]\b', '0xffff~00'),
    (r'\b0xffff[0-9a-f]{11}[159d]\b', '0xffff~01'),
    (r'\b0xffff[0-9a-f]{11}[37bf]\b', '0xffff~11'),
    # entries, but for their flags
    (r'\b0x([0-9a-f])[0-9a-f]{12}([0-9a-f]{3})\b', r'0x\1~\2'),
    # addresses of processes that were not told where to map
    (r'\b7f[0-9a-f]{10}\b', '7f~'),
    (r'^(\s*)(PFN|# ask) 0x[0-9a-f]+', r'\1\2 0x~'),
    (r'\b0x7f[0-9a-f]{7,10}\b', '0x7f~'),
    (r'\bpid \d+\b', 'pid ~'),
    (r'\bpfn \d+ \(0x[0-9a-f]+\), physical 0x[0-9a-f]+', 'pfn ~'),
    (r'^( +VMA\d+ +)\d+ +', r'\1~ '),
    (r'\bkept by (VMA\d+) of \d+\b', r'kept by \1 of ~'),
    (r'\d+\.\d us\b', '~ us'),
    (r'\b\d+ attempts?\b', '~ attempts'),
    (r'\b\d+ retr(y|ies)\b', '~ retries'),
    (r'(2\.4\.18 +scan) .*', r'\1 ~'),
    (r' +', ' '),
)


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, instead in _VARYING:
        line = re.sub(pattern, instead, line)
    return line.strip()


def changes(before: List[str], after: List[str]) -> Iterator[str]:
    """The lines of an answer, marked where it differs from the one before."""
    matcher = SequenceMatcher(None, [masked(line) for line in before],
                              [masked(line) for line in after], False)
    for what, i, j, k, m in matcher.get_opcodes():
        if what == 'equal':
            yield from (f'  {line}' for line in after[k:m])
        else:
            yield from (f'- {line}' for line in before[i:j] if line)
            yield from (f'+ {line}' for line in after[k:m])


# ----------------------------------------------------------- the document --

_BLOCK = re.compile(r'(<!-- transcript: ([\w-]+) -->\n\n)((?: {4}.*\n|\n)*?)'
                    r'(\n<!-- end -->)')


def blocks(text: str) -> Dict[str, str]:
    """The transcripts in a document, by name."""
    found = _BLOCK.findall(text)
    assert len(found) == text.count('<!-- transcript: '), 'a block has no end'
    return {name: block for _, name, block, _ in found}


def stale(old: str, new: str) -> bool:
    """Whether they differ in more than what differs from run to run."""
    return [masked(line) for line in old.splitlines()] \
        != [masked(line) for line in new.splitlines()]


def renewed(text: str, transcripts: Dict[str, str]) -> str:
    """A document with those transcripts in it that are not as they were."""
    def new(match: 're.Match[str]') -> str:
        begin, name, old, end = match.groups()
        return begin + (transcripts[name] if stale(old, transcripts[name])
                        else old) + end

    assert blocks(text).keys() == transcripts.keys(), 'other transcripts'
    return _BLOCK.sub(new, text)
