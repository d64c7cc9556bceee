"""`list --spending`: the ledger of a run, added up by what the calls were for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glossator.cli.results import dollars
from glossator.cli.text import visible
from glossator.ledger import OUT

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

_TOKENS = (
    *("prompt_tokens", "completion_tokens"),
    *("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
)
_BY = ("stage", "part", "llm", "batched")


def spending(calls: DataFrame) -> list[dict[str, Any]]:
    """A row for each stage, part and language model, and one with the total, the last.

    `calls` is every request that was sent, `failed` those among them without a reply, `cached` the
    replies that were there already; of `cut_off`, a kill came before what came of them. `cost` is
    in US dollars, None where a call's price is unknown; of it, `assumed` is the most that calls can
    have cost of which no bill is known.
    """
    rows = []
    for key, lines in calls.groupby(list(_BY), sort=True):
        rows.append({**dict(zip(_BY, key, strict=True)), **_sum(lines)})
    return [*rows, {"stage": "total", "part": "", "llm": "", "batched": False, **_sum(calls)}]


def prices(calls: DataFrame) -> list[dict[str, Any]]:
    """The entries of the price list that the costs were reckoned by, and of which model."""
    known = calls[["llm", "price"]].dropna().drop_duplicates()
    return [{"llm": row.llm, **json.loads(str(row.price))} for row in known.itertuples()]


def spending_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("for", overflow="fold")
    table.add_column("language model", overflow="fold")
    for name in ("calls", "tokens in", "tokens out", "cost", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        batched = " (batch)" if row["batched"] else ""
        cells = [
            visible(f"{row['stage']} {row['part']}{batched}".strip()),
            visible(row["llm"]),
            _cell(row, "calls", failed="failed", cut_off="cut off", cached="kept"),
            _cell(
                row,
                "prompt_tokens",
                cache_read_tokens="cached",
                cache_write_tokens="written",
            ),
            _cell(row, "completion_tokens", reasoning_tokens="reasoning"),
            dollars(row["cost"])
            + (f"\n{dollars(row['assumed'])} assumed" if row["assumed"] else ""),
            f"{row['seconds']:.1f}",
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def assumed_line(total: Mapping[str, Any]) -> str:
    """What the assumed dollars of the row `total` are, in one line; empty if there are none."""
    if not total["assumed"]:
        return ""
    killed = f", {total['cut_off']:,} of them cut off by a kill" if total["cut_off"] else ""
    return (
        f"{dollars(total['assumed'])} is assumed: no bill is known of some calls{killed}, and this "
        "is the most that they can have cost"
    )


def _cell(row: Mapping[str, Any], figure: str, **among: str) -> str:
    """A figure, and below it what is among it or beside it, where there is any."""
    more = [f"{row[name]:,} {word}" for name, word in among.items() if row[name]]
    return "\n".join([f"{row[figure]:,}", *more])


def _sum(lines: DataFrame) -> dict[str, Any]:
    sent = lines[lines["attempt"] > 0]
    return {
        "calls": int(sent["n_calls"].sum()),
        "failed": int((sent["error"] != "").sum()),
        "cut_off": int((sent["error_type"] == OUT).sum()),
        "cached": int(lines["n_cached"].sum()),
        **{name: int(sent[name].sum()) for name in _TOKENS},
        "cost": None if sent["cost"].isna().any() else math.fsum(sent["cost"]),
        "assumed": math.fsum(sent["assumed"]),
        "seconds": float(sent["seconds"].sum()),
    }
