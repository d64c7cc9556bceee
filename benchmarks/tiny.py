"""The simulator `tiny` beside the others: held-out concepts, planted and real features, speed.

    python benchmarks/tiny.py --work DIR collect
    python benchmarks/tiny.py --work DIR collect --subject gguf:FILE --tokens 60000
    python benchmarks/tiny.py --work DIR cases
    python benchmarks/tiny.py --work DIR predict --who tiny lexical embedding symbolic
    python benchmarks/tiny.py --work DIR predict --who "logprob local:small" --ground real
    python benchmarks/tiny.py --work DIR truth --who tiny lexical embedding
    python benchmarks/tiny.py --work DIR speed --who tiny "logprob local:small" --features 3
    python benchmarks/tiny.py --work DIR report --json benchmarks/tiny.json --md benchmarks/tiny.md

What was predicted is kept in DIR and goes on where it stopped. With other weights of `tiny` only
its own predictions are made again. See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from collecting import machine
from simulating import candidates, cases, gathered, held_out, predictions, report, speed, truths
from simulating.cases import GROUNDS, HELD_OUT, OTHER, REAL, Case
from simulating.predictions import Kept, Who

HERE = Path(__file__).parent
WRITTEN = HERE / "handwritten.json"
CONCEPTS = 120


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of what is kept")
    parser.add_argument("--online", action="store_true", help="models may be fetched")
    parser.add_argument("--threads", type=int, default=2)
    parts = parser.add_subparsers(dest="part", required=True)
    add = parts.add_parser("collect", help="real features' activations").add_argument
    add("--subject", default=candidates.BUNDLED)
    add("--tokens", type=int, default=200_000)
    add = parts.add_parser("cases", help="what is to be predicted").add_argument
    add("--seed", type=int, default=0, help="of the training's concepts")
    add("--skip-held-out", action="store_true")
    for name in ("predict", "truth", "speed"):
        add = parts.add_parser(name).add_argument
        add("--who", nargs="+", required=True, help='simulators, such as "logprob local:small"')
        if name == "predict":
            add("--ground", nargs="+", choices=GROUNDS, default=list(GROUNDS))
            add("--wrong", type=int, default=cases.WRONG, help="wrong descriptions of each sort")
            add("--first", type=int, default=1000, help="cases of a ground, at most")
        if name == "speed":
            add("--features", type=int, default=8)
    add = parts.add_parser("report").add_argument
    add("--json", type=Path)
    add("--md", type=Path)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    import torch

    torch.set_num_threads(args.threads)
    offline = not args.online
    if args.part == "collect":
        bundled = args.subject == candidates.BUNDLED
        records = candidates.collected(
            args.subject, args.tokens, with_coder=bundled, offline=offline
        )
        name = "bundled" if bundled else "other"
        print(candidates.write_records(records, args.work / f"{name}.jsonl.gz"), "features")
    elif args.part == "cases":
        make_cases(args.work, args.seed, args.skip_held_out)
    elif args.part == "predict":
        whos = [Who.parse(text) for text in args.who]
        for who in whos:
            asyncio.run(predict(args, who, offline))
    elif args.part == "truth":
        ground = truths.planted(offline)
        for who in map(Who.parse, args.who):
            asyncio.run(truths.bench(who, ground, args.work, offline))
    elif args.part == "speed":
        asyncio.run(measure_speed(args, offline))
    else:
        found = gathered.found(args.work, WRITTEN)
        text = report.markdown(found)
        print(text)
        if args.json:
            args.json.write_text(json.dumps(gathered.plain(found), indent=1) + "\n", "utf-8")
        if args.md:
            args.md.write_text(text, "utf-8")


def make_cases(work: Path, seed: int, skip_held_out: bool) -> None:
    """Writes what is to be predicted."""
    written = cases.Written.read(WRITTEN)
    for ground, name in ((REAL, "bundled"), (OTHER, "other")):
        path = work / f"{name}.jsonl.gz"
        if path.is_file():
            found = cases.written_cases(ground, written, candidates.read_records(path))
            print(cases.write_cases(found, cases_file(work, ground)), ground)
    if not skip_held_out:
        from random import Random

        from glossator.datasets.corpora import default_corpus
        from glossator.scorers.tiny.lessons.source import lessons

        given = lessons(seed, with_real=False)
        scanned = held_out.Scanned.of(
            default_corpus(), given.tokenizer, held_out.SCANNED, Random(seed)
        )
        concepts = given.held.concepts
        found_cases = held_out.held_out_cases(concepts, scanned, CONCEPTS, seed)
        print(cases.write_cases(found_cases, cases_file(work, HELD_OUT)), HELD_OUT)


def cases_file(work: Path, ground: str) -> Path:
    """Where the cases of a ground are."""
    return work / f"cases-{ground.replace(' ', '-')}.jsonl"


async def predict(args: argparse.Namespace, who: Who, offline: bool) -> None:
    """Asks one simulator for what is missing."""
    llm = predictions.metered(who.llm, offline)
    kept = Kept.read(args.work, who)
    found: list[Case] = []
    for ground in args.ground:
        some = cases.read_cases(cases_file(args.work, ground))[: args.first]
        found += [case.few() for case in some] if who.llm else some
    await predictions.predict(who, found, kept, llm, wrong=args.wrong, offline=offline)


async def measure_speed(args: argparse.Namespace, offline: bool) -> None:
    """Times simulators one after the other, in this process."""
    from transformers import AutoTokenizer

    from glossator.assets import model_folder
    from glossator.datasets.corpora import default_corpus

    folder = model_folder(candidates.BUNDLED, offline=offline)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    n = max(3, args.features)
    windows = speed.windows_of(default_corpus(), tokenizer, n * speed.WINDOWS + 1)
    texts = [w.text for w in cases.Written.read(WRITTEN)][: args.features]
    found = []
    for who in map(Who.parse, args.who):
        llm = predictions.metered(who.llm, offline)
        some = texts[:2] if who.llm else texts
        found.append(await speed.timed(who, llm, some, windows, offline))
    rows = {"machine": machine.facts("cpu"), "rows": [vars(row) for row in found]}
    (args.work / "speed.json").write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
