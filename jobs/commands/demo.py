"""The command `demo`: a whole run against a sandbox in the same process, on a sample of every case."""

import asyncio
import csv
import io
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.errors import ConfigurationError, OutputError
from batch.folder import Folder
from jobs.association import IMAGE_LIMIT
from jobs.auth.credentials import Found, Token
from jobs.commands.messages import tell
from jobs.commands.run import execute
from jobs.commands.streams import say
from jobs.options import RunOptions
from jobs.sandbox import Accounts, Catalogue, Faults, FpgaImage, Sandbox, serve

_PROJECT = "0123456789abcdef0123456789abcdef"
_SEED = 4
_RATE = "50/s"
_FAULTS = Faults(
    latency=0.01, error_before=0.03, error_after=0.05, bad_gateway=0.03, drop_before=0.03, drop_after=0.05
)
_GOOD = 30
_SHARED, _FULL = 900, 901
_UNOWNED, _UNKNOWN = 800, 801


def demonstrate(folder: Path) -> int:
    """Write a sample file, run it against a sandbox, and say what came of it; return the exit code.

    Raises:
        OutputError: the folder cannot be written.
        ConfigurationError: it is somebody else's, or the sandbox cannot listen.

    """
    pairs = folder / "pairs.csv"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)  # nobody else's to write, whatever the umask
        opened = Folder(folder)
        # Others who may write to it could have put there what the demo would overwrite.
        if reason := opened.distrust:
            raise ConfigurationError(f"{folder}: {reason}: remove it, or run the demo in another folder")
        opened.write(pairs.name, _sample().encode(), 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    with _sandbox() as url:
        say(
            f"a sandbox is at {url}; what runs now is",
            f"  fpga-batch associate {pairs} --endpoint {url} --project-id {_PROJECT} --rate {_RATE}",
            "",
        )
        options = RunOptions(pairs=str(pairs), endpoint=url, project_id=_PROJECT, rate=_RATE, restart=True)
        end = execute("associate", options, Found("the demo", Token("demo")))
    assert end is not None
    assert end.report is not None
    say("from the report:")
    with end.report.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["reason"]:
                say("  {row:>2} {outcome}, {reason}: {error_message}".format(**row).removesuffix(": "))
    say("", f"sample: {pairs}")
    tell(end, quiet=False, command=())
    return end.stopped.exit_code if end.stopped else 0


@contextmanager
def _sandbox() -> Iterator[str]:
    """Run a sandbox in a thread of its own, as the run has an event loop of its own."""
    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event] | Exception] = queue.Queue()

    async def serving() -> None:
        stopped = asyncio.Event()
        async with serve(Sandbox(_catalogue(), strict=True, faults=_FAULTS, seed=_SEED)) as url:
            ready.put((url, asyncio.get_running_loop(), stopped))
            await stopped.wait()

    def run() -> None:
        try:
            asyncio.run(serving())
        except Exception as error:  # noqa: BLE001 - it is raised where the sandbox is waited for
            ready.put(error)

    # A signal before it is ready leaves it behind, so the process must not wait for it.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started = ready.get()
    if isinstance(started, Exception):
        raise ConfigurationError(f"the sandbox cannot be started: {started}")
    url, loop, stopped = started
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


def _catalogue() -> Catalogue:
    fpga_images = {_fpga(n): FpgaImage(_fpga(n)) for n in range(_GOOD + IMAGE_LIMIT + 1)}
    fpga_images[_fpga(_UNOWNED)] = FpgaImage(_fpga(_UNOWNED), owner="f" * 32)
    images = {_image(n): "private" for n in (*range(_GOOD), _FULL)}
    images[_image(_SHARED)] = "shared"
    return Catalogue(images, fpga_images, Accounts(tokens={"demo": _PROJECT}))


def _sample() -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("fpga_image_id", "image_id", "note"), *_sample_rows()])
    return text.getvalue()


def _sample_rows() -> list[tuple[str, str, str]]:
    rows = [(_fpga(n), _image(n), "fine") for n in range(_GOOD)]
    rows[4:4] = [
        (_fpga(3), _image(3), "the same pair again"),
        (_fpga(5)[:-1], _image(5), "one digit is missing"),
        (_fpga(6), "", "no ECS image"),
    ]
    rows += [(_fpga(_GOOD + n), _image(_FULL), "one image takes ten") for n in range(IMAGE_LIMIT + 1)]
    rows += [
        (_fpga(0), _image(_SHARED), "a shared image"),
        (_fpga(_UNOWNED), _image(1), "somebody else's FPGA image"),
        (_fpga(_UNKNOWN), _image(2), "an FPGA image that does not exist"),
    ]
    return rows


def _fpga(number: int) -> str:
    return f"{0xF96A << 112 | number:032x}"


def _image(number: int) -> str:
    return f"ec500000-0000-4000-8000-{number:012x}"
