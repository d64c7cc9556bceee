"""How language models are asked: the rate achieved under a limit, and what our layer costs.

    python benchmarks/llm.py --json benchmarks/llm.json --md benchmarks/llm.md
    python benchmarks/llm.py --skip-rate --wanted 64

The server is the fake provider of the tests, on this machine and in a process of its own.
What a local model gains by prefix reuse is measured by `benchmarks/llm_local.py`.
See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asking import calls, report
from collecting import machine
from collecting.report import added


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--wanted", nargs="+", type=int, default=[8, 64, 256], help="calls at once")
    add("--rate", type=float, default=25.0, help="calls a second that the server allows")
    add("--rate-calls", type=int, default=300)
    add("--calls", type=int, default=1024, help="for the overhead")
    add("--reps", type=int, default=5)
    add("--skip-rate", action="store_true")
    add("--skip-overhead", action="store_true")
    add("--json", type=Path, help="results are added to this file")
    add("--md", type=Path, help="tables of all runs in the JSON file, or of this")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    runs: list[dict[str, Any]] = []
    for what, rows in _parts(args):
        kept = {name: value for name, value in vars(args).items() if name not in ("json", "md")}
        run = {"what": what, "machine": machine.facts("cpu"), "settings": kept, "rows": rows}
        runs = added(args.json, run) if args.json else [*runs, run]
    text = report.markdown(runs)
    print(text)
    if args.md:
        args.md.write_text(text, encoding="utf-8")


def _parts(args: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    if not args.skip_rate:
        reps = max(1, args.reps // 2)
        yield "rate", calls.rates(args.rate, args.rate_calls, args.wanted, reps)
    if not args.skip_overhead:
        yield "overhead", calls.overhead(args.calls, args.wanted, args.reps)


if __name__ == "__main__":
    main()
