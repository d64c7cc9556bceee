"""`glossator sae`: what is typed, what is printed, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from glossator.cli.app import call
from glossator.cli.sae import report_lines
from glossator.sae import load_coder
from glossator.sae.quality import CoderReport
from tests.tiny_llama import save_tiny_llama, some_texts

SITE = "layers.0.resid_post"


pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a corpus and a coder trained on them."""
    folder = tmp_path_factory.mktemp("sae")
    save_tiny_llama(folder / "model")
    lines = (json.dumps({"text": text}) for text in some_texts(200))
    (folder / "text.jsonl").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFORMERS_VERBOSITY", os.environ.get("TRANSFORMERS_VERBOSITY", "critical"))
        assert call(["--quiet", "sae", "train", *training(folder, folder / "coder")]) == 0
    return folder


def common(place: Path) -> list[str]:
    return [
        *("--model", str(place / "model"), "--corpus", str(place / "text.jsonl")),
        *("--device", "cpu", "--dtype", "float32", "--ctx", "32", "--offline"),
    ]


def training(place: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--site", SITE, "--out", str(out), "--latents", "24", "--k", "3", "--tokens", "2k"),
        *("--epochs", "1", "--batch", "128", *common(place), *more),
    ]


def test_train_says_on_stdout_where_the_coder_is_and_on_stderr_how_it_went(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["sae", "train", *training(place, tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'new'}\n"
    assert "read: " in printed.err
    assert "train: " in printed.err
    assert "FVU" in printed.err
    assert "glossator sae report" in printed.err


def test_train_gives_one_json_document_with_a_command_that_trains_the_same_coder(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "with space"
    assert call(["sae", "train", *training(place, out, "--seed", "3"), "--json", "-q"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    document = json.loads(printed.out)
    assert document["folder"] == str(out)
    assert document["digest"] == load_coder(str(out)).digest
    assert document["made"]["recipe"]["seed"] == 3
    typed = document["made"]["command"]
    import shlex

    words = shlex.split(typed)
    assert words[:3] == ["glossator", "sae", "train"]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert call([*words[1:], "-q"]) == 0
    assert load_coder(str(tmp_path / "again")).digest == document["digest"]


def test_report_is_read_from_its_own_json_and_printed_for_people(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["sae", "report", str(place / "coder"), "--tokens", "500", "--loss-tokens", "100"]
    assert call([*asked, *common(place), "--json", "-q", "--pool", "dev", "--pool", "test"]) == 0
    document = json.loads(capsys.readouterr().out)
    dev, test = (CoderReport.from_json(report) for report in document["reports"])
    assert (dev.pool, test.pool) == ("dev", "test")
    assert dev.site == SITE
    assert dev.tokens == 500
    assert dev.losses is not None
    assert document["coder"]["recipe"]["latents"] == 24
    assert "--pool dev --pool test" in document["command"]
    assert "torch" in document["versions"]
    assert call([*asked, *common(place), "-q"]) == 0
    assert capsys.readouterr().out.splitlines() == report_lines(dev)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--site", "layers.9.resid_post"], "no site 'layers.9.resid_post'"),
        (["--k", "25"], "k is from 1 to the number of latents, not 25 of 24"),
        (["--tokens", "many"], "not a number of tokens"),
        (["--tokens", "50"], "too few for one step of 128"),
        (["--architecture", "gated"], "'gated'"),
        (["--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--lr", "0"], "learning rate"),
    ],
)
def test_what_cannot_be_trained_ends_with_2_and_says_why(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    said: str,
) -> None:
    assert call(["sae", "train", *training(place, tmp_path / "out", *change), "-q"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert said in printed.err
    assert not (tmp_path / "out" / "cfg.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-there"], "no coder is called 'nothing-there'"),
        (["CODER", "--site", "layers.0.mlp.neurons"], "vectors of 16"),
        (["CODER", "--pool", "all"], "there are: train, dev, test"),
        (["CODER", "--tokens", "-3"], "not a number of tokens"),
    ],
)
def test_what_cannot_be_measured_ends_with_2_and_says_why(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    words = [str(place / "coder") if word == "CODER" else word for word in arguments]
    assert call(["sae", "report", *words, *common(place), "-q"]) == 2
    assert said in capsys.readouterr().err
