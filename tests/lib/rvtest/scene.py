"""Processes that do what a story tells, and what they say of their memory."""

import re
from typing import Dict, Iterable, List, Set, Tuple

from .guest import Guest, GuestError
from .report import Mapping, PageMapping, Report, parse

Answer = Tuple[str, Report]

FILE = '/sys/kernel/debug/rmapviz'
SURVEY, FAMILIES = f'{FILE}_survey', f'{FILE}_families'


class Scene:
    """Actors in a guest, from the first one's start until they are gone."""

    def __init__(self, guest: Guest, first: str = 'P') -> None:
        self.guest = guest
        self.pids: Dict[str, int] = {}
        self.spaces: Dict[str, str] = {}    # who had one's address space first
        self._deaf: Dict[str, str] = {}     # who waits for its vfork child
        guest.check(f'actor {first}')
        self._add(first)

    def __enter__(self) -> 'Scene':
        return self

    def __exit__(self, *_: object) -> None:
        # one that still waits for a disk has neither memory nor a command
        # line any more, but its name
        self.guest.run('killall -9 actor; '
                       'while grep -q @actor /proc/net/unix; do :; done')

    def _add(self, name: str) -> None:
        reply, = self.guest.tell([f'{name} pid'])
        self.pids[name] = int(reply.split()[1])
        self.spaces[name] = name

    def _note(self, line: str, reply: str) -> None:
        """Keep track of who lives after a command was obeyed."""
        name, verb, *words = line.split()
        if verb in ('fork', 'clone_vm', 'vfork'):
            self.pids[words[0]] = int(reply.split()[1])
            self.spaces[words[0]] = words[0] if verb == 'fork' \
                else self.spaces[name]
        if verb == 'vfork':
            self._deaf[name] = words[0]
        elif verb == 'exec':
            self.pids[words[0]] = self.pids.pop(name)
            self.spaces[words[0]] = words[0]
        elif verb == 'exit':
            del self.pids[name]
            self._deaf = {deaf: child for deaf, child in self._deaf.items()
                          if child != name}
        elif verb == 'forkmany':
            children = [f'{words[1]}{i}' for i in range(int(words[0]))]
            replies = self.guest.tell([f'{child} pid' for child in children])
            for child, answer in zip(children, replies):
                self.pids[child] = int(answer.split()[1])
                self.spaces[child] = child

    def play(self, story: str) -> List[str]:
        """Tell the actors a story, a command a line; their replies."""
        lines = [line.strip() for line in story.strip().splitlines()]
        replies = self.guest.tell(lines)
        for line, reply in zip(lines, replies):
            if not reply.startswith('ok'):
                raise GuestError(f'{line}: {reply}')
            self._note(line, reply)
        return replies

    def story(self, told: str) -> None:
        """A story in which a line with ! is for the shell.

        At the end what waits in per-CPU batches comes to rest.
        """
        for line in told.strip().splitlines():
            if line.strip().startswith('!'):
                self.guest.check(line.strip()[1:])
            else:
                self.play(line)
        self.guest.check('drain')

    def names(self) -> Dict[int, str]:
        """The actors' names by pid."""
        return {pid: name for name, pid in self.pids.items()}

    def pfn(self, actor: str, region: str, page: int = 0) -> int:
        """The frame that an actor finds in its own pagemap."""
        reply, = self.play(f'{actor} look {region} {page} 1')
        match = re.search(r'pfn=0x([0-9a-f]+),present=1', reply)
        if not match:
            raise GuestError(f'{actor} maps no page {page} of {region}')
        return int(match[1], 16)

    def witness(self, pfn: int) -> Set[Mapping]:
        """Every (pid, address) at which an actor finds the frame.

        Each looks through all of its own pagemap.  One that waits for its
        vfork child has the child's address space.
        """
        return {(pid, addr) for pid, addr, _ in self.witness_all(pfn, 1)}

    def witness_all(self, first: int, count: int) -> Set[PageMapping]:
        """Every (pid, address, frame) of a run of frames, in the same way."""
        return {(self.pids[name], address, frame)
                for name, address, frame in self.witness_by_name(first, count)}

    def witness_by_name(self, first: int, count: int
                        ) -> Set[Tuple[str, int, int]]:
        """The same, with the actor's name for the pid."""
        names = list(self.pids)
        speakers = [self._deaf.get(name, name) for name in names]
        replies = self.guest.tell([f'{name} find 0x{first:x}+{count}'
                                   for name in speakers], 300)
        return {(name, int(address, 16), int(frame, 16))
                for name, reply in zip(names, replies)
                for address, frame in re.findall(
                    r'0x([0-9a-f]+):pfn=0x([0-9a-f]+)', reply)}

    def proc_faults(self, report: Report) -> List[str]:
        """VMAs and processes of a report that /proc/PID/maps does not have."""
        pids = sorted({mm['pid'] for mm in report['mms']})
        proc = self.guest.check('; '.join(
            f'sed "s/^/{pid} $(cat /proc/{pid}/comm) /" /proc/{pid}/maps'
            for pid in pids) or ':')
        known = {self._maps_line(line) for line in proc.splitlines()}
        found = []
        for vma in report['vmas']:
            mm = report['mms'][vma['mm']]
            name = vma['name'] or ''
            # an anonymous mapping has an offset that maps does not show
            offset = int(vma['pgoff'], 16) << 12 if name[:1] == '/' else 0
            line = (mm['pid'], mm['comm'], int(vma['start'], 16),
                    int(vma['end'], 16), vma['perms'], offset, name)
            if line not in known:
                found.append(f'{line}')
        return found

    @staticmethod
    def _maps_line(text: str) -> Tuple[object, ...]:
        """PID COMM and a line of maps, as proc_faults() compares it."""
        pid, comm, span, perms, offset, _, inode, *name = text.split(None, 7)
        start, end = span.split('-')
        return (int(pid), comm, int(start, 16), int(end, 16), perms,
                int(offset, 16) if inode != '0' else 0, ''.join(name))

    def ask_all(self, queries: Iterable[str]) -> List[Answer]:
        """Many queries; for each its errno and, if that is ok, the answer."""
        text = '\\n'.join(f'{query} json' for query in queries)
        output = self.guest.run(f"printf '{text}\\n' | ask -", 600).output
        found = []
        for part in output.split('== ')[1:]:
            head, _, body = part.partition('\n')
            error = head.rsplit(' ', 1)[1]
            found.append((error, parse(body) if error == 'ok' else {}))
        return found

    def ask(self, query: str) -> Report:
        """The module's answer as JSON."""
        return parse(self.guest.check(f"ask '{query} json'", 300))
