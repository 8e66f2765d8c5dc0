"""Rows set aside: due again, waiting for their time or for their scope, or held until a service is judged."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from batch.engine.attempts import Attempts
from batch.engine.task import End, Task

MOST_WAITING = 3_000
"""Rows set aside at once; past it no new row is taken, so that memory does not grow in an outage.

Enough for others to be served at the usual 10/s while one service is down for the usual five minutes.
"""


class Queues:
    """Rows that wait for a worker, a queue for each scope."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[Task]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values())) if self._rows else 0

    def add(self, task: Task) -> None:
        """Put a row behind the others of its scope."""
        self._rows.setdefault(task.request.scope, deque()).append(task)

    def first(self, put_off: Callable[[str], bool]) -> Task | None:
        """Take the first row of a scope that is not put off, of each scope in turn; None if there is none."""
        for scope, tasks in self._rows.items():
            if not put_off(scope):
                task = tasks.popleft()
                del self._rows[scope]
                if tasks:
                    self._rows[scope] = tasks
                return task
        return None

    def clear(self) -> Iterator[Task]:
        """Give up all rows."""
        for tasks in self._rows.values():
            yield from tasks
        self._rows = {}


class Aside:
    """Rows that hold neither worker nor permit: between two attempts, or while their scope is closed.

    Args:
        on_due: called when rows may be due again.

    Attributes:
        due: those that may go on as soon as their scope is open.
        fresh: those of closed scopes of which nothing has been sent.
        in_question: those whose answer had nothing of the service in it, each with that answer, until it is
            known whether the service is there.

    """

    def __init__(self, on_due: Callable[[], None]) -> None:
        self.due = Queues()
        self.fresh = Queues()
        self._on_due = on_due
        self._waiting: dict[Task, asyncio.TimerHandle] = {}
        self._held: set[Task] = set()
        self.in_question: dict[Task, End] = {}

    def __len__(self) -> int:
        return len(self.due) + len(self.fresh) + len(self._waiting) + len(self._held) + len(self.in_question)

    def next(self, attempts: Attempts, new: Callable[[], Task | None]) -> Task | None:
        """Take the row to go on with: one that is due again, else a new one; None if there is none now.

        Each scope is to be kept busy: whatever waits in one, a row of another that is idle goes first.
        """
        due, fresh = self.due, self.fresh
        is_busy, is_shut, suspects = attempts.is_busy, attempts.is_shut, attempts.suspects
        if due and (task := due.first(lambda scope: is_busy(scope) or suspects(scope))):
            return task
        if fresh and (task := fresh.first(is_busy)):
            return task
        # While its service may be going down, new ones go first: no row spends its attempts on that. And so
        # while rows are throttled again: they may be the only ones, and must not keep the others from asking.
        if due and (task := due.first(lambda scope: is_shut(scope) or suspects(scope))):
            return task
        if len(self) < MOST_WAITING and (task := new()):
            return task
        return fresh.first(is_shut) or due.first(is_shut)

    def wait(self, task: Task, seconds: float) -> None:
        """Set a row aside for so many seconds."""
        if seconds > 0:
            self._waiting[task] = asyncio.get_running_loop().call_later(seconds, self._release, task)
        else:
            self._release(task)

    def park(self, task: Task) -> None:
        """Set a row aside until its scope is open."""
        (self.due if task.sent else self.fresh).add(task)

    def opened(self) -> None:
        """Let rows be looked for whose scope is open now."""
        if self.due or self.fresh:
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

    def found(self) -> Iterator[tuple[Task, End]]:
        """Let rows in question go on, as the service is there; yield each with its answer."""
        for task, end in self.in_question.items():
            yield task, end
            self._release(task)
        self.in_question = {}

    def keep_doubtful(self) -> Iterator[Task]:
        """Let rows go on whose effect is not known, as soon as their scope is open; give up the others."""
        for task in (*self._waiting, *self._held):
            self._release(task)
        for task in list(self.due.clear()):
            if task.in_doubt:
                self.due.add(task)
            else:
                yield task
        yield from self.fresh.clear()
        yield from self.in_question
        self.in_question = {}

    def clear(self) -> Iterator[Task]:
        """Give up all rows."""
        for timer in self._waiting.values():
            timer.cancel()
        yield from (*self.due.clear(), *self.fresh.clear(), *self._waiting, *self._held)

    def _release(self, task: Task) -> None:
        if timer := self._waiting.pop(task, None):
            timer.cancel()
        self._held.discard(task)
        self.due.add(task)
        self._on_due()
