"""Processes that do what a story tells, and what they say of their memory."""

import json
import re
from typing import Dict, List, Set

from .guest import Guest, GuestError
from .report import Mapping, Report

FILE = '/sys/kernel/debug/rmapviz'


class Scene:
    """Actors in a guest, from the first one's start until they are gone."""

    def __init__(self, guest: Guest, first: str = 'P') -> None:
        self.guest = guest
        self.pids: Dict[str, int] = {}
        self._deaf: Dict[str, str] = {}     # who waits for its vfork child
        guest.check(f'actor {first}')
        self._add(first)

    def __enter__(self) -> 'Scene':
        return self

    def __exit__(self, *_: object) -> None:
        self.guest.run('killall -9 actor; while pidof actor; do :; done')

    def _add(self, name: str) -> None:
        reply, = self.guest.tell([f'{name} pid'])
        self.pids[name] = int(reply.split()[1])

    def _note(self, line: str, reply: str) -> None:
        """Keep track of who lives after a command was obeyed."""
        name, verb, *words = line.split()
        if verb in ('fork', 'clone_vm', 'vfork'):
            self.pids[words[0]] = int(reply.split()[1])
        if verb == 'vfork':
            self._deaf[name] = words[0]
        elif verb == 'exec':
            self.pids[words[0]] = self.pids.pop(name)
        elif verb == 'exit':
            del self.pids[name]
            self._deaf = {deaf: child for deaf, child in self._deaf.items()
                          if child != name}
        elif verb == 'forkmany':
            children = [f'{words[1]}{i}' for i in range(int(words[0]))]
            replies = self.guest.tell([f'{child} pid' for child in children])
            for child, answer in zip(children, replies):
                self.pids[child] = int(answer.split()[1])

    def play(self, story: str) -> List[str]:
        """Tell the actors a story, a command a line; their replies."""
        lines = [line.strip() for line in story.strip().splitlines()]
        replies = self.guest.tell(lines)
        for line, reply in zip(lines, replies):
            if not reply.startswith('ok'):
                raise GuestError(f'{line}: {reply}')
            self._note(line, reply)
        return replies

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
        names = list(self.pids)
        speakers = [self._deaf.get(name, name) for name in names]
        replies = self.guest.tell([f'{name} find 0x{pfn:x}'
                                   for name in speakers], 300)
        return {(self.pids[name], int(address, 16))
                for name, reply in zip(names, replies)
                for address in re.findall(r'0x([0-9a-f]+):', reply)}

    def ask(self, query: str) -> Report:
        """The module's answer as JSON."""
        report: Report = json.loads(
            self.guest.check(f"ask '{query} json'", 300))
        return report
