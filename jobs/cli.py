"""The command line: every command and its options. The decisions are made elsewhere.

What a command needs beyond parsing is imported inside it: `--help` does not wait for aiohttp.
"""

# ruff: noqa: PLC0415

import os
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from json import dumps as to_json
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from batch.text import visible
from jobs import options as o
from jobs.misspelling import Command, Commands

app = typer.Typer(
    name="fpga-batch",
    cls=Commands,
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
    "resume": "Take up an earlier report: send again every row that did not get through.",
    "undo": "Take back exactly the associations that a report says its run has made.",
}
_NOT_TAKEN = {"resume": {"format", "read_back"}, "undo": {"format", "only"}}
_NOT_TAKEN_ELSE = {"only", "read_back"}
_TAKES_REPORT = ("resume", "undo")


def _run_command(name: str) -> Callable[..., None]:
    """Return the function of a command that sends; its parameters are the fields of the options it takes."""

    def command(context: typer.Context, **values: Any) -> None:
        from jobs.auth.credentials import find
        from jobs.commands.messages import next_command, tell
        from jobs.commands.run import STANDARD_INPUT, execute

        options = o.RunOptions(**values)
        end = execute(name, options, find(options.os_cloud))
        if end:
            repeated = ["fpga-batch", *sys.argv[1:]] if options.pairs != STANDARD_INPUT else []
            given = {each: values[each] for each in values if _is_given(context, each)}
            tell(end, quiet=options.quiet, command=next_command(end, repeated, given))
            raise typer.Exit(end.exit_code)

    changed = {"pairs": o.ReportArgument} if name in _TAKES_REPORT else {}
    _take_options(command, o.RunOptions, _NOT_TAKEN.get(name, _NOT_TAKEN_ELSE), changed)
    return command


def _take_options(
    command: Callable[..., None], options: type, left_out: Collection[str], changed: dict[str, Any]
) -> None:
    """Give a command's function the fields of its options for parameters."""
    hints = get_type_hints(options, include_extras=True) | changed
    taken = [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=_default(each), annotation=hints[each.name])
        for each in fields(options)
        if each.name not in left_out
    ]
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    command.__signature__ = Signature([context, *taken])  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in (context, *taken)}


def _default(each: Field[Any]) -> Any:
    return Parameter.empty if each.default is MISSING else each.default


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


for _name, _help in _RUNS.items():
    app.command(_name, help=_help, cls=Command)(_run_command(_name))


def _login(context: typer.Context, **values: Any) -> None:  # noqa: ARG001 - as all commands have it
    from jobs.commands.login import log_in

    _print(log_in(o.LoginOptions(**values)))


def _print(lines: Iterable[str]) -> None:
    """Write to standard output what was asked for, each line as one line whatever is in it."""
    for line in lines:
        typer.echo(visible(line))


_take_options(_login, o.LoginOptions, (), {})
app.command(
    "login", help="Prove the credentials: whose they are, for which project, and until when.", cls=Command
)(_login)


@app.command(cls=Command)
def check(pairs: o.Pairs, format: o.InputFormat = None) -> None:  # noqa: A002
    """Say offline everything that can be said about the file before sending."""
    from jobs.commands.check import inspect

    lines, exit_code = inspect(pairs, format)
    _print(lines)
    raise typer.Exit(exit_code)


@app.command(cls=Command)
def report(report: o.ReportArgument, json: o.JsonOutput = False) -> None:
    """Sum up the outcome file of a run, or say how far the run is that writes it."""
    from batch.results.journal import run_state
    from jobs.commands.check import summed

    run = run_state(Path(report))
    summary = run.summary if run else summed(report)
    if json:
        about = {"run": run.as_json()} if run else {}
        typer.echo(to_json(about | summary.as_json(), indent=2, ensure_ascii=False).encode())
    else:
        _print([*([run.as_text()] if run else []), *summary.as_text().splitlines()])


@app.command(cls=Command)
def sandbox(
    host: o.Host = "127.0.0.1",
    port: o.Port = 8088,
    tls: o.TlsAuthority = None,
    catalogue: o.CatalogueFile = None,
    strict: o.StrictCatalogue = False,
    seed: o.Seed = 0,
    latency: o.Latency = 0.0,
    rate_limit: o.RateLimitText = None,
    retry_after: o.RetryAfter = False,
    fault: o.FaultTexts = None,
    token_lifetime: o.TokenLifetime = 86400.0,
    token_uses: o.TokenUses = None,
) -> None:
    """Run a stand-in of the service on this machine, to rehearse a run against."""
    from jobs.commands.sandbox import serve_until_stopped

    serve_until_stopped(
        host=host,
        port=port,
        tls=tls,
        catalogue=catalogue,
        strict=strict,
        seed=seed,
        latency=latency / 1000,
        rate_limit=rate_limit,
        retry_after=retry_after,
        faults=fault or [],
        token_lifetime=token_lifetime,
        token_uses=token_uses,
    )


@app.command(cls=Command)
def demo() -> None:
    """Show a whole run: sandbox, sample file, faults, report. No account needed."""
    from jobs.commands.demo import demonstrate

    raise typer.Exit(demonstrate(Path("fpga-batch-demo")))


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"fpga-batch {installed('fpga-batch')}, Python {sys.version.split()[0]}")
        raise typer.Exit
    _read_variables(context)


def _read_variables(context: typer.Context) -> None:
    """Take the options' variables as they are meant, before a command reads them; warn of unknown ones."""
    import logging

    from jobs import log
    from jobs.auth.credentials import OWN_VARIABLES
    from jobs.variables import as_meant, warnings

    commands = context.command.commands.values()  # type: ignore[attr-defined]
    options = {name for command in commands for each in command.params for name in _variables_of(each)}
    os.environ.update(as_meant(os.environ, options))
    log.hold()
    for warning in warnings(os.environ, options | OWN_VARIABLES):
        logging.getLogger(__name__).warning("%s", warning)
    if context.invoked_subcommand not in (*_RUNS, "login"):  # they say themselves what is to be logged
        log.configure(0, o.LogFormat.TEXT, quiet=False)


def _variables_of(option: Any) -> Collection[str]:
    return [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
