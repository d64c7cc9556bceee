"""How fast activations are collected, against the plain forward pass and against a peer.

    python benchmarks/collect.py --json benchmarks/collect.json --md benchmarks/collect.md
    python benchmarks/collect.py --skip-speed --memory 100000 1000000
    python benchmarks/collect.py --skip-speed --peer
    python benchmarks/collect.py --skip-speed --study-dtype 65536

Speed: for each ctx and batch, the forward pass (the model's body without the language-model head)
and the collection of all MLP neurons, and the forward pass cut at the coder's layer and the
collection of its latents, in turn in one process; a ratio is between neighbours of one repetition.
Memory and peer: every run is a process of its own. See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from collecting import machine, report
from collecting.child import Job, child

_HERE = Path(__file__).resolve()
_MEMORY_FROM = "synthetic: layers draw their activations instead of computing them"
_STUDY = "bfloat16 against float32: activations, firing, top windows, speed"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--subject", default="smollm2-135m", help="a folder or the bundled model")
    add("--coder", default="default", help="as --sae takes it, or: random")
    add("--sites", nargs="+", choices=("all", "coder"), default=["all", "coder"])
    add("--tokens", type=int, default=32_768)
    add("--reps", type=int, default=5)
    add("--ctx", nargs="+", type=int, default=[128])
    add("--batch", nargs="+", type=int, default=[64])
    add("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    add("--device", default="auto")
    add("--skip-speed", action="store_true", help="only what else is asked for")
    add("--memory", nargs="*", type=int, metavar="TOKENS", help="peak memory (100000, 1000000)")
    add("--memory-from", choices=("model", "synthetic"), default="model", help=_MEMORY_FROM)
    add("--peer", action="store_true", help="against eai-delphi's cache")
    add("--peer-env", type=Path, help="folder of its environment")
    add("--peer-tokens", type=int, default=131_072, help="for the coder")
    add("--peer-neuron-tokens", type=int, default=8_000, help="for all neurons: 2.6 MB a token")
    add("--peer-reps", type=int, default=3)
    add("--study-dtype", type=int, nargs="?", const=65_536, metavar="TOKENS", help=_STUDY)
    add("--json", type=Path, help="results are added to this file")
    add("--md", type=Path, help="tables of all runs in the JSON file, or of this")
    add("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.child:
        child(args.child)
        return
    runs: list[dict[str, Any]] = []
    for what, measure in _parts(args):
        before = machine.facts(args.device)
        measured = measure(args)
        run = {"what": what, "machine": before, "settings": _settings(args), **measured}
        runs = report.added(args.json, run) if args.json else [*runs, run]
    text = report.markdown(runs)
    print(text)
    if args.md:
        args.md.write_text(text, encoding="utf-8")


def _parts(
    args: argparse.Namespace,
) -> Iterator[tuple[str, Callable[[argparse.Namespace], dict[str, Any]]]]:
    """What was asked for; the peer before anything else is in this process's memory."""
    from glossator.device import pick_device, pick_dtype

    args.device = pick_device(args.device)
    args.dtype = str(pick_dtype(args.dtype, args.device)).removeprefix("torch.")
    if args.peer:
        yield "peer", _peer
    if args.memory is not None:
        yield "memory", _memory
    if not args.skip_speed:
        yield "speed", _speed
    if args.study_dtype:
        yield "dtypes", _dtypes


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, without folders."""
    folders = {"json", "md", "peer_env", "child"}
    asked = {name: value for name, value in vars(args).items() if name not in folders}
    return asked | {"subject": Path(args.subject).name, "coder": Path(args.coder).name}


def _job(args: argparse.Namespace, **more: Any) -> Job:
    return Job(
        what="collect",
        subject=args.subject,
        dtype=args.dtype,
        device=args.device,
        ctx=args.ctx[0],
        batch=args.batch[0],
        coder=args.coder,
        folder="",
        **more,
    )


def _speed(args: argparse.Namespace) -> dict[str, Any]:
    from collecting.coders import coder_for, site_of
    from collecting.ours import Work
    from collecting.speed import Setup, compared, said
    from collecting.windows import full_windows

    from glossator.subject import load_subject

    subject = load_subject(args.subject, args.device, args.dtype)
    works = [Work(site) for site in args.sites]
    coder = coder_for(args.coder, subject) if Work.CODER in works else None
    layer = int(site_of(coder).split(".")[1]) if coder else 0
    rows = []
    for ctx in args.ctx:
        for batch in args.batch:
            said(f"ctx {ctx}, batch {batch}")
            windows = full_windows(subject, ctx, args.tokens, batch)
            found = compared(Setup(subject, coder, layer, windows, batch), works, args.reps)
            rows += [row | {"ctx": ctx, "batch": batch} for row in found]
    return {"rows": rows}


def _memory(args: argparse.Namespace) -> dict[str, Any]:
    from collecting.memory import memory
    from collecting.ours import Work

    job = _job(args, tokens=0, synthetic=args.memory_from == "synthetic")
    tokens = sorted(args.memory or [100_000, 1_000_000])
    return {"rows": memory(_HERE, job, [Work(site) for site in args.sites], tokens)}


def _peer(args: argparse.Namespace) -> dict[str, Any]:
    from collecting.ours import Work
    from collecting.versus import versus
    from peer.environment import default_folder

    rows = versus(
        _HERE,
        _job(args, tokens=args.peer_tokens),
        args.peer_env or default_folder(),
        args.peer_neuron_tokens,
        [Work(site) for site in args.sites],
        args.peer_reps,
    )
    return {"rows": rows}


def _dtypes(args: argparse.Namespace) -> dict[str, Any]:
    from collecting.coders import coder_for
    from collecting.dtypes import FORMATS, study
    from collecting.windows import full_windows

    from glossator.subject import load_subject

    subjects = [load_subject(args.subject, args.device, dtype) for dtype in FORMATS]
    coder = coder_for(args.coder, subjects[0])
    windows = full_windows(subjects[0], args.ctx[0], args.study_dtype, args.batch[0])
    return {"rows": study(subjects, coder, windows, args.batch[0], args.reps)}


if __name__ == "__main__":
    main()
