"""What a person sees while a run is under way: one line, redrawn twice a second."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from batch.engine import Engine
from batch.model import Status

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


async def _redraw(bar: Progress, task: TaskID, engine: Engine) -> None:
    while True:
        bar.update(task, completed=engine.outcomes.total(), note=_note(engine), refresh=True)
        await asyncio.sleep(_INTERVAL)


def _note(engine: Engine) -> str:
    if engine.stopped:
        return "stopping"
    lost = engine.outcomes[Status.FAILED] + engine.outcomes[Status.UNCONFIRMED]
    return f"{lost:,} failed" if lost else ""
