"""`glossator`: reads the command line, calls a command, and says in a line what went wrong.

Exit codes: 0 done; 1 some features failed, or a bug; 2 usage or configuration; 3 the provider
refused; 4 the budget is spent; 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer

from glossator.cli.ask import ask_command
from glossator.cli.bench import bench_app
from glossator.cli.chat import chat_command
from glossator.cli.compare import compare_command
from glossator.cli.direction import direction_app
from glossator.cli.doctor import doctor_command
from glossator.cli.export import export_command
from glossator.cli.investigate import investigate_command
from glossator.cli.list import list_command
from glossator.cli.report import report_command
from glossator.cli.review import review_command
from glossator.cli.run import collect_command, explain_command, run_command, score_command
from glossator.cli.sae import sae_app
from glossator.cli.session import make_session
from glossator.cli.show import show_command
from glossator.cli.streams import outlive_readers
from glossator.cli.text import visible
from glossator.errors import ConfigError, GlossatorError

INTERRUPTED = 130

app = typer.Typer(
    name="glossator",
    help="Explains the neurons of language models in words, and finds out whether they are true.",
    epilog="Results go to stdout, all else to stderr. The options above are understood behind a "
    "command too. `glossator COMMAND --help` shows a command's own.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    add_completion=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run_command)
app.command("collect")(collect_command)
app.command("explain")(explain_command)
app.command("score")(score_command)
app.command("investigate")(investigate_command)
app.command("chat")(chat_command)
app.command("ask")(ask_command)
app.command("list")(list_command)
app.command("show")(show_command)
app.command("compare")(compare_command)
app.command("export")(export_command)
app.command("report")(report_command)
app.command("review")(review_command)
app.command("doctor")(doctor_command)
app.add_typer(sae_app, name="sae")
app.add_typer(direction_app, name="direction")
app.add_typer(bench_app, name="bench")

_FLAGS = ("--json", "--quiet", "-q", "--verbose", "-v")
_VALUED = ("--store", "--config", "--seed")


@app.callback()
def _global(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Option(help="Where results are kept (default: sqlite:///glossator.db).")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="YAML file with any of the options; flags win over it.")
    ] = None,
    as_json: Annotated[
        bool | None, typer.Option("--json", help="One JSON document on stdout.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn (default: 0).")] = None,
    quiet: Annotated[
        bool | None, typer.Option("--quiet", "-q", help="No progress and no hints.")
    ] = None,
    verbose: Annotated[
        bool | None, typer.Option("--verbose", "-v", help="Logs, and tracebacks of errors.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"glossator {_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
    flags: dict[str, Any] = {
        "store": store,
        "config": config,
        "json": as_json,
        "seed": seed,
        "quiet": quiet,
        "verbose": verbose,
    }
    context.obj = make_session(flags)
    _settle_logs(context.obj.verbose)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("glossator")
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def main() -> NoReturn:
    """The console script: does what `sys.argv` says and ends the process."""
    arguments = sys.argv[1:]
    verbose = bool({"-v", "--verbose"} & set(arguments))
    outlive_readers()
    if threading.current_thread() is threading.main_thread():
        # `kill` ends a command as Ctrl-C does; `interrupts` takes over while a run works.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not verbose:
        sys.excepthook = _one_line
    code = call(arguments)
    sys.stdout.flush()
    sys.exit(code)


def call(arguments: Sequence[str]) -> int:
    """Does what `arguments` say, and gives the exit code. A bug comes out as it is."""
    verbose = bool({"-v", "--verbose"} & set(arguments))
    try:
        command = typer.main.get_command(app)
        result = command.main(hoisted(arguments), prog_name="glossator", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "glossator")
        _complain(error.format_message(), f"Try '{where} --help'.")
        return 2
    except GlossatorError as error:
        if verbose:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_code
    except BaseExceptionGroup as group:
        cause = only_cause(group)
        if cause is None:
            raise
        if verbose:
            traceback.print_exc()
        _complain(str(cause))
        return cause.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def hoisted(arguments: Sequence[str]) -> list[str]:
    """`arguments` with the global options first, wherever they stood.

    Raises:
        ConfigError: if the last one lacks its value.
    """
    first: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest += [argument, *waiting]
        elif argument in _VALUED:
            value = next(waiting, None)
            if value is None:
                raise ConfigError(f"{argument} needs a value")
            first += [argument, value]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def only_cause(group: BaseExceptionGroup[BaseException]) -> GlossatorError | None:
    """The error to tell of where all in `group` are our own; None if one of them is a bug."""
    ours, others = group.split(GlossatorError)
    found: BaseException | None = ours
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if others is None and isinstance(found, GlossatorError) else None


def _complain(*lines: str) -> None:
    message, *more = lines
    print(f"glossator: {visible(message, lines=True)}", *more, sep="\n", file=sys.stderr)


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Stands for `sys.excepthook`, so that a bug is one line, and Python's exit code stays 1."""
    text = str(error).strip().splitlines()
    said = f"{kind.__name__}: {text[0][:300]}" if text else kind.__name__
    _complain(f"{said}\nThis is a bug, or the machine failed; run it again with -v to see where.")


def _settle_logs(verbose: bool) -> None:
    """Logs of libraries go to stderr with -v, and nowhere without."""
    if verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        return
    # Without any handler Python itself prints warnings to stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    # Read by transformers when it is imported: it has a handler and progress bars of its own.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
