"""What every command shares: options as frozen dataclasses, and errors as one line with an exit code."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import shlex
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

import typer

from . import INTERRUPTED

BAD_INPUT = 2

_OPTION_OF_ARGUMENT = {
    "correct_tilt=True": "--correct-tilt",
    "hu_offset=": "--hu-offset=",
    "series=": "--series=",
    'on_limit="warn"': "--ignore-limits",
    "kvp": "--kv",
    "aluminium_mm": "--filter-mm",
    "copper_mm": "--copper-mm",
    "photons_per_pixel": "--photons",
    "ratio is": "--grid is",
    "air_max_hu": "--air-max-hu",
    "bone_min_hu": "--bone-min-hu",
    "spacing_mm": "--phantom-spacing",
    "primary_angle_deg": "--primary",
    "secondary_angle_deg": "--secondary",
    "roll_deg": "--roll",
    "isocenter_ras_mm": "--isocenter",
    "source_to_detector_mm": "--source-detector-mm",
    "source_to_isocenter_mm": "--source-isocenter-mm",
    "pixel_pitch_mm": "--pixel-mm",
    "read_from": "--read-from",
    "read_segmentation": "--segmentation",
    "materials has": "--materials has",
    "another detector or other edges_kev": "another detector",
}
"""What the simulator's messages name, as it is written on the command line."""
_WORD = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_ITEM = rf"(?:-?\d+|{_WORD}): (?:{_WORD})"
_MATERIALS = re.compile(rf"materials=(\{{{_ITEM}(?:, {_ITEM})*\}})")
_PIXELS = re.compile(r"camera\.resampled\((\d+), (\d+)\)")


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
    handler.setFormatter(_AsTyped("%(levelname)s: %(message)s"))
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


class _AsTyped(logging.Formatter):
    """Log lines with options in place of the arguments that they name."""

    def format(self, record: logging.LogRecord) -> str:
        return _as_typed(super().format(record))


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
    return _as_typed(" ".join(str(error).split()) or type(error).__name__)


def _as_typed(text: str) -> str:
    """A message with options in place of the arguments that it names."""
    text = _MATERIALS.sub(lambda found: f"--materials {_pairs(found[1])}", text)
    text = _PIXELS.sub(r"--size \1x\2", text)
    return _arguments().sub(lambda found: _OPTION_OF_ARGUMENT[found[0]], text)


@cache
def _arguments() -> re.Pattern[str]:
    """All arguments; names as words of their own, and not as parts of paths."""
    word = r"(?<![\w/\\.-]){}(?![\w/\\-]|\.\w)"
    return re.compile("|".join(word.format(a) if a.isidentifier() else re.escape(a) for a in _OPTION_OF_ARGUMENT))


def _pairs(materials: str) -> str:
    """A dict as the command line has it: "{1: 'bone', 2: 'skin'}" becomes "1=bone,2=skin"."""
    return shlex.quote(",".join(f"{key}={name}" for key, name in ast.literal_eval(materials).items()))
