"""One timer for many: each task has its own time, and ends as it would with a timer of its own."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run_virtually

from batch.http.deadline import Deadline

SECONDS = 10.0
Timer = Callable[[], AbstractContextManager[object] | AbstractAsyncContextManager[object]]


async def ending_of(work: asyncio.Task[float]) -> tuple[str, float]:
    """Return how a task ends, and when."""
    await asyncio.wait({work})
    how = "cancelled" if work.cancelled() else type(work.exception()).__name__
    return how, asyncio.get_running_loop().time()


async def within(timer: Timer, begins: float, lasts: float) -> None:
    await asyncio.sleep(begins)
    limit = timer()
    if isinstance(limit, AbstractContextManager):
        with limit:
            await asyncio.sleep(lasts)
    else:
        async with limit:
            await asyncio.sleep(lasts)


async def endings(timer: Timer, tasks: list[tuple[float, float, float | None]]) -> list[tuple[str, float]]:
    """Return how tasks end that begin, last and are cancelled by others at such times."""
    loop = asyncio.get_running_loop()
    works = []
    for begins, lasts, cancelled_at in tasks:
        work = loop.create_task(within(timer, begins, lasts))
        if cancelled_at is not None:
            loop.call_later(cancelled_at, work.cancel)
        works.append(work)
    return await asyncio.gather(*map(ending_of, works))


def test_what_takes_too_long_ends_with_a_timeout_when_its_time_is_over() -> None:
    async def scenario() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError), Deadline(SECONDS):
            await asyncio.sleep(SECONDS + 1)
        return asyncio.get_running_loop().time() - began

    assert run_virtually(scenario()) == pytest.approx(SECONDS)


def test_what_ends_in_time_is_left_alone_and_may_begin_again() -> None:
    async def scenario() -> None:
        deadline = Deadline(SECONDS)
        for _ in range(3):
            with deadline:
                await asyncio.sleep(SECONDS - 1)
        await asyncio.sleep(2 * SECONDS)

    run_virtually(scenario())


def test_an_error_of_the_work_itself_passes() -> None:
    async def scenario() -> None:
        with Deadline(SECONDS):
            raise KeyError

    with pytest.raises(KeyError):
        run_virtually(scenario())


def test_a_task_that_went_on_after_it_was_cancelled_still_has_its_time() -> None:
    async def stubborn() -> float:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            began = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError), Deadline(SECONDS):
                await asyncio.sleep(SECONDS + 1)
        return asyncio.get_running_loop().time() - began

    async def scenario() -> float:
        work = asyncio.create_task(stubborn())
        await asyncio.sleep(1)
        work.cancel()
        return await work

    assert run_virtually(scenario()) == pytest.approx(SECONDS)


def test_one_that_is_cancelled_and_out_of_time_at_once_is_cancelled() -> None:
    async def working() -> None:
        task = asyncio.current_task()
        assert task
        with Deadline(SECONDS):
            task.get_loop().call_later(SECONDS, task.cancel)
            await asyncio.sleep(SECONDS + 1)

    async def scenario() -> None:
        work = asyncio.create_task(working())
        await asyncio.wait({work})
        assert work.cancelled()
        assert work.cancelling() == 1

    run_virtually(scenario())


times = st.integers(0, 40).map(lambda halves: halves / 2 + 0.25)


@given(st.lists(st.tuples(times, times, st.none() | times.map(lambda time: time + 0.125)), max_size=8))
def test_every_task_ends_as_it_would_with_a_timer_of_its_own(
    tasks: list[tuple[float, float, float | None]],
) -> None:
    async def with_one_for_all() -> list[tuple[str, float]]:
        deadline = Deadline(SECONDS)
        return await endings(lambda: deadline, tasks)

    async def with_one_each() -> list[tuple[str, float]]:
        return await endings(lambda: asyncio.timeout(SECONDS), tasks)

    one_for_all, one_each = run_virtually(with_one_for_all()), run_virtually(with_one_each())
    assert [how for how, _ in one_for_all] == [how for how, _ in one_each]
    assert [when for _, when in one_for_all] == pytest.approx([when for _, when in one_each])
