"""Results as JSON, run after run, and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_HEAD = """# Collection: results

Written by `benchmarks/collect.py --md`; what each figure means is in `benchmarks/README.md`.
"""


def added(file: Path | None, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All runs in `file` and this one; the file holds it, too, afterwards. None keeps no file."""
    runs: list[dict[str, Any]] = []
    if file is not None and file.exists():
        runs = json.loads(file.read_text(encoding="utf-8"))
    runs.append(dict(run))
    if file is not None:
        file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return runs


def markdown(runs: Iterable[Mapping[str, Any]]) -> str:
    """A section for each run."""
    return "\n".join([_HEAD, *(_section(run) for run in runs)])


def _section(run: Mapping[str, Any]) -> str:
    title = {
        "speed": "Speed",
        "memory": "Peak memory",
        "peer": "Against `eai-delphi` 0.1.3",
        "dtypes": "bfloat16 against float32",
    }[run["what"]]
    where = run["machine"].get("gpu") or "CPU"
    dtype = "" if run["what"] == "dtypes" else f", {run['settings']['dtype']}"
    lines = [f"## {title}: {where}{dtype}", "", machine_line(run["machine"]), ""]
    tables: dict[str, Callable[[Any], list[str]]] = {
        "speed": _speed,
        "memory": _memory,
        "peer": _peer,
        "dtypes": _dtypes,
    }
    lines += tables[run["what"]](run["rows"])
    return "\n".join([*lines, ""])


def machine_line(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    gpu = f"{facts['gpu']} (CUDA {facts['cuda']}); " if "gpu" in facts else ""
    memory = f", {facts['memory_bytes'] / 2**30:.0f} GiB" if facts["memory_bytes"] else ""
    malloc = "; malloc tuned by GLIBC_TUNABLES" if facts["malloc_tuned"] else ""
    return (
        f"{gpu}{facts['processor']} ({', '.join(facts['flags'])}), {facts['cores']} cores, "
        f"{facts['threads']} threads{memory}{malloc}; load before {facts['load_before']}. "
        f"Python {facts['python']}, {versions}."
    )


def _speed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return table(
        (
            "what",
            "ctx",
            "batch",
            "tokens",
            "tokens/s",
            "range",
            "ratio to forward",
            "range",
            "with thresholds",
            "range",
            "GPU",
        ),
        [
            (
                row["name"],
                row["ctx"],
                row["batch"],
                f"{row['tokens']:,}",
                *_rates(row),
                *_ratios(row),
                *_ratios({"ratio": row.get("ratio_with_thresholds")}),
                _gigabytes(row.get("cuda_peak_bytes")),
            )
            for row in rows
        ],
    )


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return table(
        ("what", "activations", "tokens", "peak", "after loading", "against the first", "GPU"),
        [
            (
                row["name"],
                row["activations"],
                f"{row['tokens']:,}",
                _gigabytes(row["peak_bytes"]),
                _gigabytes(row["loaded_bytes"]),
                f"{row['ratio']:.3f}",
                _gigabytes(row.get("cuda_peak_bytes")),
            )
            for row in rows
        ],
    )


def _peer(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    run = [row for row in rows if "skipped" not in row]
    told = [f"- {row['name']}: {row['skipped']}" for row in rows if "skipped" in row]
    head = (
        "what",
        "ctx",
        "batch",
        "tokens",
        "tokens/s",
        "range",
        "times the peer",
        "range",
        "peak",
        "of the peer's",
        "GPU",
    )
    lines = table(
        head,
        [
            (
                row["name"],
                row["ctx"],
                row["batch"],
                f"{row['tokens']:,}",
                *_rates(row),
                *_ratios(row),
                _gigabytes(row["peak_bytes"]),
                f"{row['memory_ratio']:.3f}",
                _gigabytes(row.get("cuda_peak_bytes")),
            )
            for row in run
        ],
    )
    return [*(lines if run else []), *told]


def _dtypes(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    figures = ("error", "firing", "top")
    by_layer = table(
        ("layer", "error, residual", "error, neurons", "firing in both", "same top 20"),
        [
            (row["layer"], f"{row['residual error']:.4f}", *(_share(row[name]) for name in figures))
            for row in rows["layers"]
        ],
    )
    coder = table(
        ("coder", "active, float32", "active, bfloat16", "error", "firing in both", "same top 20"),
        [
            (
                row["name"],
                f"{row['active float32']:.2f}",
                f"{row['active bfloat16']:.2f}",
                *(_share(row[name]) for name in figures),
            )
            for row in rows["coder"]
        ],
    )
    speed = table(
        ("what", "tokens/s", "range", "ratio to float32", "range"),
        [(row["name"], *_rates(row), *_ratios(row)) for row in rows["speed"]],
    )
    return [*by_layer, "", *coder, "", *speed]


def _rates(row: Mapping[str, Any]) -> tuple[str, str]:
    rate = row["rate"]
    return f"{rate['median']:,.0f}", f"{rate['min']:,.0f} to {rate['max']:,.0f}"


def _ratios(row: Mapping[str, Any]) -> tuple[str, str]:
    ratio = row["ratio"]
    if ratio is None:
        return "", ""
    return f"{ratio['median']:.3f}", f"{ratio['min']:.3f} to {ratio['max']:.3f}"


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.2f} GB"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table, without the columns that are empty in every row."""
    cells = [[str(cell) for cell in row] for row in rows]
    kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
    lines = [[head[i] for i in kept], ["---"] * len(kept)]
    lines += [[row[i] for i in kept] for row in cells]
    return ["| " + " | ".join(line) + " |" for line in lines]
