"""The command line's options: each declared once, with its help and its environment variable."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from batch.source import Format


class LogFormat(StrEnum):
    """Forms of the log on standard error."""

    TEXT = "text"
    JSON = "json"


def _option(flags: str, text: str, **more: Any) -> Any:
    """Declare an option `--some-name` that `FPGA_BATCH_SOME_NAME` sets as well."""
    names = flags.split()
    variable = "FPGA_BATCH_" + names[0].partition("/")[0].lstrip("-").upper().replace("-", "_")
    also = more.pop("also", None)
    return typer.Option(*names, envvar=[variable, also] if also else variable, help=text, **more)


Pairs = Annotated[
    str, typer.Argument(metavar="PAIRS", help="CSV, JSON or JSON Lines file of pairs; - for standard input.")
]
ReportArgument = Annotated[str, typer.Argument(metavar="REPORT", help="Outcome file of an earlier run.")]

InputFormat = Annotated[
    Format | None, _option("--format", "Input format; by default by its name, else by its content.")
]
Report = Annotated[
    Path | None,
    _option("--report", "Outcome file, .csv, .json or .jsonl; by default beside the input.", metavar="FILE"),
]
Failures = Annotated[
    Path | None,
    _option("--failures", "File for the rows that did not get through; removed if none.", metavar="FILE"),
]
Endpoint = Annotated[
    str | None,
    _option("--endpoint", "Base URL of the ECS API; by default built from the region.", metavar="URL"),
]
Region = Annotated[str | None, _option("--region", "Region, as cn-north-1 or eu-de.", metavar="NAME")]
CloudDomain = Annotated[
    str | None,
    _option(
        "--cloud-domain",
        "Domain of the cloud, as otc.t-systems.com.  [default: myhuaweicloud.com]",
        metavar="NAME",
    ),
]
ProjectId = Annotated[str | None, _option("--project-id", "Project of the images.", metavar="ID")]
OsCloud = Annotated[
    str | None, _option("--os-cloud", "Entry of clouds.yaml that holds the credentials.", metavar="NAME")
]
CaFile = Annotated[
    Path | None,
    _option(
        "--ca-file",
        "PEM file of the authorities to trust in place of the system's.",
        metavar="FILE",
        also="OS_CACERT",
    ),
]
RateText = Annotated[
    str,
    _option(
        "--rate", "Requests of any kind, as 20/s, 600/min or 5000/h; or auto.", metavar="R", show_default=True
    ),
]
MaxRateText = Annotated[str | None, _option("--max-rate", "The most that --rate auto may find.", metavar="R")]
Concurrency = Annotated[
    int, _option("--concurrency", "Requests in flight at most.", metavar="N", min=1, max=10_000)
]
MaxAttempts = Annotated[
    int, _option("--max-attempts", "Attempts a request, the first included.", metavar="N", min=1)
]
Timeout = Annotated[
    float, _option("--timeout", "Seconds a request may take.", min=0.1, max=3600, metavar="S")
]
Only = Annotated[
    str | None, _option("--only", "Send only rows with these reasons again.", metavar="REASON[,REASON]")
]
MaxFailures = Annotated[
    str | None,
    _option("--max-failures", "Stop when so many rows, or per cent of them, have failed.", metavar="N|P%"),
]
MaxOutage = Annotated[
    float, _option("--max-outage", "Seconds for which the service may be down.", min=0, metavar="S")
]
MaxDuration = Annotated[
    float | None,
    _option("--max-duration", "Stop taking rows after so many seconds.", min=0.1, metavar="S"),
]
Strict = Annotated[bool, _option("--strict", "Refuse the whole file for one invalid row.")]
Restart = Annotated[bool, _option("--restart", "Discard an interrupted run instead of continuing it.")]
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

Host = Annotated[str, _option("--host", "Address to listen on.", metavar="ADDRESS")]
Port = Annotated[
    int, _option("--port", "Port to listen on; 0 for any free one.", metavar="N", min=0, max=65535)
]
TlsAuthority = Annotated[
    Path | None,
    _option(
        "--tls", "Serve HTTPS only; the certificate that clients shall trust is put there.", metavar="CA_FILE"
    ),
]
CatalogueFile = Annotated[
    Path | None,
    _option("--catalogue", "JSON file that declares images, others exist too, and accounts.", metavar="FILE"),
]
StrictCatalogue = Annotated[bool, _option("--strict", "Only what the catalogue declares exists.")]
Seed = Annotated[int, _option("--seed", "Seed of the faults.", metavar="N")]
Latency = Annotated[float, _option("--latency", "Milliseconds that every answer takes.", min=0, metavar="MS")]
RateLimitText = Annotated[
    str | None,
    _option("--rate-limit", "Answer 429 above this rate, as 50/s or 600/min.", metavar="R"),
]
RetryAfter = Annotated[bool, _option("--retry-after", "Send Retry-After with a 429.")]
FaultTexts = Annotated[
    list[str] | None,
    _option("--fault", "A fault and its probability, as drop-after=0.05. Repeatable.", metavar="NAME=P"),
]
TokenLifetime = Annotated[
    float, _option("--token-lifetime", "Seconds for which an issued token is good.", min=0.1, metavar="S")
]
TokenUses = Annotated[
    int | None,
    _option(
        "--token-uses", "Calls that an issued token is good for; any number by default.", min=1, metavar="N"
    ),
]
