"""What a person sees while a run is under way: one line, redrawn twice a second or told when asked for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from batch.engine.pool import Engine
from batch.model import Status
from batch.results.summary import counted, duration

_INTERVAL = 0.5


@contextmanager
def shown(engine: Engine, rows: int) -> Iterator[None]:
    """Show on standard error how far the engine is with its rows. For use inside the event loop."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,  # its own thread would contend with the loop for the interpreter
        transient=True,
    )
    with bar:
        task = bar.add_task("sending", total=rows, note="")
        redrawing = asyncio.get_running_loop().create_task(_redraw(bar, task, engine))
        try:
            yield
        finally:
            redrawing.cancel()


def status(engine: Engine, rows: int, seconds: float) -> str:
    """Say in one line how far the engine is after so many seconds with so many rows."""
    parts = [
        f"{engine.outcomes.total():,} of {counted(rows, 'row')}",
        counted(engine.attempts.sent, "request"),
        f"{engine.attempts.sent / seconds:.1f}/s" if seconds > 0 else "",
        f"throttled {counted(engine.attempts.throttled, 'time')}" if engine.attempts.throttled else "",
        _note(engine),
    ]
    return f"{', '.join(filter(None, parts))}, after {duration(seconds)}"


async def _redraw(bar: Progress, task: TaskID, engine: Engine) -> None:
    while True:
        bar.update(task, completed=engine.outcomes.total(), note=_note(engine), refresh=True)
        await asyncio.sleep(_INTERVAL)


def _note(engine: Engine) -> str:
    if engine.stopped:
        return "stopping"
    if engine.attempts.down:
        return "the service is down"
    found = engine.attempts.found_rate
    lost = engine.outcomes[Status.FAILED] + engine.outcomes[Status.UNCONFIRMED]
    parts = [f"rate {found:.3g}/s" if found else "", f"{lost:,} failed" if lost else ""]
    return ", ".join(filter(None, parts))
