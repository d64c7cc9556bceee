"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collecting.report import machine_line, table

_HEAD = """# Language models: results

Written by `benchmarks/llm.py --md` and `benchmarks/llm_local.py --md`; what each figure means is in
`benchmarks/README.md`.
"""


def markdown(runs: Iterable[Mapping[str, Any]]) -> str:
    """A section for each run."""
    return "\n".join([_HEAD, *(_section(run) for run in runs)])


def _section(run: Mapping[str, Any]) -> str:
    title, lines = {"rate": _rate, "overhead": _overhead, "reuse": _reuse}[run["what"]](run)
    return "\n".join([f"## {title}", "", machine_line(run["machine"]), "", *lines, ""])


def _rate(run: Mapping[str, Any]) -> tuple[str, list[str]]:
    allowed = run["settings"]["rate"]
    head = ("what", "wanted at once", "calls", "lost", "refused", "of the allowed rate", "range")
    rows = [
        (
            *(row["what"], row["wanted"], row["calls"], row["lost"], row["refused"]),
            f"{row['share'][1]:.3f}",
            _range(row["share"], 3),
        )
        for row in run["rows"]
    ]
    return f"Under a limit of {allowed:g} calls a second", table(head, rows)


def _overhead(run: Mapping[str, Any]) -> tuple[str, list[str]]:
    head = ("wanted at once", "calls", "bare SDK, ms a call", "range", "ours adds, ms", "range")
    rows = [
        (
            *(row["wanted"], row["calls"]),
            *(f"{row['bare'][1]:.2f}", _range(row["bare"], 2)),
            *(f"{row['added'][1]:.2f}", _range(row["added"], 2)),
        )
        for row in run["rows"]
    ]
    return "What our layer adds to a call", table(head, rows)


def _reuse(run: Mapping[str, Any]) -> tuple[str, list[str]]:
    row = run["rows"][0]
    title = f"Prefix reuse on a detection workload: `{row['model']}`"
    told = (
        f"{row['prompts']} prompts of {row['tokens'] / row['prompts']:.0f} tokens; of "
        f"{row['tokens']:,} tokens, {row['distinct']:,} are left where each shared beginning is "
        "counted once."
    )
    head = ("what", "prompt tokens/s", "range", "times without", "range", "P(yes) apart by at most")
    rows = [
        (
            *(row["what"], f"{row['rate'][1]:,.0f}"),
            f"{row['rate'][0]:,.0f} to {row['rate'][2]:,.0f}",
            f"{row['ratio'][1]:.2f}",
            _range(row["ratio"], 2),
            f"{row['apart']:.3f}",
        )
        for row in run["rows"]
    ]
    return title, [told, "", *table(head, rows)]


def _range(values: Sequence[float], digits: int) -> str:
    return f"{values[0]:.{digits}f} to {values[2]:.{digits}f}"
