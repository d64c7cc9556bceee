"""How fast the review pages answer on a store of a million features, and in how much memory.

    python benchmarks/pages.py --store /tmp/pages.db --features 1000000 --out benchmarks/pages.md

The store is made up, once: a file that is there is used again. Every feature has a summary, an
explanation and two scores, each row as a run would write it, but with short payloads; 200 have a
record, two explanations and predictions of 24 windows, as long as real ones. The tables that lists
are read from are filled by the revision that fills those of an older store.

The pages are asked for over HTTP from `glossator review`, whole: what is measured is from the first
byte sent to the last received. Addresses are drawn anew each time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

from glossator.config import RunConfig
from glossator.migrations.versions.r0006_listing import FILL
from glossator.rows import packed
from glossator.store import open_store
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    Kind,
    Pool,
    Prediction,
    Score,
    Split,
    Stratum,
    Usage,
)

WORDS = 4000
SITES = [f"layers.{layer}.mlp.neurons" for layer in range(24)]
KINDS = [Kind.OTHER] * 70 + [Kind.TOKEN] * 15 + [Kind.NGRAM] * 8 + [Kind.DENSE] * 4
KINDS += [Kind.DEAD] * 2 + [Kind.POSITIONAL]
FULL = 200
THEN = "2026-01-01T00:00:00.000000+00:00"


def vocabulary() -> list[str]:
    draw = random.Random(1)
    parts = ["ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo"]
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(draw.choice(parts) for _ in range(draw.randint(2, 4)))] = None
    return list(found)


def zipf(draw: random.Random) -> int:
    """A place in the vocabulary, the first far more often than the last."""
    return min(WORDS - 1, int(math.exp(draw.random() * math.log(WORDS))) - 1)


def make(file: Path, n: int) -> dict[str, float]:
    """Makes the store; gives the seconds that filling the tables of lists took."""
    draw, words = random.Random(0), vocabulary()
    with open_store(f"sqlite:///{file}") as store:
        config = RunConfig(explainers=("max-act", "unigram"), scorers=("detection", "simulation"))
        run = store.begin_run(config, collection="c" * 64)
        for i in range(FULL):
            fill_one(store, run.id, i, draw, words)
        store.finish_run(run.id)
    raw = sqlite3.connect(file, isolation_level=None)
    raw.execute("PRAGMA synchronous=OFF")
    raw.execute("BEGIN")
    for start in range(FULL, n, 20_000):
        add(raw, range(start, min(n, start + 20_000)), draw, words)
        print(f"\r{start:,} features", end="", file=sys.stderr)
    raw.execute(
        "INSERT INTO predictions SELECT id, ? FROM scores s "
        "WHERE NOT EXISTS (SELECT 1 FROM predictions p WHERE p.score = s.id)",
        (packed([]),),
    )
    for table in ("bests", "marks", "flags"):
        raw.execute(f"DELETE FROM {table}")
    begun = time.perf_counter()
    for statement in FILL:
        raw.execute(statement)
    took = time.perf_counter() - begun
    raw.execute("COMMIT")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    print(file=sys.stderr)
    return {"fill": took}


def add(raw: sqlite3.Connection, ids: range, draw: random.Random, words: list[str]) -> None:
    features, summaries, explanations, scores, failures = [], [], [], [], []
    for i in ids:
        row, site = i + 1, SITES[i * len(SITES) // 1_000_000 % len(SITES)]
        name = f"made-up//{site}/{i}"
        kind = draw.choice(KINDS)
        density, peak = 10 ** draw.uniform(-5, -0.5), draw.expovariate(0.3)
        features.append((row, name, "made-up", site, None, i, 0))
        summaries.append(
            ("c" * 64, row, kind.value, "{}", density, 1.0, peak, None, 0.1, 0.3, 2_000_000, None)
        )
        text = " ".join(words[zipf(draw)] for _ in range(draw.randint(5, 12)))
        abstained = "" if draw.random() > 0.02 else "no pattern"
        said = Explanation(
            FeatureId.parse(name), "" if abstained else text, "max-act", abstained=abstained
        )
        explanations.append((row, said.text, abstained, json.dumps(said.to_json())))
        for scorer in () if abstained else ("detection", "simulation"):
            value = max(-0.2, min(1.0, draw.gauss(0.35, 0.25)))
            half, null = draw.uniform(0.02, 0.3), draw.gauss(0.05, 0.1)
            score = {"feature": said.feature.to_json(), "explainer": "max-act", "scorer": scorer}
            payload = json.dumps({**score, "value": value, "null": null, "n": 24})
            scores.append((row, scorer, payload, value, value - half, value + half, null))
        if draw.random() < 0.005:
            failures.append((row,))
    execute = raw.executemany
    execute("INSERT INTO features VALUES (?,?,?,?,?,?,?)", features)
    execute(f"INSERT INTO summaries VALUES (?,?,?,?,?,?,?,?,?,?,?,?,'{THEN}')", summaries)
    columns = "run, feature, explainer, model, prompt_version, calls, prompt_tokens, "
    columns += "completion_tokens, cost, seconds, made, text, abstained, payload"
    execute(
        f"INSERT INTO explanations ({columns}) VALUES "
        f"('r1', ?, 'max-act', 'local', 'p1', 1, 600, 15, 0, 1.0, '{THEN}', ?, ?, ?)",
        explanations,
    )
    columns = "run, feature, explainer, scorer, simulator, metric, model, n, n_failed, note, "
    columns += "calls, prompt_tokens, completion_tokens, cost, seconds, payload, made, "
    columns += "value, low, high, null_value"
    execute(
        f"INSERT INTO scores ({columns}) VALUES ('r1', ?, 'max-act', ?, 'logprob', 'm', 'local', "
        f"24, 0, '', 24, 600, 24, 0, 1.0, ?, '{THEN}', ?, ?, ?, ?)",
        scores,
    )
    execute(
        "INSERT INTO failures (run, feature, stage, part, kind, message, reply, made) VALUES "
        f"('r1', ?, 'score', 'max-act/rubric', 'ReplyError', 'no number', '', '{THEN}')",
        failures,
    )


def fill_one(store, run: str, i: int, draw: random.Random, words: list[str]) -> None:
    """A feature as whole as a real one, whose page is long."""
    feature = FeatureId("made-up", SITES[0], i)

    def window(pool: Pool, j: int, stratum: str) -> Example:
        tokens = tuple(" " + words[zipf(draw)] for _ in range(32))
        fires = stratum != SILENT
        acts = tuple(
            draw.expovariate(0.5) if fires and draw.random() < 0.15 else 0.0 for _ in tokens
        )
        acts = (5.0 if fires else 0.0, *(a if fires else 0.0 for a in acts[1:]))
        return Example(tokens, acts, f"{pool.value}{j}", 0, stratum, 2.0)

    def split(pool: Pool) -> Split:
        strata = [TOP] * 20 + [f"q{q}" for q in range(1, 6) for _ in range(10)] + [SILENT] * 50
        windows = [window(pool, j, name) for j, name in enumerate(strata)]
        named = tuple(Stratum(name, 1000, strata.count(name)) for name in dict.fromkeys(strata))
        firing = tuple(w for w in windows if w.stratum != SILENT)
        silent = tuple(w for w in windows if w.stratum == SILENT)
        return Split(pool, 1.0, firing, silent, named)

    record = FeatureRecord(
        feature,
        train=split(Pool.TRAIN),
        dev=split(Pool.DEV),
        test=split(Pool.TEST),
        density=0.01,
        threshold=1.0,
        threshold_rule="99th percentile",
        peak=12.0,
        mean=0.1,
        std=0.4,
        n_tokens=2_000_000,
        kind=draw.choice(KINDS),
        histogram_edges=tuple(float(x) for x in range(41)),
        histogram=tuple(10 ** max(0, 5 - x // 8) for x in range(40)),
    )
    store.put_record("c" * 64, record)
    for explainer in ("max-act", "unigram"):
        text = " ".join(words[zipf(draw)] for _ in range(8))
        usage = Usage(calls=1, cost=0.0)
        store.put_explanation(run, Explanation(feature, text, explainer, model="m", usage=usage))
        for scorer in ("simulation", "detection"):
            whole = scorer == "detection"
            predictions = tuple(
                Prediction(
                    *(e.key, e.stratum, e.weight, e.document),
                    (e.peak,) if whole else e.activations,
                    tuple(draw.random() for _ in range(1 if whole else len(e.tokens))),
                    "probability" if whole else "tenths",
                    e.tokens,
                )
                for e in record.test.examples[::5][:24]
            )
            value = draw.uniform(0.1, 0.9)
            scored = Score(
                *(feature, explainer, scorer, "logprob", "metric", "m"),
                *(value, value - 0.1, value + 0.1, 0.05, 0.3, 0.25, 24),
                predictions=predictions,
            )
            store.put_score(run, scored)


# --- what is asked for ----------------------------------------------------------------------------


def requests(n: int, draw: random.Random, words: list[str]) -> dict[str, Callable[[], str]]:
    """From what is asked for to a fresh address of it."""
    sorts = ("id", "density", "peak", "kind", "site", "explainer", "width")
    scorers = ("simulation", "detection")

    def address(*pairs: tuple[str, object]) -> str:
        return "/features?" + urlencode([(k, v) for k, v in pairs])

    def order() -> str:
        return draw.choice(("", "-")) + draw.choice((*sorts, *scorers))

    def deep() -> str:
        name, row = draw.choice(scorers), draw.randrange(n)
        sort = draw.choice(("", "-")) + name
        return address(("sort", sort), ("after", f"{row}~{draw.uniform(-0.2, 1.0)}"))

    def filters() -> list[tuple[str, object]]:
        density, value = 10 ** draw.uniform(-5, -0.5), draw.uniform(-0.2, 1.0)
        number = draw.randrange(n)
        return [
            ("kind", draw.choice(list(Kind)).value),
            ("flag", draw.choice(("failed", "abstained", "disagreement"))),
            ("site", draw.choice(SITES)),
            ("explainer", draw.choice(("max-act", "unigram"))),
            (draw.choice(("density.min", "density.max")), f"{density:.4g}"),
            (f"{draw.choice(scorers)}.{draw.choice(('min', 'max'))}", f"{value:.3g}"),
            ("width.max", f"{draw.uniform(0.05, 0.6):.3g}"),
            ("number", str(number)),
        ]

    def filtered(most: int) -> str:
        return address(("sort", order()), *draw.sample(filters(), draw.randint(1, most)))

    def searched(each: int) -> str:
        text = " ".join(words[zipf(draw)] for _ in range(each))
        return address(("sort", order()), ("q", text))

    return {
        "list, first page": lambda: address(("run", "r1")),
        "list, somewhere": lambda: address(("after", f"{draw.randrange(n)}~0")),
        "sort by any": lambda: address(("sort", order())),
        "sort by a score, somewhere": deep,
        "filter by one": lambda: filtered(1),
        "filter by up to three, sorted": lambda: filtered(3),
        "search one word, sorted": lambda: searched(1),
        "search two words, sorted": lambda: searched(2),
        "feature with text": lambda: f"/features/{draw.randint(1, FULL)}?run=r1",
        "feature without text": lambda: f"/features/{draw.randint(FULL + 1, n)}?run=r1",
        "run": lambda: "/runs/r1",
        "as JSON, filtered": lambda: filtered(2).replace("/features", "/api/features", 1),
    }


def serve(file: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "glossator", "--store", f"sqlite:///{file}", "--json"]
    process = subprocess.Popen(
        [*command, "review", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    told = ""
    for line in process.stdout or ():
        told += line
        if line.startswith("}"):
            break
    return process, json.loads(told)["address"].removeprefix("http://").rstrip("/")


def timed(connection: http.client.HTTPConnection, path: str) -> float:
    begun = time.perf_counter()
    connection.request("GET", path)
    reply = connection.getresponse()
    reply.read()
    took = time.perf_counter() - begun
    if reply.status != 200:
        raise SystemExit(f"{reply.status} for {path}")
    return took


def memory(pid: int) -> float:
    """Most memory that the process has held, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def measured(file: Path, n: int, times: int) -> Iterator[tuple[str, list[float], str]]:
    draw, words = random.Random(7), vocabulary()
    process, address = serve(file)
    try:
        connection = http.client.HTTPConnection(address, timeout=120)
        timed(connection, "/features")
        for name, fresh in requests(n, draw, words).items():
            found = []
            for _ in range(times if name != "run" else max(5, times // 20)):
                path = fresh()
                found.append((timed(connection, path), path))
            slowest = max(found)[1]
            yield name, [seconds for seconds, _ in found], slowest
        yield "memory", [memory(process.pid)], ""
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("pages.db"))
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    made: dict[str, float] = {}
    if not arguments.store.exists():
        made = make(arguments.store, arguments.features)
        print(f"the tables of lists were filled in {made['fill']:.0f} s")
    size = arguments.store.stat().st_size / 1e9
    lines = [
        "| asked for | median ms | p95 ms | slowest ms |",
        "|---|---|---|---|",
    ]
    held = 0.0
    for name, values, slowest in measured(arguments.store, arguments.features, arguments.times):
        if name == "memory":
            held = values[0]
            continue
        figures = (quantile(values, 0.5), quantile(values, 0.95), max(values))
        lines.append(f"| {name} | " + " | ".join(f"{1000 * v:.0f}" for v in figures) + " |")
        print(lines[-1], quote(slowest, safe="/?&=+.%~-"), flush=True)
    told = (
        f"{arguments.features:,} features, {size:.1f} GB, {arguments.times} of each; "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}. The server held at most {held:.0f} MB."
    )
    print(told)
    if arguments.out:
        arguments.out.write_text("\n".join([told, "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
