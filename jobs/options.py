"""The command line's options: each declared once, with its help and its environment variable."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from batch.durations import seconds_in
from batch.input import Format
from batch.text import quoted


class LogFormat(StrEnum):
    """Forms of the log on standard error."""

    TEXT = "text"
    JSON = "json"


def _option(flags: str, text: str, **more: Any) -> Any:
    """Declare an option `--some-name` that `FPGA_BATCH_SOME_NAME` sets as well, unless it is empty."""
    names = flags.split()
    variable = "FPGA_BATCH_" + names[0].partition("/")[0].lstrip("-").upper().replace("-", "_")
    also = more.pop("also", None)
    return typer.Option(*names, envvar=[variable, also] if also else variable, help=text, **more)


def _duration_option(flags: str, text: str, *, least: float, most: float = inf) -> Any:
    """Declare an option that is a duration between two bounds, in seconds or with units."""

    def seconds(given: object) -> float:
        found = seconds_in(str(given))
        if found is None:
            raise typer.BadParameter(
                f"{quoted(str(given))} is no duration: write seconds, or 90s, 5m, 2h, 1h30m"
            )
        if found < least:
            raise typer.BadParameter(f"{quoted(str(given))}: must be greater than or equal to {least:g} s")
        if found > most:
            raise typer.BadParameter(f"{quoted(str(given))}: must be less than or equal to {most:g} s")
        return found

    return _option(flags, text, parser=seconds, metavar="S")


def _text_option(flags: str, text: str, **more: Any) -> Any:
    return _option(flags, text, parser=_text, **more)


def _path_option(flags: str, text: str, **more: Any) -> Any:
    return _option(flags, text, parser=_path, **more)


def _text(argument: str) -> str:
    """Return an argument that is not empty: an empty one mostly comes from a variable that is not set."""
    if not argument:
        raise typer.BadParameter("it is empty (is a variable not set?)")
    return argument


def _path(argument: str) -> Path:
    return Path(_text(argument))


Pairs = Annotated[
    str,
    typer.Argument(
        metavar="PAIRS",
        help="CSV, JSON or JSON Lines file of pairs; - for standard input.",
        parser=_text,
    ),
]
ReportArgument = Annotated[
    str, typer.Argument(metavar="REPORT", help="Outcome file of an earlier run.", parser=_text)
]

InputFormat = Annotated[
    Format | None, _option("--format", "Input format; by default by its name, else by its content.")
]
Report = Annotated[
    Path | None,
    _path_option(
        "--report", "Outcome file, .csv, .json or .jsonl; by default beside the input.", metavar="FILE"
    ),
]
Failures = Annotated[
    Path | None,
    _path_option(
        "--failures", "File for the rows that did not get through; removed if none.", metavar="FILE"
    ),
]
Endpoint = Annotated[
    str | None,
    _text_option("--endpoint", "Base URL of the ECS API; by default built from the region.", metavar="URL"),
]
Region = Annotated[str | None, _text_option("--region", "Region, as cn-north-1 or eu-de.", metavar="NAME")]
CloudDomain = Annotated[
    str | None,
    _text_option(
        "--cloud-domain",
        "Domain of the cloud, as otc.t-systems.com.  [default: myhuaweicloud.com]",
        metavar="NAME",
    ),
]
ProjectId = Annotated[str | None, _text_option("--project-id", "Project of the images.", metavar="ID")]
OsCloud = Annotated[
    str | None, _text_option("--os-cloud", "Entry of clouds.yaml that holds the credentials.", metavar="NAME")
]
CaFile = Annotated[
    Path | None,
    _path_option(
        "--ca-file",
        "PEM file of the authorities to trust in place of the system's.",
        metavar="FILE",
        also="OS_CACERT",
    ),
]
RateText = Annotated[
    str,
    _text_option(
        "--rate",
        "Requests of any kind at most, as 20/s, 600/min or 5000/h; or auto.",
        metavar="R",
        show_default=True,
    ),
]
MaxRateText = Annotated[
    str | None, _text_option("--max-rate", "The most that --rate auto may find.", metavar="R")
]
Concurrency = Annotated[
    int, _option("--concurrency", "Requests in flight at most.", metavar="N", min=1, max=10_000)
]
MaxAttempts = Annotated[
    int, _option("--max-attempts", "Attempts a request, the first included.", metavar="N", min=1)
]
Timeout = Annotated[
    float, _duration_option("--timeout", "Time a request may take, as 30, 90s or 5m.", least=0.1, most=3600)
]
Only = Annotated[
    str | None, _text_option("--only", "Send only rows with these reasons again.", metavar="REASON[,REASON]")
]
MaxFailures = Annotated[
    str | None,
    _text_option(
        "--max-failures", "Stop when so many rows, or per cent of them, have failed.", metavar="N|P%"
    ),
]
MaxOutage = Annotated[
    float, _duration_option("--max-outage", "Time for which the service may be down, as 300 or 5m.", least=0)
]
MaxDuration = Annotated[
    float | None,
    _duration_option("--max-duration", "Stop taking rows after this time, as 3600 or 2h.", least=0.1),
]
Strict = Annotated[bool, _option("--strict", "Refuse the whole file for one invalid row.")]
Overwrite = Annotated[
    bool, _option("--overwrite", "Let report and failures file replace files that are none of their own.")
]
ReadBack = Annotated[bool, _option("--read-back", "Undo also what was found done after an answer was lost.")]
Restart = Annotated[
    bool, _option("--restart", "Begin anew; what an interrupted run did is kept in a report.")
]
DryRun = Annotated[bool, _option("--dry-run", "Do everything but the sending.")]
Quiet = Annotated[bool, _option("--quiet -q", "Say nothing unless something went wrong.")]
Verbose = Annotated[
    int,
    _option("--verbose -v", "Log retries and pauses; twice: each request.", count=True, show_default=False),
]
LogFormatOption = Annotated[LogFormat, _option("--log-format", "Form of the log.")]
ShowProgress = Annotated[
    bool | None,
    _option("--progress/--no-progress", "Show progress; by default on a terminal.", show_default=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """What the command line says of where the service is and how it is reached."""

    endpoint: Endpoint = None
    region: Region = None
    cloud_domain: CloudDomain = None
    project_id: ProjectId = None
    os_cloud: OsCloud = None
    ca_file: CaFile = None
    timeout: Timeout = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOptions(PlaceOptions):
    """What the command line says of a login; the command's options are these fields."""

    verbose: Verbose = 0
    log_format: LogFormatOption = LogFormat.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(PlaceOptions):
    """What the command line says of a run; a command's options are these fields."""

    pairs: Pairs
    report: Report = None
    failures: Failures = None
    overwrite: Overwrite = False
    read_back: ReadBack = False
    format: InputFormat = None
    only: Only = None
    rate: RateText = "10/s"
    max_rate: MaxRateText = None
    concurrency: Concurrency = 32
    max_attempts: MaxAttempts = 6
    max_failures: MaxFailures = None
    max_outage: MaxOutage = 300.0
    max_duration: MaxDuration = None
    strict: Strict = False
    restart: Restart = False
    dry_run: DryRun = False
    quiet: Quiet = False
    verbose: Verbose = 0
    log_format: LogFormatOption = LogFormat.TEXT
    progress: ShowProgress = None


JsonOutput = Annotated[bool, _option("--json", "Print the summary as JSON.")]

Host = Annotated[str, _text_option("--host", "Address to listen on.", metavar="ADDRESS")]
Port = Annotated[
    int, _option("--port", "Port to listen on; 0 for any free one.", metavar="N", min=0, max=65535)
]
TlsAuthority = Annotated[
    Path | None,
    _path_option(
        "--tls", "Serve HTTPS only; the certificate that clients shall trust is put there.", metavar="CA_FILE"
    ),
]
CatalogueFile = Annotated[
    Path | None,
    _path_option(
        "--catalogue", "JSON file that declares images, others exist too, and accounts.", metavar="FILE"
    ),
]
StrictCatalogue = Annotated[bool, _option("--strict", "Only what the catalogue declares exists.")]
Seed = Annotated[int, _option("--seed", "Seed of the faults.", metavar="N")]
Latency = Annotated[float, _option("--latency", "Milliseconds that every answer takes.", min=0, metavar="MS")]
RateLimitText = Annotated[
    str | None,
    _text_option("--rate-limit", "Answer 429 above this rate, as 50/s or 600/min.", metavar="R"),
]
RetryAfter = Annotated[bool, _option("--retry-after", "Send Retry-After with a 429.")]
FaultTexts = Annotated[
    list[str] | None,
    _text_option("--fault", "A fault and its probability, as drop-after=0.05. Repeatable.", metavar="NAME=P"),
]
TokenLifetime = Annotated[
    float,
    _duration_option("--token-lifetime", "Time for which an issued token is good, as 600 or 24h.", least=0.1),
]
TokenUses = Annotated[
    int | None,
    _option(
        "--token-uses", "Calls that an issued token is good for; any number by default.", min=1, metavar="N"
    ),
]
