"""Rows set aside: due again, waiting for their time or for their scope, or held until a service is judged."""

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
        self._parked: dict[str, deque[Task]] = {}

    def __len__(self) -> int:
        count = len(self.due) + len(self._waiting) + len(self._held)
        return count + sum(map(len, self._parked.values())) if self._parked else count

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

    def park(self, task: Task) -> None:
        """Set a row aside until its scope is open."""
        self._parked.setdefault(task.request.scope, deque()).append(task)

    def first_parked(self, put_off: Callable[[str], bool]) -> Task | None:
        """Take the first row of a scope that is not put off; None if there is none."""
        for scope, tasks in self._parked.items():
            if not put_off(scope):
                task = tasks.popleft()
                if not tasks:
                    del self._parked[scope]
                return task
        return None

    def opened(self) -> None:
        """Let rows be looked for whose scope is open now."""
        if self._parked:
            self._on_due()

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
        """Let those rows go on whose effect is not known, and those that wait for their scope with them."""
        for task in [each for each in (*self._waiting, *self._held) if each.in_doubt]:
            self._release(task)
        for tasks in self._parked.values():
            self.due.extend(tasks)
        self._parked.clear()

    def clear(self) -> Iterator[Task]:
        """Give up all rows."""
        for timer in self._waiting.values():
            timer.cancel()
        yield from (*self.due, *self._waiting, *self._held)
        for tasks in self._parked.values():
            yield from tasks

    def _release(self, task: Task) -> None:
        if timer := self._waiting.pop(task, None):
            timer.cancel()
        self._held.discard(task)
        self.due.append(task)
        self._on_due()
