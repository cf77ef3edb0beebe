"""Processes around a page, that tests/guest/crowd.c builds for benchmarks."""

from typing import List

from .guest import Guest


def allow(guest: Guest) -> None:
    """More of them than a kernel lets be."""
    guest.check('echo 100000 >/proc/sys/kernel/pid_max; '
                'echo 100000 >/proc/sys/kernel/threads-max; '
                'echo 200000 >/proc/sys/vm/max_map_count')


def build(guest: Guest, scene: str, lines: int = 1) -> List[List[str]]:
    """Let them be built; PFN, PID and ADDRESS of the pages to ask about."""
    guest.check(f'rm -f /tmp/where; crowd {scene} >/tmp/where &')
    guest.wait_for(f'[ $(cat /tmp/where | wc -l) = {lines} ]', 3600)
    return [line.split() for line in
            guest.check('cat /tmp/where').splitlines()]


def end(guest: Guest) -> None:
    """Nobody of them is left."""
    guest.check('killall -9 crowd 2>/dev/null; while pidof crowd >/dev/null; '
                'do usleep 50000; done; rm -f /tmp/crowd', 600)
