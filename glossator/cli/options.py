"""The options of `run`, `collect`, `explain` and `score`, in one table.

An option that decides or limits a run is listed here once; its default is that of the field it
fills, and a config file may hold it under the same name.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from glossator.config import RunConfig, RunLimits, named_options
from glossator.errors import ConfigError
from glossator.registry import nearest

GLOBAL = ("store", "config", "json", "seed", "quiet", "verbose")
"""Options that stand before a command, and are understood behind it too."""

_WHAT, _HOW, _READ, _WORK = "What", "How", "Reading the text", "Limits and machines"


@dataclass(frozen=True, slots=True)
class RunOption:
    """One option of the commands that work on a run."""

    name: str
    """As in `RunConfig` or `RunLimits`, or of this command line alone."""
    kind: Any
    """Type of its value on the command line."""
    help: str
    panel: str
    flag: str = ""
    """What is typed, if it is not the name."""

    @property
    def typed(self) -> str:
        """The option as it is typed."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def parameter(self) -> inspect.Parameter:
        """The option as a parameter of a command."""
        default = _DEFAULTS.get(self.name)
        shown = ", ".join(default) if isinstance(default, tuple) else default
        said = self.help if shown in (None, "", False) else f"{self.help} (default: {shown})"
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                self.kind | None,
                typer.Option(self.typed, help=said, rich_help_panel=self.panel, show_default=False),
            ],
        )


_DEFAULTS: dict[str, Any] = {
    field.name: field.default
    for options in (RunConfig, RunLimits)
    for field in dataclasses.fields(options)
}

RUN_OPTIONS = (
    RunOption("model", str, "Subject: a bundled name, hub id, folder or gguf:PATH.", _WHAT),
    RunOption("sites", list[str], "Where to read; repeatable.", _WHAT, "--site"),
    RunOption(
        "sae",
        str,
        "A coder there: default (bundled), a folder, a hub id, sae_lens:RELEASE/ID, "
        "direction:NAME.",
        _WHAT,
    ),
    RunOption(
        "features", str, "0-99, or 3,7,9- (minus: negative tail), sample:200, all, a file.", _WHAT
    ),
    RunOption(
        "control", str, "random-weights: the same on a subject that has learned nothing.", _WHAT
    ),
    RunOption("corpus", str, "Text: default, a file or folder, hf:NAME.", _WHAT),
    RunOption("tokens", str, "How many tokens to run, such as 2M.", _WHAT),
    RunOption("explainers", list[str], "Who explains; repeatable.", _HOW, "--explainer"),
    RunOption("scorers", list[str], "How to score; repeatable.", _HOW, "--scorer"),
    RunOption("simulator", str, "Who predicts activations from an explanation.", _HOW),
    RunOption(
        "llm",
        str,
        "local, local:small, openai:MODEL, openai-responses:MODEL, anthropic:MODEL, hf:ID, "
        "gguf:PATH or package.module:name.",
        _HOW,
    ),
    RunOption("scorer_llm", str, "The same, for simulating and judging (default: as --llm).", _HOW),
    RunOption("base_url", str, "Server of the provider's protocol.", _HOW),
    RunOption("scorer_base_url", str, "The same, for --scorer-llm.", _HOW),
    RunOption("n_shown", int, "Train examples shown to an explainer.", _HOW),
    RunOption("draft", str, "The explainer that revise and best-of start from.", _HOW),
    RunOption(
        "triage",
        bool,
        "Ask a language model only where an explainer that asks none fails on dev.",
        _HOW,
        "--triage/--no-triage",
    ),
    RunOption("most_experiments", int, "Experiments of the agent on a feature, at most.", _HOW),
    RunOption("confidence", float, "How sure the agent must be.", _HOW),
    RunOption("most_seconds", float, "The agent's time for a feature, at most.", _HOW),
    RunOption("n_scored", int, "Test examples a scorer reads, at most.", _HOW),
    RunOption("precision", float, "Stop, after 40 of them, when the interval is ± this.", _HOW),
    RunOption(
        "per_call", int, "Windows judged in one request (default: 12; a local model: 1).", _HOW
    ),
    RunOption(
        "n_hard",
        int,
        "Silent test windows that look like firing ones, of each kind, for detection.",
        _HOW,
    ),
    RunOption("n_shuffled", int, "Wrong explanations scored for the null.", _HOW),
    RunOption("ctx", int, "Tokens the subject reads at a time.", _READ),
    RunOption("window", int, "Tokens in an example.", _READ),
    RunOption("calibration_tokens", str, "Tokens the firing threshold is measured on.", _READ),
    RunOption("firing_quantile", float, "Share of tokens below that threshold.", _READ),
    RunOption("n_top", int, "Strongest windows kept.", _READ),
    RunOption("n_per_quantile", int, "Windows kept of each quantile.", _READ),
    RunOption("n_silent", int, "Silent windows kept.", _READ),
    RunOption("dtype", str, "Number type the subject computes in.", _READ),
    RunOption("batch_size", int, "Texts of --ctx tokens read at once, at most.", _READ),
    RunOption("cache", str, "Folder for every firing token too, as Parquet.", _READ),
    RunOption("device", str, "auto, cpu, cuda or mps.", _WORK),
    RunOption("offline", bool, "Never try the network.", _WORK, "--offline/--online"),
    RunOption(
        "budget",
        float,
        "US dollars the run may spend in all; it ends with exit code 4, and a higher one goes on. "
        "0: local models alone.",
        _WORK,
    ),
    RunOption(
        "max_calls",
        int,
        "Calls to language models, local ones too, it may make in all; attempts that failed count.",
        _WORK,
    ),
    RunOption(
        "concurrency",
        int,
        "Requests to one provider out at once, at most; fewer where it asks for that.",
        _WORK,
    ),
    RunOption("batch", bool, "Use providers' batch APIs: half the price, slow.", _WORK, "--batch"),
    RunOption(
        "dry_run",
        bool,
        "Say what is left to do and what it would cost; asks nobody and needs no key.",
        _WORK,
        "--dry-run",
    ),
    RunOption("fresh", bool, "Start anew instead of going on.", _WORK, "--fresh"),
)
"""In the order of the help. What no part of the pipeline honours yet is not here."""

ONLY_HERE = ("dry_run", "fresh")
"""Options that go to the command and not into the run's config or limits."""


def with_run_options(
    command: Callable[..., int],
    named: str = "",
    without: Collection[str] = (),
    also: Sequence[inspect.Parameter] = (),
) -> Callable[..., int]:
    """`command`, which takes `context` and `**flags`, with `RUN_OPTIONS` as its parameters.

    Args:
        command: what is run.
        named: what its arguments are, one or more, which it takes as `named`; empty for none.
        without: options that it does not have.
        also: parameters of its own, which it takes by their names.
    """
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    options = [option.parameter for option in RUN_OPTIONS if option.name not in without]
    parameters = [context, *([_arguments(named)] if named else []), *also, *options]
    # Typer reads the signature and the annotations; spelling 28 parameters out in each of four
    # commands would keep the same list in five places.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _arguments(named: str) -> inspect.Parameter:
    return inspect.Parameter(
        "named",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[list[str], typer.Argument(metavar=f"{named}...")],
    )


def checked_file(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The `options` of a config file under the names used here.

    Raises:
        ConfigError: if one is unknown; the near ones are named.
    """
    try:
        named = named_options(options)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    known = [option.name for option in RUN_OPTIONS] + [n for n in GLOBAL if n != "config"]
    for name in named:
        if name not in known:
            raise ConfigError(f"{where}: there is no option {name!r}; {nearest(name, known)}")
    return named
