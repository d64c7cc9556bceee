"""The command line, as people and programs meet it: in a process of its own, on real stores."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import glossator as package
from glossator.cli.app import call, hoisted, only_cause
from glossator.cli.excerpt import beside, marked, misses
from glossator.cli.feature import matching, nearest_features
from glossator.cli.interrupts import Interrupted
from glossator.cli.options import RUN_OPTIONS
from glossator.cli.progress import Pace, PlainLines, duration, spent_line
from glossator.cli.run import exit_code, unless
from glossator.cli.text import visible
from glossator.config import RunConfig, RunLimits, option_names
from glossator.doctor import _reached
from glossator.errors import BudgetSpent, ConfigError, GlossatorError, ProviderRefused
from glossator.progress import Progress
from glossator.store import Run, RunStatus, Store, open_store
from glossator.types import (
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Measure,
    Pool,
    Prediction,
    Score,
    Split,
    Stratum,
    Usage,
)

# A checkout that is not installed is found too, from whatever folder.
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "160"}

SITE = "layers.7.mlp.neurons"
FIRST = FeatureId("smollm2-135m", SITE, 3)
SECOND = FeatureId("smollm2-135m", SITE, 13, negative=True)
HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold red]evil[/bold red] \u202egnp\u200b \x9b31m"


def example(pool: Pool, stratum: str, tokens: tuple[str, ...], *activations: float) -> Example:
    return Example(tokens, activations, f"{pool.value}-{stratum}", 0, stratum, 1.0)


def split(pool: Pool) -> Split:
    firing = (
        example(pool, "top", ("The", " seven", " \x1b[31mred", "\n"), 0.0, 9.0, 7.5, 0.0),
        example(pool, "q5", (" two", " [bold]", " cats"), 4.0, 0.0, 0.5),
    )
    silent = (example(pool, "silent", ("no", " digit"), 0.0, 0.0),)
    strata = tuple(Stratum(name, 1, 1) for name in ("top", "q5", "silent"))
    return Split(pool, 1.0, firing, silent, strata)


def record_of(feature: FeatureId) -> FeatureRecord:
    return FeatureRecord(
        feature,
        split(Pool.TRAIN),
        split(Pool.DEV),
        split(Pool.TEST),
        density=0.01,
        threshold=1.0,
        threshold_rule="99th percentile of 50000 train tokens",
        peak=9.0,
        mean=0.1,
        std=0.5,
        n_tokens=1000,
        kind=Kind.TOKEN,
        provenance={"corpus": "default 1234"},
    )


def simulated(feature: FeatureId, explainer: str, value: float) -> Score:
    test = split(Pool.TEST)
    right, wrong = test.firing
    predictions = (
        Prediction("test-top:0", "top", 1.0, "test-top", right.activations, (0.0, 10.0, 8.0, 0.0),
                   "tenths", right.tokens),
        Prediction("test-q5:0", "q5", 1.0, "test-q5", wrong.activations, (0.0, 0.0, 10.0),
                   "tenths", wrong.tokens),
        Prediction("test-silent:0", "silent", 1.0, "test-silent", (0.0, 0.0), (), "tenths",
                   ("no", " digit"), "parse", HOSTILE),
    )  # fmt: skip
    return Score(
        feature, explainer, "simulation", "logprob", "weighted Pearson over tokens", "local",
        value=value, low=value - 0.1, high=value + 0.1, null=0.05, lift=0.4, p=0.02, n=2,
        n_failed=1, failures={"parse": 1}, measures={"spearman": Measure(0.3)},
        predictions=predictions, usage=Usage(calls=3, cost=0.002, seconds=1.5),
    )  # fmt: skip


def fill(store: Store, config: RunConfig) -> Run:
    """One run: two features, two explainers, a failure."""
    run = store.begin_run(config, versions={"smollm2-135m": "abc"})
    for feature in (FIRST, SECOND):
        store.put_record(run.collection, record_of(feature))
    said = Explanation(FIRST, f"numbers {HOSTILE}", "max-act", "local", "max-act-1",
                       usage=Usage(calls=1, cost=0.001, seconds=0.5))  # fmt: skip
    store.put_explanation(run.id, said)
    store.put_explanation(run.id, Explanation(FIRST, "seven, two", "unigram"))
    store.put_explanation(
        run.id, Explanation(SECOND, "", "max-act", abstained="fires in no training text")
    )
    store.put_score(run.id, simulated(FIRST, "max-act", 0.6))
    store.put_score(run.id, simulated(FIRST, "unigram", 0.5))
    store.put_score(
        run.id,
        Score(FIRST, "max-act", "detection", value=None, note="needs both kinds of text",
              predictions=(Prediction("test-q5:0", "q5", 1.0, "test-q5", (1.0,), (0.1,),
                                      "probability", (" two", " [bold]", " cats")),)),
    )  # fmt: skip
    store.put_failure(run.id, SECOND, "score", "unigram/simulation", "refused", HOSTILE)
    store.finish_run(run.id, RunStatus.SOME_FAILED)
    return store.run(run.id)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds one run: two features, two explainers, a failure."""
    folder = tmp_path_factory.mktemp("planted")
    with open_store(f"sqlite:///{folder}/glossator.db") as store:
        fill(store, RunConfig())
    return folder


def glossator(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in `folder`."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "glossator", *arguments],
        cwd=folder,
        env={**ENVIRON, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """The command in this process: the same but for the last step, and a second faster."""

    def __init__(self, patch: pytest.MonkeyPatch, printed: pytest.CaptureFixture[str]) -> None:
        self._patch, self._printed = patch, printed
        # The command sets these where they are not set; here they are to be put back.
        for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
            patch.setenv(name, os.environ.get(name, "1" if "HF" in name else "critical"))
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("COLUMNS", "160")

    def __call__(self, *arguments: str, folder: Path) -> Said:
        self._patch.chdir(folder)
        self._printed.readouterr()
        code = call(arguments)
        return Said(code, *self._printed.readouterr())

    def document(self, *arguments: str, folder: Path) -> Any:
        """What `--json` printed."""
        done = self("--json", *arguments, folder=folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


# Starting


def test_help_and_version_load_none_of_the_heavy_packages(tmp_path: Path) -> None:
    script = (
        "import sys; from glossator.cli.app import call; code = call(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'pandas', 'openai', 'anthropic', 'sqlalchemy', 'numpy'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=ENVIRON,
        )
        assert done.stdout.splitlines()[-1] == "0 []", arguments


def test_no_command_prints_the_help_and_is_a_usage_error(tmp_path: Path) -> None:
    done = glossator(folder=tmp_path)
    assert done.returncode == 2
    for command in ("run", "collect", "explain", "score", "list", "show", "export", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runn"], "run"),
        (["run", "--modle", "x"], "--model"),
        (["run", "--tokens"], "--tokens"),
        (["run", "--budget", "much"], "budget"),
        (["show"], "'feature'"),
        (["--store"], "--store needs a value"),
        (["run", "--tokens", "many"], "200k"),
        (["run", "--window", "4096"], "ctx"),
        (["run", "--seed", "-1"], "seed is at least 0"),
    ],
)  # fmt: skip
def test_a_mistyped_command_line_is_exit_2_in_at_most_two_lines(
    command: Command, arguments: list[str], told: str, tmp_path: Path
) -> None:
    done = command(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_global_options_are_understood_before_and_behind_the_command() -> None:
    assert hoisted(["list", "--limit", "3", "--json", "--store", "sqlite:///x.db", "-v"]) == [
        *("--json", "--store", "sqlite:///x.db", "-v"),
        *("list", "--limit", "3"),
    ]
    assert hoisted(["show", "--", "--json"]) == ["show", "--", "--json"]
    assert hoisted(["--seed=3", "run"]) == ["--seed=3", "run"]


def test_every_option_of_a_run_fills_a_field_that_exists() -> None:
    known = {*option_names(RunConfig), *option_names(RunLimits), "dry_run", "fresh"}
    assert {option.name for option in RUN_OPTIONS} <= known


# Config files


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("modle: x\n", "model"),
        ("tokens: [1\n", "not YAML"),
        ("- tokens\n", "holds no options"),
        ("store: 3\n", "store is a text"),
        ("ctx: wide\n", "ctx is a whole number"),
        ("scorer: simulation\nscorers: [detection]\n", "twice"),
        ("quiet: 1\n", "quiet is true or false"),
        ("batches: 3\n", "no option 'batches'"),
    ],
)
def test_a_bad_config_file_is_refused_with_its_name(
    command: Command, content: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    done = command("run", "--config", "mine.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_missing_config_file_is_a_usage_error(command: Command, tmp_path: Path) -> None:
    done = command("--config", "none.yaml", "list", folder=tmp_path)
    assert (done.returncode, "none.yaml" in done.stderr) == (2, True)


def test_the_store_of_the_config_file_gives_way_to_that_of_the_flag(
    planted: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("store: sqlite:///elsewhere.db\njson: true\n")
    store = f"sqlite:///{planted}/glossator.db"
    done = glossator("--config", "mine.yaml", "list", "--store", store, folder=tmp_path)
    assert json.loads(done.stdout)["run"] == "r1"


# Reading results


def test_commands_that_read_make_no_store(command: Command, tmp_path: Path) -> None:
    for arguments in (["list"], ["show", "x/1"], ["export", "a.csv"], ["report"]):
        done = command(*arguments, folder=tmp_path)
        assert done.returncode == 2
        assert "there is no store" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_shows_value_interval_null_p_and_q_of_each_score(planted: Path) -> None:
    done = glossator("list", folder=planted)
    assert done.returncode == 0
    for shown in (f"{SITE}/3", "0.60 [0.50, 0.70]", "null 0.05", "p 0.02", "q 0.02", "$0.0030"):
        assert shown in done.stdout
    assert "abstained: fires in no training text" in done.stdout
    assert "3 explanations" in done.stderr


def test_on_a_narrow_terminal_no_figure_is_cut_off(
    command: Command, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = command("list", folder=planted)
    assert "simulation: 0.60 [0.50, 0.70], null 0.05 p 0.02 q 0.02" in done.stdout
    assert "$0.0030, 2.0 s" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_list_as_json_is_one_document_with_the_stored_numbers(
    command: Command, planted: Path
) -> None:
    rows = command.document("list", folder=planted)["results"]
    assert [row["explainer"] for row in rows] == ["max-act", "unigram", "max-act"]
    score = rows[0]["scores"]["simulation"]
    assert (score["value"], score["low"], score["p"], score["n_failed"]) == (0.6, 0.5, 0.02, 1)
    assert rows[0]["scores"]["detection"]["value"] is None
    assert rows[0]["cost"] == pytest.approx(0.003)


def test_list_sorts_filters_and_cuts(command: Command, planted: Path) -> None:
    def explainers(*arguments: str) -> list[str]:
        found = command.document("list", *arguments, folder=planted)["results"]
        return [f"{row['explainer']}/{row['feature'].rpartition('/')[2]}" for row in found]

    assert explainers("--sort", "simulation") == ["unigram/3", "max-act/3", "max-act/13-"]
    assert explainers("--sort", "-simulation.high", "--limit", "1") == ["max-act/3"]
    assert explainers("--explainer", "unigram") == ["unigram/3"]
    assert explainers("--feature", "neurons/13") == ["max-act/13-"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--sort", "simulatoin"], "did you mean simulation"),
        (["list", "--run", "r9"], "there are: r1"),
        (["list", "--explainer", "max"], "max-act"),
        (["show", f"{SITE}/4"], str(FIRST)),
        (["show", "layers.8.mlp.neurons/3"], str(FIRST)),
        (["export", "../x.csv"], "without '..'"),
        (["export", "x.csv", "--format", "xls"], "parquet"),
    ],
)
def test_an_unknown_name_is_answered_with_the_near_ones(
    command: Command, planted: Path, arguments: list[str], told: str
) -> None:
    done = command(*arguments, folder=planted)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


NEURONS = "layers.10.mlp.neurons"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose run has summaries of four features, and no explanation."""
    folder = tmp_path_factory.mktemp("collected")
    plain = FeatureSummary.of(record_of(FIRST))
    place = {"position_information": 0.31, "position_p": 1e-20, "token_share": 0.1}
    more: list[tuple[FeatureId, dict[str, Any]]] = [
        (FeatureId("m", NEURONS, 2), {"kind": Kind.POSITIONAL, "peak": 3.0, "evidence": place}),
        (FeatureId("m", "layers.9.mlp.neurons", 2), {"density": 0.25, "kind": Kind.DENSE}),
        (FeatureId("m", NEURONS, 1), {"kind": Kind.SUPPRESSING, "evidence": {"suppression_z": -5}}),
        (FeatureId("m", NEURONS, 0), {"kind": Kind.DEAD, "density": 0.0, "peak": 0.0}),
    ]
    with open_store(f"sqlite:///{folder}/glossator.db") as store:
        run = store.begin_run(RunConfig())
        rows = [dataclasses.replace(plain, feature=feature, **new) for feature, new in more]
        store.put_summaries(run.collection, rows)
    return folder


def test_list_keeps_the_results_of_a_kind(command: Command, planted: Path) -> None:
    assert len(command.document("list", "--kind", "token", folder=planted)["results"]) == 3
    assert command.document("list", "--kind", "positional", folder=planted)["results"] == []


def test_list_shows_what_was_collected_and_why_it_is_of_its_kind(
    command: Command, collected: Path
) -> None:
    done = command("list", "--collected", folder=collected)
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if f"{NEURONS}/2" in line)
    for shown in ("positional", "1.000%", "3.00", "position_information 0.31, position_p 1e-20"):
        assert shown in row
    assert "suppression_z -5" in done.stdout
    assert "4 features collected: 1 dead, 1 positional, 1 dense, 1 suppressing" in done.stderr
    short = command("list", "--collected", "--limit", "3", folder=collected)
    assert "3 of them are shown" in short.stderr


def test_list_filters_sorts_and_cuts_what_was_collected(command: Command, collected: Path) -> None:
    def found(*arguments: str) -> list[str]:
        rows = command.document("list", "--collected", *arguments, folder=collected)["collected"]
        return [
            row["feature"].removeprefix("m//layers.").replace(".mlp.neurons", "") for row in rows
        ]

    assert found() == ["10/2", "9/2", "10/1", "10/0"]
    assert found("--kind", "positional") == ["10/2"]
    assert found("--kind", "dead", "--kind", "dense") == ["9/2", "10/0"]
    assert found("--sort", "feature") == ["9/2", "10/0", "10/1", "10/2"]
    assert found("--sort", "kind") == ["10/0", "9/2", "10/2", "10/1"]
    assert found("--sort", "-density", "--limit", "1") == ["9/2"]
    assert found("--sort", "peak", "--limit", "2") == ["10/0", "10/2"]
    assert found("--feature", "neurons/2") == ["10/2", "9/2"]


def test_a_run_without_explanations_is_listed_by_what_it_collected(
    command: Command, collected: Path
) -> None:
    document = command.document("list", folder=collected)
    assert document["results"] == []
    first = document["collected"][0]
    assert (first["feature"], first["kind"], first["n_tokens"]) == (
        *(f"m//{NEURONS}/2", "positional"),
        1000,
    )
    assert first["evidence"]["position_p"] == 1e-20
    assert "4 features collected" in command("list", folder=collected).stderr


def test_what_was_collected_is_listed_beside_explanations_when_asked_for(
    command: Command, planted: Path
) -> None:
    document = command.document("list", "--collected", folder=planted)
    assert [row["feature"] for row in document["collected"]] == [str(FIRST), str(SECOND)]
    assert "results" not in document


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "tokens"], "there are: dead, token, n-gram, positional, dense, suppressing"),
        (["--collected", "--sort", "simulation"], "density"),
        (["--collected", "--scorer", "simulation"], "not --collected"),
    ],
)
def test_what_list_cannot_do_with_what_was_collected_is_told(
    command: Command, collected: Path, arguments: list[str], told: str
) -> None:
    done = command("list", *arguments, folder=collected)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_whose_process_was_stopped_is_listed_as_interrupted(
    command: Command, tmp_path: Path
) -> None:
    def listed() -> list[str]:
        told = json.loads(command("list", "--runs", "--json", folder=tmp_path).stdout)
        return [run["status"] for run in told["runs"]]

    with open_store(f"sqlite:///{tmp_path}/glossator.db") as store:
        run = store.begin_run(RunConfig()).id
        with store.working_on(run):
            assert listed() == ["running"]
        assert listed() == ["interrupted"]
        assert store.run(run).status is RunStatus.RUNNING  # Only whoever works on it writes that.
        with store.working_on(run):
            assert listed() == ["running"]


def test_list_runs_tells_how_each_run_ended(command: Command, planted: Path) -> None:
    (run,) = command.document("list", "--runs", folder=planted)["runs"]
    assert (run["run"], run["status"], run["config"]["model"]) == (
        *("r1", "some failed"),
        "smollm2-135m",
    )


def test_show_marks_firing_tokens_and_sets_predictions_beside_what_was_real(
    command: Command, planted: Path
) -> None:
    done = command("show", f"{SITE}/3", folder=planted)
    assert done.returncode == 0
    assert "The <<seven \u241b[31mred>>\u23ce" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    at = lines.index(["token", "\u00b7two", "\u00b7[bold]", "\u00b7cats"])
    assert lines[at + 1] == ["real", "4.0", ".", "0.5"]
    assert lines[at + 2] == ["predicted", ".", ".", "10.0"]
    for shown in ("1 failed: 1 parse", "99th percentile", "default 1234", "max-act-1", "spearman"):
        assert shown in done.stdout
    worst, best = done.stdout.index("\u00b7cats"), done.stdout.index("\u00b7seven")
    assert worst < best


def test_show_finds_a_feature_by_the_end_of_its_id(command: Command, planted: Path) -> None:
    for text in (str(SECOND), f"{SITE}/13-", "neurons/13-", "13-"):
        assert command.document("show", text, folder=planted)["feature"] == str(SECOND)


def test_an_ambiguous_feature_is_answered_with_all_it_may_mean() -> None:
    other = FeatureId("other/model", SITE, 3)
    assert matching(f"{SITE}/3", [FIRST, SECOND, other]) == [other, FIRST]
    assert matching(str(FIRST), [FIRST, SECOND, other]) == [FIRST]
    assert nearest_features(f"{SITE}/33", [SECOND, FIRST])[0] == str(FIRST)


def test_export_writes_what_the_store_holds(
    command: Command, planted: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scores.jsonl"
    assert command.document("export", str(path), folder=planted) == {"files": [str(path)]}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["scorer"] for row in rows} == {"simulation", "detection", None}


# Terminals


@pytest.mark.parametrize("arguments", [["list"], ["show", f"{SITE}/3"], ["show", "13-"]])
def test_nothing_that_others_wrote_reaches_the_terminal_as_a_command(
    planted: Path, arguments: list[str]
) -> None:
    # FORCE_COLOR makes rich write its own colours, so that markup would show if it were read.
    for environ in ({}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}):
        done = glossator(*arguments, folder=planted, **environ)
        assert done.returncode == 0, done.stderr
        for foreign in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\u200b", "\x9b", "\x1b[31m"):
            assert foreign not in done.stdout
        if environ == {} and "13-" not in arguments:
            assert "\x1b" not in done.stdout
            assert "red]evil[/bold" in "".join(done.stdout.split())


def test_visible_text_is_printable_and_leaves_plain_text_alone() -> None:
    assert visible("a caf\u00e9 \u4e2d") == "a caf\u00e9 \u4e2d"
    assert visible("a\tb\nc\x1b") == "a\u21e5b\u23cec\u241b"
    assert visible("\x00\x9b\u200d\ud800\U000e0041") == "\\u0000\\u009b\\u200d\\ud800\\U000e0041"


def test_a_pipe_that_closes_early_leaves_no_traceback(planted: Path) -> None:
    line = f"{sys.executable} -m glossator show {SITE}/3 --quiet | true"
    done = subprocess.run(
        line, shell=True, cwd=planted, capture_output=True, text=True, timeout=60, env=ENVIRON
    )
    assert done.stderr == ""


def test_adjacent_firing_tokens_are_marked_as_one() -> None:
    assert marked((" New", " York", " is"), (2.0, 3.0, 0.0), 1.0) == " <<New York>> is"
    assert marked(("a", "b"), (0.0, 2.0), 1.0) == "a<<b>>"


def test_the_worst_misses_come_first_whatever_the_unit() -> None:
    def made(key: str, actual: float, predicted: float, scale: str) -> Prediction:
        return Prediction(key, "top", 1.0, key, (actual,), (predicted,), scale)

    odds = [made("a", 4.0, -3.0, "log-odds"), made("b", 4.0, 5.0, "log-odds")]
    assert [p.example for _, p in misses(odds)] == ["a", "b"]
    tenths = [made("a", 50.0, 9.0, "tenths"), made("b", 0.0, 8.0, "tenths")]
    assert [p.example for _, p in misses(tenths)] == ["b", "a"]


def test_predictions_keep_to_the_width_and_to_their_columns() -> None:
    tokens = tuple(f" word{i}" for i in range(30))
    values = tuple(float(i) for i in range(30))
    lines = beside(Prediction("k", "top", 1.0, "d", values, values, "raw", tokens), 60)
    assert max(map(len, lines)) <= 60
    assert " ".join(line[11:] for line in lines if line.startswith("token")).split() == [
        t.replace(" ", "\u00b7") for t in tokens
    ]


# Running. The pipeline here is scripted: how a run ends is the pipeline's to decide, and what the
# command makes of each ending is shown here without a model.


class Script(ModuleType):
    """Stands for `glossator.pipeline` and `estimate`: stores what `fill` stores, ends as told."""

    def __init__(self, stopped: GlossatorError | None = None, failed: int = 0) -> None:
        super().__init__("glossator.pipeline")
        self.stopped, self.failed = stopped, failed
        self.asked: list[tuple[Any, ...]] = []

    async def run(
        self, config: RunConfig, limits: RunLimits, store: Store, **more: Any
    ) -> SimpleNamespace:
        self.asked.append((config, limits, more["stages"], more["fresh"]))
        run = fill(store, config)
        if more["on_progress"]:
            more["on_progress"](going("explain", done=1, total=2, failed=self.failed))
        return SimpleNamespace(
            run=run, done=2, failed=self.failed, status=run.status, stopped=self.stopped,
            used=Usage(7, 2, 900, 30, 0.5), since=Usage(7, 2, 900, 30, 0.5),
        )  # fmt: skip

    def plan(
        self, config: RunConfig, limits: RunLimits, store: Store, stages: Any, *, fresh: bool
    ) -> Plan:
        units = {"explain": 12, "score": 24}
        unknown = Plan(12, units, 340, 51_000, 900, 700, None, None, 400.0, 1_500_000, 9_000_000,
                       ("local: no price",), 340, 51_000, 700, 400.0)  # fmt: skip
        return (
            dataclasses.replace(unknown, dollars_low=0.5, dollars_high=1.25, calls_high=990)
            if fresh
            else unknown
        )


@dataclass(frozen=True)
class Plan:
    features: int
    units: dict[str, int]
    calls: int
    prompt_tokens: int
    cache_read_tokens: int
    completion_tokens: int
    dollars_low: float | None
    dollars_high: float | None
    seconds: float
    disk_bytes: int
    download_bytes: int
    notes: tuple[str, ...]
    calls_high: int
    prompt_tokens_high: int
    completion_tokens_high: int
    seconds_high: float


def scripted(patch: pytest.MonkeyPatch, script: Script) -> Script:
    for name in ("pipeline", "estimate"):
        patch.setitem(sys.modules, f"glossator.{name}", script)
        patch.setattr(package, name, script, raising=False)
    return script


def test_a_run_ends_in_a_table_the_failures_and_the_command_for_the_page(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, Script(failed=1))
    done = command("run", "--features", "3", folder=tmp_path)
    assert done.returncode == 1
    assert "0.60 [0.50, 0.70]" in done.stdout
    assert "simulation: 1 of 1 explanations by max-act beat the unigram baseline" in done.stdout
    assert "Failed (1):" in done.stdout
    assert "The same command tries them again" in done.stdout
    assert "refused: \u241b[2J" in done.stdout
    assert "explain: 1/2, 1 failed" in done.stderr
    assert "glossator report r1 --out report.html" in done.stderr
    assert "In all 7 calls, 2 kept replies used again, 900 tokens in, 30 out, $0.50" in done.stderr


@pytest.mark.parametrize(
    ("stopped", "code"),
    [
        (None, 0),
        (ProviderRefused("the key is not valid; set OPENAI_API_KEY"), 3),
        (BudgetSpent("$1 of $1 is spent; a higher --budget goes on"), 4),
    ],
)
def test_json_of_a_run_is_one_document_and_the_rest_is_on_stderr(
    stopped: GlossatorError | None,
    code: int,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    scripted(monkeypatch, Script(stopped))
    done = command("run", "--json", "--quiet", folder=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == code
    assert (told["run"], told["done"], len(told["results"])) == ("r1", 2, 3)
    assert told["stopped"] == (None if stopped is None else str(stopped))
    assert done.stderr == ("" if stopped is None else f"glossator: {stopped}\n")


def test_flags_win_over_the_config_file_and_both_over_the_defaults(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = scripted(monkeypatch, Script())
    (tmp_path / "mine.yaml").write_text(
        "site: [layers.1.mlp.neurons, layers.2.mlp.neurons]\ntokens: 20k\nseed: 5\n"
        "n-scored: 8\nfresh: true\noffline: true\n"
    )
    arguments = ("--config", "mine.yaml", "--seed", "7", "--site", "layers.3.mlp.neurons")
    command("score", *arguments, "--budget", "2", folder=tmp_path)
    ((config, limits, stages, fresh),) = script.asked
    assert (config.sites, config.tokens, config.seed) == (("layers.3.mlp.neurons",), 20_000, 7)
    assert (config.n_scored, config.n_top) == (8, RunConfig().n_top)
    assert (limits.offline, limits.budget, stages, fresh) == (True, 2.0, ("score",), True)


def test_a_dry_run_prints_the_plan_and_leaves_nothing_behind(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, Script())
    done = command("run", "--dry-run", folder=tmp_path)
    assert "51,000, 900 of them cached" in done.stdout
    assert "explain 12, score 24" in done.stdout
    assert "unknown: no price is known" in done.stdout
    assert "6m 40s" in done.stdout
    assert "1.5 MB, and 9 MB to fetch" in done.stdout
    ranged = command("run", "--dry-run", "--fresh", folder=tmp_path).stdout
    assert "$0.5000 to $1.25" in ranged
    assert "340 to 990" in ranged
    assert " to " not in done.stdout.replace("left to do", "").replace("to fetch", "")
    plan = command.document("run", "--dry-run", folder=tmp_path)
    assert (plan["calls"], plan["dollars_low"], plan["dollars_high"]) == (340, None, None)
    assert list(tmp_path.iterdir()) == []


# Progress


def going(
    stage: str = "score", done: int = 0, total: int = 0, failed: int = 0, note: str = "",
    **used: Any,
) -> Progress:  # fmt: skip
    return Progress(stage, done, total, failed, Usage(**used), note)


def test_what_was_done_before_a_stage_began_is_not_counted_as_speed() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.line(going(done=50, total=100)) == "score: 50/100"
    now[0] = 110.0
    line = pace.line(going(done=60, total=100, failed=2, note="x\x1b[2J"))
    assert line == "score: 60/100, 1/s, 40s left, 2 failed, x\u241b[2J"
    assert pace.line(going("explain", done=3)) == "explain: 3"


def test_what_is_spent_is_shown_with_what_the_pace_will_make_of_it() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    before: dict[str, Any] = {
        "calls": 100,
        "prompt_tokens": 5000,
        "completion_tokens": 10,
        "cost": 1.0,
    }
    assert "$1.00 spent" in pace.line(going(done=50, total=100, **before))
    now[0] = 110.0
    line = pace.line(
        going(
            done=60, total=100, calls=112, cached_calls=3, prompt_tokens=12_345,
            cache_read_tokens=2000, completion_tokens=950, cost=1.25,
        )
    )  # fmt: skip
    assert line == (
        "score: 60/100, 1/s, 40s left, 112 calls, 12.3k tokens in (2k cached), 950 out, "
        "3 kept replies, $1.25 spent (about $2.25 at the end of this stage)"
    )
    # Other work begins with its own pace, and what was spent before stays in the sum.
    assert "about" not in pace.line(going("other", done=0, total=10, calls=112, cost=1.25))
    now[0] = 120.0
    assert "(about $2.25 at" in pace.line(going("other", done=5, total=10, calls=150, cost=1.75))


def test_an_unknown_cost_is_said_and_a_free_one_is_nought() -> None:
    pace = Pace(lambda: 0.0)
    pace.line(going(total=10))
    assert pace.line(going(done=5, total=10, calls=3, cost=None)).endswith("cost unknown")
    assert pace.line(going(done=5, total=10, calls=3)).endswith("3 calls, $0 spent")
    assert "spent" not in pace.line(going(done=5, total=10))


def test_the_last_line_says_all_that_was_used() -> None:
    used = Usage(12, 3, 10_000, 500, 1.5, 9.0, 4000, 100, 20)
    assert spent_line(used) == (
        "In all 12 calls, 3 kept replies used again, 10,000 tokens in (4,000 from the provider's "
        "cache, 100 written to it), 500 out (20 of thinking), $1.50."
    )
    assert "unknown cost" in spent_line(Usage(12, cost=None))
    assert spent_line(Usage()) == "No language model was asked."
    assert spent_line(used, used) == spent_line(used)
    assert spent_line(used, Usage()) == "This time 0 calls, $0. " + spent_line(used)
    some = spent_line(used, Usage(5, cost=None))
    assert some == "This time 5 calls, unknown cost. " + spent_line(used)


def test_plain_progress_is_a_line_for_each_stage_its_end_and_now_and_then() -> None:
    now, stream = [0.0], StringIO()
    report = PlainLines(stream, lambda: now[0], every=10.0)
    for step in range(21):
        now[0] = float(step)
        report(going(done=step, total=20))
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "score: 0/20",
        "score: 10/20",
        "score: 20/20",
    ]


def test_durations_name_their_two_largest_units() -> None:
    assert [duration(s) for s in (4.4, 75, 3600 * 5 + 61)] == ["4s", "1m 15s", "5h 01m"]


# Errors and interrupts


def test_a_group_of_our_own_errors_is_told_as_one_and_a_bug_among_them_is_not() -> None:
    spent = BudgetSpent("no more")
    assert only_cause(BaseExceptionGroup("", [BaseExceptionGroup("", [spent])])) is spent
    assert only_cause(BaseExceptionGroup("", [spent, ValueError("bug")])) is None


@pytest.mark.parametrize("error", [ConfigError("x"), BudgetSpent("x")])
def test_the_exit_code_of_a_run_is_that_of_what_stopped_it(error: GlossatorError) -> None:
    outcome: Any = SimpleNamespace(stopped=error, failed=3, status=RunStatus.DONE)
    assert exit_code(outcome) == error.exit_code


def test_a_run_with_failed_features_ends_with_1_and_a_good_one_with_0() -> None:
    for failed, code in ((0, 0), (2, 1)):
        outcome: Any = SimpleNamespace(stopped=None, failed=failed, status=RunStatus.DONE)
        assert exit_code(outcome) == code


def test_a_bug_is_one_line_with_exit_1_and_a_traceback_with_v(tmp_path: Path) -> None:
    script = (
        "import sys; from glossator.cli import app; import glossator.cli.session as session\n"
        "def broken(*_): raise ZeroDivisionError('by nought')\n"
        "session.Session.open_store = broken; app.main()"
    )
    for more, traceback in (([], False), (["-v"], True)):
        done = subprocess.run(
            [sys.executable, "-c", script, "list", *more],
            capture_output=True, text=True, timeout=60, env=ENVIRON, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 1
        assert "ZeroDivisionError: by nought" in done.stderr
        assert ("Traceback" in done.stderr) is traceback
        assert traceback or "again with -v" in done.stderr


_DRAINING = """
import asyncio, sys
from glossator.cli.interrupts import Interrupted, finish_or_drain

async def work():
    print("working", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep({drain})
        print("drained", flush=True)

try:
    finish_or_drain(work())
except Interrupted:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_lets_what_is_in_flight_end(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DRAINING.format(drain=0.2)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "drained\n")
    assert "Ctrl-C again stops at once" in err


def test_a_thread_that_reads_text_ends_at_its_next_report_once_asked() -> None:
    asked = threading.Event()
    seen: list[Any] = []
    report = unless(asked, seen.append)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(report, going("read", done=1)).result()
        asked.set()
        with pytest.raises(Interrupted):
            threads.submit(report, going("read", done=2)).result()
    report(going("score", done=3))
    assert [progress.done for progress in seen] == [1, 3]


def test_a_second_interrupt_stops_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DRAINING.format(drain=50)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        while "Stopping" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")


# Doctor


def test_doctor_tells_what_is_there_without_showing_a_key_or_making_a_store(
    tmp_path: Path,
) -> None:
    done = glossator(
        *("doctor", "--offline", "--json"), folder=tmp_path,
        OPENAI_API_KEY="sk-secret-123", GLOSSATOR_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sk-secret-123" not in done.stdout + done.stderr
    states = {(f["area"], f["name"]): f for f in json.loads(done.stdout)["findings"]}
    assert states["keys", "OPENAI_API_KEY"]["state"] == "ok"
    assert states["assets", "smollm2-135m"]["state"] == "waiting"
    assert "first use" in states["assets", "smollm2-135m"]["advice"]
    assert states["store", "sqlite:///glossator.db"]["state"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_doctor_ends_with_2_if_the_store_is_broken(command: Command, tmp_path: Path) -> None:
    (tmp_path / "glossator.db").write_text("this is no database" * 100)
    done = command("doctor", "--offline", folder=tmp_path)
    assert done.returncode == 2
    assert "broken" in done.stdout
    assert "not a SQLite database" in done.stdout


def test_an_address_with_a_login_is_told_by_its_host_alone() -> None:
    finding = _reached("package index", "http://me:secret@127.0.0.1:1/simple", "no files")
    assert finding.state == "optional"
    assert "127.0.0.1 cannot be reached" in finding.detail
    assert "secret" not in finding.detail
