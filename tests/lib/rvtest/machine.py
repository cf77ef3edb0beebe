"""Guests that tests share: one at a time, booted when it is asked for."""

from contextlib import ExitStack
from typing import (
    Callable, Dict, Hashable, List, NamedTuple, Optional, Set, Tuple)

from . import vm
from .disk import Disks
from .guest import DEBUG_MEMORY, Guest
from .stage import Stage


class Machine(NamedTuple):
    """What a guest consists of; equal ones share a guest.

    With a debug kernel it has twice the memory, or debug_memory_mb.  If it is
    parallel, its CPUs run at the same time.
    prepare is run in it once, after boot.
    """

    name: str = 'plain'
    memory_mb: int = 1024
    debug_memory_mb: int = 0
    append: str = ''
    arguments: Tuple[str, ...] = ()
    disks: bool = False
    parallel: bool = False
    prepare: Optional[Callable[[Guest], None]] = None


PLAIN = Machine()


def two_nodes(megabytes: int) -> Tuple[str, ...]:
    """Arguments of a machine with so much memory in each of two nodes, between
    which pages can be moved."""
    return ('-m', f'{2 * megabytes}',
            '-object', f'memory-backend-ram,id=near,size={megabytes}M',
            '-object', f'memory-backend-ram,id=far,size={megabytes}M',
            '-numa', 'node,cpus=0-1,memdev=near',
            '-numa', 'node,memdev=far')


class Pool:
    """The guest that is running now, if any."""

    def __init__(self) -> None:
        self._key: Optional[Tuple[str, Machine]] = None
        self._guest: Optional[Guest] = None
        self._stage: Optional[Stage] = None
        self._told: Set[str] = set()
        # what broke a guest is not to break the next one as well
        self._fatal: Dict[Tuple[str, Machine], Dict[Hashable, str]] = {}
        self._stack = ExitStack()

    def guest(self, series: str, machine: Machine) -> Guest:
        """That machine with that kernel; booted unless it runs and is well."""
        if self._key != (series, machine) or not self._guest \
                or self._guest.broken:
            self._pull_plug()
            self._boot(series, machine)
        assert self._guest
        return self._guest

    def stage(self, series: str, machine: Machine) -> Stage:
        """Where stories are told in that guest."""
        guest = self.guest(series, machine)
        if not self._stage:
            self._stage = Stage(guest, self._fatal.setdefault(
                (series, machine), {}))
        return self._stage

    def end_scene(self) -> None:
        """Send the actors of a story home, for another test wants theirs."""
        if self._stage and self._guest and not self._guest.broken:
            self._stage.clear()

    def _boot(self, series: str, machine: Machine) -> None:
        arguments = list(machine.arguments)
        if machine.disks:
            arguments += self._stack.enter_context(Disks()).arguments()
        memory = machine.memory_mb
        if vm.is_debug(series) and machine.debug_memory_mb:
            memory = machine.debug_memory_mb // DEBUG_MEMORY
        guest = Guest(series, memory_mb=memory, append=machine.append,
                      extra_args=arguments, parallel=machine.parallel)
        self._key, self._guest = (series, machine), guest
        if machine.prepare:
            machine.prepare(guest)

    def _pull_plug(self) -> None:
        if self._guest:
            self._guest.kill()
        self._key, self._guest, self._stage = None, None, None
        self._told = set()
        self._stack.close()

    def news(self) -> List[str]:
        """What the console has said since the last time that is a complaint;
        so it is known which test it was."""
        if not self._guest or self._guest.broken:
            return []       # whoever broke it has shown its console
        news = self._guest.console_news()
        self._told.update(news)
        return news

    def close(self) -> List[str]:
        """Power off; what the kernel complained of that is not told yet."""
        if not self._guest or self._guest.broken:
            self._pull_plug()
            return []
        try:
            self.end_scene()
            complaints = set(self._guest.kernel_complaints())
            self._guest.close()
            return sorted(complaints - self._told)
        finally:
            self._pull_plug()
