"""One story at a time, told once and looked at by many tests."""

from contextlib import ExitStack
from typing import Any, Callable, Dict, Generic, Hashable, Optional, TypeVar

import pytest

from .guest import Guest
from .scene import Scene

T = TypeVar('T')


class Once(Generic[T]):
    """What is looked at once, and what was seen then.

    What fails fails in the test that wanted it first; the others that need it
    are skipped, since one failure is one.
    """

    def __init__(self, what: str, look: Callable[[], T]) -> None:
        self._what = what
        self._look: Optional[Callable[[], T]] = look
        self._seen: Optional[T] = None
        self._failure: Optional[BaseException] = None

    def __call__(self) -> T:
        if isinstance(self._failure, pytest.skip.Exception):
            raise self._failure
        if self._failure:
            why, *_ = str(self._failure).splitlines() or ['']
            pytest.skip(f'{self._what} failed already: {why:.60}')
        if self._look:
            look, self._look = self._look, None
            try:
                self._seen = look()
            except (Exception, pytest.skip.Exception,
                    pytest.fail.Exception) as error:
                self._failure = error
                raise
        seen: T = self._seen    # type: ignore[assignment]
        return seen


class Stage:
    """The story that is told in a guest now, and what was seen of it."""

    def __init__(self, guest: Guest,
                 fatal: Optional[Dict[Hashable, str]] = None) -> None:
        """fatal has the stories that broke a guest, and how."""
        self.guest = guest
        self._fatal = {} if fatal is None else fatal
        self._story: Optional[Hashable] = None
        self._stack = ExitStack()
        self._seen: Dict[Hashable, Once[Any]] = {}

    def clear(self) -> None:
        """The story is over, and its actors are gone."""
        self._story = None
        self._seen = {}
        self._stack.close()

    def _begin(self, story: Hashable) -> None:
        if story in self._fatal:
            pytest.skip(f'it broke its guest already: {self._fatal[story]}')
        if self._story != story:
            self.clear()
            self._story = story

    def scene(self, story: Hashable, tell: Callable[[Scene], object]
              ) -> Scene:
        """The scene after that story; told unless it is the one that is on."""
        self._begin(story)
        return self.once('the story', lambda: self._tell(tell))

    def record(self, story: str, look: Callable[[], T]) -> T:
        """What is seen of a story that look tells by itself, from the first
        actor's start until all are gone."""
        self._begin(story)
        return self.once(story, look)

    def _tell(self, tell: Callable[[Scene], object]) -> Scene:
        scene = self._stack.enter_context(Scene(self.guest))
        tell(scene)
        return scene

    def once(self, what: str, look: Callable[[], T], *key: Hashable) -> T:
        """What a look at the scene shows, which is taken once."""
        try:
            seen: T = self._seen.setdefault((what, key), Once(what, look))()
        except Exception as error:
            if self.guest.broken:
                self._fatal[self._story] = str(error).splitlines()[0]
            raise
        return seen
