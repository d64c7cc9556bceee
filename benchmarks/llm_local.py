"""What local models gain by prefix reuse: prompt tokens a second on a detection workload.

    python benchmarks/llm_local.py --json benchmarks/llm.json --md benchmarks/llm.md
    python benchmarks/llm_local.py --llm local:small local --reps 3

Everything runs in one process, in turn. See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asking import report, reuse
from collecting import machine
from collecting.report import added


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--llm", nargs="+", default=["local:small"], help="local models")
    add("--explanations", type=int, default=3)
    add("--windows", type=int, default=60, help="for each explanation")
    add("--window", type=int, default=32, help="tokens in each")
    add("--reps", type=int, default=3)
    add("--json", type=Path, help="results are added to this file")
    add("--md", type=Path, help="tables of all runs in the JSON file, or of this")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    kept = {name: value for name, value in vars(args).items() if name not in ("json", "md")}
    runs: list[dict[str, Any]] = []
    for spec in args.llm:
        rows = reuse.measured(spec, args.explanations, args.windows, args.window, args.reps)
        run = {"what": "reuse", "machine": machine.facts("cpu"), "settings": kept, "rows": rows}
        runs = added(args.json, run) if args.json else [*runs, run]
    text = report.markdown(runs)
    print(text)
    if args.md:
        args.md.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
