"""A thin layer over tap.tracker: results stream out as they are known."""

import difflib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Optional, Type

from tap.tracker import Tracker  # type: ignore[import]


def _show(value: object) -> str:
    """A value as text with one item a line, so that a diff is of use."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, indent=1, sort_keys=True)
    except TypeError:
        return repr(value)


def _difference(got: object, want: object) -> str:
    """How got is not what was wanted, for a person to read."""
    lines = difflib.unified_diff(
        _show(want).splitlines(), _show(got).splitlines(),
        'wanted', 'got', lineterm='', n=2)
    return '\n'.join(lines) or f'got {got!r}, wanted {want!r}'


class Tap:
    """The results of one test script.

    As a context manager it prints the plan at the end and leaves the script
    with a status other than 0 if a test failed.  A script that dies gets no
    plan, so its harness knows.
    """

    def __init__(self, plan: Optional[int] = None) -> None:
        self._tracker = Tracker(streaming=True, stream=sys.stdout)
        self._name = Path(sys.argv[0]).name
        self._plan = plan
        self._ran = 0
        self.failed = 0
        self.prefix = ''    # of all descriptions from here on
        if plan is not None:
            self._tracker.set_plan(plan)

    def _describe(self, description: str) -> str:
        """A description as TAP wants it: # would start a directive."""
        return (self.prefix + description).replace('#', '\\#')

    def ok(self, condition: object, description: str,
           diagnostics: str = '') -> bool:
        """One test; the diagnostics are shown if it fails."""
        self._ran += 1
        name = self._describe(description)
        if condition:
            self._tracker.add_ok(self._name, name)
        else:
            self.failed += 1
            self._tracker.add_not_ok(self._name, name)
            self._complain(description, diagnostics)
        sys.stdout.flush()
        return bool(condition)

    def _complain(self, description: str, diagnostics: str) -> None:
        """Say what failed where a harness does not swallow it."""
        sys.stdout.flush()
        lines = [f'{self._name}: FAILED: {self.prefix}{description}',
                 *diagnostics.splitlines()]
        sys.stderr.write(''.join(f'# {line}\n' for line in lines))
        sys.stderr.flush()

    def is_equal(self, got: object, want: object, description: str) -> bool:
        """Pass if got == want; show how they differ if not."""
        return self.ok(got == want, description,
                       '' if got == want else _difference(got, want))

    def skip(self, description: str, reason: str) -> None:
        """A test that cannot be run here, and why."""
        self._ran += 1
        self._tracker.add_skip(self._name, self._describe(description),
                               reason)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something for the reader that is no result."""
        for line in text.splitlines():
            print('#', line)
        sys.stdout.flush()

    def done(self) -> int:
        """Print the plan unless it came first; the status to exit with."""
        if self._plan is None:
            self._plan = self._ran
            self._tracker.set_plan(self._ran)
            sys.stdout.flush()
        return 0 if not self.failed and self._plan == self._ran else 1

    def __enter__(self) -> 'Tap':
        return self

    def __exit__(self, kind: Optional[Type[BaseException]],
                 error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if kind is None:
            sys.exit(self.done())
