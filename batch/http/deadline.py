"""A time that everything of one kind has to be done in, kept with one timer for all."""

import asyncio
from types import TracebackType
from typing import Any


class Deadline:
    """Ends with `TimeoutError` what takes longer than so many seconds; a context manager for many tasks.

    All have the same time, so that who entered first is due first, and one timer will do: a timer for each
    that is set and hardly ever goes off costs several per cent of a small request.

    Attributes:
        seconds: that each one has.

    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Who is inside, the first one first: when it is due, and how often it was to be cancelled before.
        self._inside: dict[asyncio.Task[Any], tuple[float, int]] = {}
        self._ended: dict[asyncio.Task[Any], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        due = task.get_loop().time() + self.seconds
        self._inside[task] = due, task.cancelling()
        if self._timer is None:
            self._timer = task.get_loop().call_at(due, self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._inside.pop(task, None):
            return
        # Whoever else wants the task to end is not to be taken for this deadline.
        if task.uncancel() <= self._ended.pop(task) and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _end(self) -> None:
        """End those that are due, and come again for the first of the others."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._inside:
            task, (due, cancelling) = next(iter(self._inside.items()))
            if due > now:
                self._timer = loop.call_at(due, self._end)
                return
            del self._inside[task]
            self._ended[task] = cancelling
            task.cancel()
