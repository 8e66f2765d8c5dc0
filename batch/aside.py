"""Rows set aside: due again, waiting for their time, or held until it is known whether a service is down."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from batch.task import End, Task


class Aside:
    """Rows between two attempts; they hold neither worker nor permit.

    Args:
        on_due: called when rows are due again.

    Attributes:
        due: those that may go on at once.

    """

    def __init__(self, on_due: Callable[[], None]) -> None:
        self.due: deque[Task] = deque()
        self._on_due = on_due
        self._waiting: dict[Task, asyncio.TimerHandle] = {}
        self._held: set[Task] = set()

    def __len__(self) -> int:
        return len(self.due) + len(self._waiting) + len(self._held)

    def first_due(self, put_off: Callable[[Task], bool]) -> Task | None:
        """Take the first row that may go on at once and is not put off; None if there is none."""
        for place, task in enumerate(self.due):
            if not put_off(task):
                del self.due[place]
                return task
        return None

    def wait(self, task: Task, seconds: float) -> None:
        """Set a row aside for so many seconds."""
        if seconds > 0:
            self._waiting[task] = asyncio.get_running_loop().call_later(seconds, self._release, task)
        else:
            self._release(task)

    def hold(self, task: Task, end: End) -> None:
        """Set a row aside whose attempts are used up, until `judged` tells whether the last one counts."""
        task.held = end
        self._held.add(task)

    def judged(self, scope: str, down: bool) -> None:
        """Let rows go on when the service of their scope turns out to be down, or not to be.

        If it is, the attempts that are held do not count, and whoever only waits is due at once: one of them
        asks whether the service is up again, and all go on when it is.
        """
        for task in [each for each in self._held if each.request.scope == scope]:
            if down:
                task.held = None
                task.attempts -= 1
            self._release(task)
        if down:
            for task in [each for each in self._waiting if each.request.scope == scope]:
                self._release(task)

    def release_doubtful(self) -> None:
        """Let those rows go on whose effect is not known."""
        for task in [each for each in (*self._waiting, *self._held) if each.in_doubt]:
            self._release(task)

    def clear(self) -> Iterator[Task]:
        """Give up all rows."""
        for timer in self._waiting.values():
            timer.cancel()
        yield from (*self.due, *self._waiting, *self._held)

    def _release(self, task: Task) -> None:
        if timer := self._waiting.pop(task, None):
            timer.cancel()
        self._held.discard(task)
        self.due.append(task)
        self._on_due()
