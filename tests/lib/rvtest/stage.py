"""One story at a time, told once and looked at by many tests."""

from contextlib import ExitStack
from typing import Any, Callable, Dict, Hashable, Optional, Tuple, TypeVar

import pytest

from .guest import Guest
from .scene import Scene

T = TypeVar('T')


class Stage:
    """The story that is told in a guest now, and what was seen of it.

    What fails fails in the test that wanted it first; the others that need it
    are skipped, since one failure is one.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._story: Optional[Hashable] = None
        self._stack = ExitStack()
        self._seen: Dict[Hashable, Tuple[Any, Optional[BaseException]]] = {}

    def clear(self) -> None:
        """The story is over, and its actors are gone."""
        self._story = None
        self._seen = {}
        self._stack.close()

    def scene(self, story: Hashable, tell: Callable[[Scene], object]
              ) -> Scene:
        """The scene after that story; told unless it is the one that is on."""
        if self._story != story:
            self.clear()
            self._story = story
        return self.once('the story', lambda: self._tell(tell))

    def record(self, story: str, look: Callable[[], T]) -> T:
        """What is seen of a story that look tells by itself, from the first
        actor's start until all are gone."""
        if self._story != story:
            self.clear()
            self._story = story
        return self.once(story, look)

    def _tell(self, tell: Callable[[Scene], object]) -> Scene:
        scene = self._stack.enter_context(Scene(self.guest))
        tell(scene)
        return scene

    def once(self, what: str, look: Callable[[], T], *key: Hashable) -> T:
        """What a look at the scene shows, which is taken once."""
        if (what, key) not in self._seen:
            try:
                self._seen[what, key] = (look(), None)
            except Exception as error:
                self._seen[what, key] = (None, error)
                raise
        seen, failure = self._seen[what, key]
        if failure:
            pytest.skip(f'{what} failed already: {failure!s:.60}')
        value: T = seen
        return value
