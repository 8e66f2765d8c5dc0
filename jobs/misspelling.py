"""The command line's answer to a command or an option that there is not: the likely one."""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from batch.text import visible
from jobs.advice import on_command, on_option

_UsageError: Any = typer.BadParameter.__base__


class Command(TyperCommand):
    """A command that answers an unknown option with the likely one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        try:
            return super().parse_args(ctx, args)
        except _UsageError as error:
            error.message = visible(error.message)
            if hasattr(error, "possibilities"):  # only an unknown option has them
                known = [name for each in self.params for name in (*each.opts, *each.secondary_opts)]
                _advise(error, on_option(error.option_name, known))
            raise


class Commands(TyperGroup):
    """The commands; an unknown one is answered with the likely one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is meant."""
        try:
            return super().resolve_command(ctx, args)
        except _UsageError as error:
            error.message = visible(error.message)
            _advise(error, on_command(args[0], self.commands))
            raise


def _advise(error: Any, advice: str) -> None:
    """Put advice in the place of what the library would say."""
    problem = error.message.partition(". Did you mean")[0].rstrip(".")
    error.possibilities = None
    error.message = f"{problem}. {advice}".rstrip()
