"""Signals inside an event loop, which would keep what a handler raises in one of its callbacks to itself."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jobs.commands import signals

T = TypeVar("T")


def awaited() -> asyncio.Event:
    """Return an event that the next signal sets. For use inside the event loop."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    # One that follows may come when the loop is closed.
    signals.install(lambda _number: loop.is_closed() or loop.call_soon_threadsafe(came.set))
    return came


def leave_threads_behind() -> None:
    """Let the running loop end without its threads: looking up a name may take half a minute, unstoppably."""
    asyncio.get_running_loop().set_default_executor(_Unawaited())


class _Unawaited(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=cancel_futures)


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. A signal cancels it.

    Raises:
        InterruptedRunError: a signal came.

    """
    leave_threads_behind()
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    numbers: list[int] = []

    def receive(number: int) -> None:
        numbers.append(number)
        loop.call_soon_threadsafe(task.cancel)

    signals.install(receive)
    await asyncio.wait({task})
    signals.heed()
    if numbers:
        if not task.cancelled():
            task.exception()  # the signal outranks it
        raise signals.interruption(numbers[0])
    return task.result()
