"""The command line: every command and its options. The decisions are made elsewhere.

What a command needs beyond parsing is imported inside it: `--help` does not wait for aiohttp.
"""

# ruff: noqa: PLC0415

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import orjson
import typer

from jobs import options as o

app = typer.Typer(
    name="fpga-batch",
    help="Associate FPGA images with ECS images in bulk, on Huawei Cloud and Open Telekom Cloud.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUNS = {
    "associate": "Associate every pair in the file.",
    "disassociate": "Remove the association of every pair in the file.",
    "verify": "Read-only: is each pair in the file associated?",
}


def _run_command(name: str) -> Callable[..., None]:
    def command(
        pairs: o.Pairs,
        report: o.Report = None,
        failures: o.Failures = None,
        format: o.InputFormat = None,  # noqa: A002 - the option's name
        endpoint: o.Endpoint = None,
        region: o.Region = None,
        cloud_domain: o.CloudDomain = None,
        project_id: o.ProjectId = None,
        rate: o.RateText = "10/s",
        concurrency: o.Concurrency = 32,
        max_attempts: o.MaxAttempts = 6,
        timeout: o.Timeout = 30.0,
        strict: o.Strict = False,
        restart: o.Restart = False,
        dry_run: o.DryRun = False,
        quiet: o.Quiet = False,
        verbose: o.Verbose = 0,
        log_format: o.LogFormatOption = o.LogFormat.TEXT,
        progress: o.ShowProgress = None,
    ) -> None:
        from jobs import credentials
        from jobs.association import JOBS
        from jobs.session import Options, execute, tell

        options = Options(
            pairs=pairs,
            report=report,
            failures=failures,
            format=format,
            endpoint=endpoint,
            region=region,
            cloud_domain=cloud_domain,
            project_id=project_id,
            rate=rate,
            concurrency=concurrency,
            max_attempts=max_attempts,
            timeout=timeout,
            strict=strict,
            restart=restart,
            dry_run=dry_run,
            quiet=quiet,
            verbose=verbose,
            log_format=log_format,
            progress=progress,
        )
        end = execute(JOBS[name], options, credentials.from_environment())
        if end:
            again = ["fpga-batch", *sys.argv[1:]] if pairs != "-" else []
            tell(end, quiet=quiet, command=again)
            raise typer.Exit(end.exit_code)

    return command


for _name, _help in _RUNS.items():
    app.command(_name, help=_help)(_run_command(_name))


@app.command()
def check(pairs: o.Pairs, format: o.InputFormat = None) -> None:  # noqa: A002
    """Say offline everything that can be said about the file before sending."""
    from jobs.inspection import inspect

    text, exit_code = inspect(pairs, format)
    typer.echo(text)
    raise typer.Exit(exit_code)


@app.command()
def report(report: o.ReportArgument, json: o.JsonOutput = False) -> None:
    """Sum up the outcome file of a run."""
    from batch.report import read_summary

    summary = read_summary(report)
    typer.echo(orjson.dumps(summary.as_json(), option=orjson.OPT_INDENT_2) if json else summary.as_text())


@app.command()
def sandbox(
    host: o.Host = "127.0.0.1",
    port: o.Port = 8088,
    catalogue: o.CatalogueFile = None,
    strict: o.StrictCatalogue = False,
    seed: o.Seed = 0,
    latency: o.Latency = 0.0,
    rate_limit: o.RateLimitText = None,
    retry_after: o.RetryAfter = False,
    fault: o.FaultTexts = None,
) -> None:
    """Run a stand-in of the service on this machine, to rehearse a run against."""
    from jobs.rehearsal import serve_until_stopped

    serve_until_stopped(
        host=host,
        port=port,
        catalogue=catalogue,
        strict=strict,
        seed=seed,
        latency=latency / 1000,
        rate_limit=rate_limit,
        retry_after=retry_after,
        faults=fault or [],
    )


@app.command()
def demo() -> None:
    """Show a whole run: sandbox, sample file, faults, report. No account needed."""
    from jobs.demo import demonstrate

    demonstrate(Path("fpga-batch-demo"))


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"fpga-batch {installed('fpga-batch')}, Python {sys.version.split()[0]}")
        raise typer.Exit
