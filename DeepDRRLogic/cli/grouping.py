"""What every command shares: options as frozen dataclasses, and errors as one line with an exit code."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import typer

from . import INTERRUPTED

BAD_INPUT = 2

_OPTION_OF_ARGUMENT = {
    "correct_tilt=True": "--correct-tilt",
    "hu_offset=": "--hu-offset=",
    "series=": "--series=",
    'on_limit="warn"': "--ignore-limits",
}
"""What the simulator's messages recommend, as it is written on the command line."""


def add_command(app: typer.Typer, function: Callable[..., None], *, examples: str = "") -> None:
    """Register a function as a command of `app`; each of its parameters is a dataclass full of options.

    The command line shows the fields of all of them side by side, and the function receives them grouped:
    that is how `render` and `sweep` share forty options without repeating them. ValueError, OSError and
    MemoryError become one line on stderr and exit code 2; Ctrl-C becomes 130. `examples` are command lines,
    one a line.
    """
    groups = get_type_hints(function)
    groups.pop("return", None)

    def run(**values: Any) -> None:
        grouped = {
            name: group(**{field.name: values[field.name] for field in fields(group)}) for name, group in groups.items()
        }
        with_exit_codes(lambda: function(**grouped))

    parameters = [parameter for group in groups.values() for parameter in _parameters(group)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    epilog = "\n\n".join(["[bold]Examples[/bold]", *examples.strip().splitlines()]) if examples else None
    app.command(name=function.__name__, help=function.__doc__, epilog=epilog)(run)


def with_exit_codes(work: Callable[[], None]) -> None:
    """Do `work` with warnings on stderr, and turn what went wrong into a line and an exit code."""
    logger = logging.getLogger("DeepDRRLogic")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    try:
        work()
    except BrokenPipeError:
        raise  # `deepdrr presets | head`: the reader has had enough, which is no error
    except (ValueError, OSError, MemoryError) as error:
        typer.echo(f"Error: {_one_line(error)}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        logger.removeHandler(handler)


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    for argument, option in _OPTION_OF_ARGUMENT.items():
        text = text.replace(argument, option)
    return text
