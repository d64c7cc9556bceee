"""Which simulator to believe with which language model: all of them on the dev split of a run.

    python benchmarks/simulators.py --store sqlite:///demo/demo.db --llm local:small

Reads the explanations and records of the newest run (nothing of the test pool), predicts dev
windows with each simulator, and prints Pearson r per token (weighted to the pool, and not) and the
area under the ROC curve for telling firing windows from silent ones, each the mean over features,
beside the seconds a feature took.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.prices import price_of
from glossator.providers.table import make_llm
from glossator.scorers.build import build_simulator
from glossator.scorers.estimates import Pearson
from glossator.scorers.judge import AskingJudge
from glossator.scorers.nulls import choose_wrong
from glossator.scorers.sample import draw
from glossator.store import open_store
from glossator.types import SILENT, Example, Explanation

Predict = Callable[[Example], Awaitable[Sequence[float]]]


async def measured(examples: Sequence[Example], predict: Predict) -> dict[str, float]:
    """Figures of one explanation on its windows."""
    began = time.perf_counter()
    predicted = await asyncio.gather(*[predict(e) for e in examples])
    seconds = time.perf_counter() - began
    found = {"seconds": seconds}
    if all(len(p) == len(e.tokens) for p, e in zip(predicted, examples, strict=True)):
        metric = Pearson.over([e.activations for e in examples], predicted)
        weights = np.array([[e.weight for e in examples], [1.0] * len(examples)])
        r = metric(weights)
        # A constant prediction has no r; it tells nothing, as 0 does.
        found |= {"r weighted": float(np.nan_to_num(r[0])), "r": float(np.nan_to_num(r[1]))}
    fired = [e.stratum != SILENT for e in examples]
    found["AUC of windows"] = float(roc_auc_score(fired, [max(p) for p in predicted]))
    return found


def simulated(
    llm: Metered, name: str, explanation: Explanation, others: tuple[str, ...] = ()
) -> Predict:
    """One value a token, by the simulator called `name`."""
    simulator = build_simulator(name, llm, others)

    async def predict(example: Example) -> Sequence[float]:
        return (await simulator.simulate(explanation, example.tokens)).predicted

    return predict


def asked(llm: Metered, explanation: Explanation) -> Predict:
    """One value a window: the probability of yes."""
    judge = AskingJudge(llm)

    async def predict(example: Example) -> Sequence[float]:
        return [(await judge.judge(explanation, example.tokens)).value]

    return predict


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="sqlite:///demo/demo.db")
    parser.add_argument("--run", default="")
    parser.add_argument("--llm", default="local:small")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--features", type=int, default=12)
    options = parser.parse_args()
    store = open_store(options.store)
    run = store.run(options.run) if options.run else store.runs()[-1]
    explanations = [e for e in store.explanations_of(run.id) if not e.abstained]
    inner = make_llm(options.llm)
    llm = Metered(inner, MemoryJournal(), price=price_of(inner), limit=4096)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    written = [e for e in explanations if not e.words][: options.features]
    patterns = {e.feature: e for e in explanations if e.words}
    for explanation in written:
        record = store.record(run.collection, explanation.feature)
        if record is None or not record.dev.firing or not record.dev.silent:
            continue
        examples = draw(record.dev, options.windows, explanation.feature)
        others = tuple(e.text for e in choose_wrong(explanation, written, 3, 0).explanations)

        trials = {
            "lexical": simulated(llm, "lexical", explanation),
            "contrast, 3 others": simulated(llm, "contrast", explanation, others),
            "yes or no, plain": simulated(llm, "contrast", explanation),
            "logprob": simulated(llm, "logprob", explanation),
            "ask, P(yes)": asked(llm, explanation),
        }
        if explanation.feature in patterns:
            pattern = patterns[explanation.feature]
            trials["symbolic (unigram)"] = simulated(llm, "symbolic", pattern)
        for name, predict in trials.items():
            rows[name].append(await measured(examples, predict))
            print(f"{explanation.feature} {name} {rows[name][-1]}", flush=True)
    print(f"\n{options.llm}, {len(written)} features, {options.windows} dev windows each")
    print("| simulator | r weighted | r | AUC of windows | s a feature |\n|---|---|---|---|---|")
    for name, found in rows.items():
        cells = [
            f"{np.mean([f[k] for f in found]):.3f}" if k in found[0] else "-"
            for k in ("r weighted", "r", "AUC of windows", "seconds")
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    asyncio.run(main())
