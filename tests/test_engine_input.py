"""What `glossator collect` is given by mistake: one clear line, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import pickle
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glossator.cli.app import call
from glossator.sae.saving import save_saelens
from glossator.store import open_store
from glossator.types import FeatureRecord, Pool
from tests.collect_child import coder
from tests.tiny_llama import save_tiny_llama, some_texts

SITE = "layers.1.resid_post"


pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a text, and coders for it, some of them broken."""
    folder = tmp_path_factory.mktemp("input")
    save_tiny_llama(folder / "model")
    lines = [json.dumps({"text": text}) for text in some_texts(120)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    good = replace(coder(), site=SITE)
    save_saelens(good, folder / "coder", torch.float32)
    save_saelens(coder(d_in=12), folder / "narrow", torch.float32)
    spoilt = save_saelens(good, folder / "spoilt", torch.float32)
    from safetensors.torch import load_file, save_file

    weights = load_file(spoilt)
    weights["W_enc"][3, 5] = torch.nan
    save_file(weights, spoilt)
    (folder / "pickled").mkdir()
    with (folder / "pickled" / "sae.pt").open("wb") as file:
        pickle.dump({"W_enc": [[1.0]]}, file)
    (folder / "file").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("mine")
    return folder


def typed(place: Path, *more: str) -> list[str]:
    return [
        *("collect", "--model", str(place / "model"), "--corpus", str(place / "text.jsonl")),
        *("--features", "0-2", "--tokens", "3k", "--ctx", "64", "--window", "16"),
        *("--calibration-tokens", "500", "--device", "cpu", "--dtype", "float32"),
        *("--offline", "--quiet", *more),
    ]


MISTAKES = {
    "a site that is not there": (
        ["--site", "layers.1.resid_pots"], ["resid_pots", "resid_post"],
    ),
    "a layer that is not there": (["--site", "layers.7.mlp.neurons"], ["layers.7"]),
    "a feature that is not there": (["--site", SITE, "--features", "99"], ["0 to 15", "99"]),
    "a coder of another width": (
        ["--sae", "{}/narrow", "--site", SITE], ["narrow", "12", "16"],
    ),
    "a coder without a site": (["--sae", "{}/narrow"], ["--site"]),
    "a coder with NaN weights": (["--sae", "{}/spoilt"], ["W_enc"]),
    "a pickled coder": (["--sae", "{}/pickled"], ["pickle"]),
    "a pickled file": (["--sae", "{}/pickled/sae.pt"], ["no coder's weight file"]),
    "a coder that is not there": (["--sae", "{}/nowhere"], ["nowhere"]),
    "a latent below zero": (["--sae", "{}/coder", "--features", "5-"], ["negative"]),
    "a latent that is not there": (["--sae", "{}/coder", "--features", "20"], ["0 to 19", "20"]),
    "the default coder on another model": (["--sae", "default"], ["default", "layers.14"]),
    "the default coder at another width": (
        ["--sae", "default", "--site", SITE], ["576", "16"],
    ),
    "a direction nobody stored": (
        ["--sae", "direction:nope", "--site", SITE], ["nope"],
    ),
    "a ctx beyond the model's": (["--site", SITE, "--ctx", "512"], ["512", "511"]),
    "a window beyond the ctx": (["--site", SITE, "--window", "65"], ["65", "64"]),
    "a cache that is a file": (["--site", SITE, "--cache", "{}/file"], ["{}/file"]),
    "a cache that is something else": (["--site", SITE, "--cache", "{}/mine"], ["thesis.tex"]),
    "a corpus that is not there": (["--site", SITE, "--corpus", "{}/none.txt"], ["none.txt"]),
}  # fmt: skip


@pytest.fixture
def collected(place: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, FeatureRecord]:
    """The store of this test, with something in it."""
    assert call(typed(place, "--site", SITE, "--features", "4")) == 0
    capsys.readouterr()
    with open_store("sqlite:///glossator.db") as store:
        (run,) = store.runs()
        (record,) = store.records(run.collection)
    return run.collection, record


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_nothing_is_lost(
    mistake: str,
    place: Path,
    collected: tuple[str, FeatureRecord],
    capsys: pytest.CaptureFixture[str],
) -> None:
    collection, record = collected
    arguments, told = MISTAKES[mistake]
    code = call(typed(place, *(word.format(place) for word in arguments)))
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, ""), printed
    (line,) = printed.err.splitlines()
    assert line.startswith("glossator: ")
    for word in told:
        assert word.format(place) in line, line
    assert len(line) < 500
    with open_store("sqlite:///glossator.db") as store:
        assert list(store.records(collection)) == [record]
    assert (place / "file").read_text() == "mine"
    assert (place / "mine" / "thesis.tex").read_text() == "mine"


def test_a_folder_of_other_things_is_left_as_it_was(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    assert call(typed(place, "--site", SITE, "--cache", str(folder))) == 2
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


def test_after_a_mistake_the_right_command_works(place: Path) -> None:
    assert call(typed(place, "--sae", f"{place}/coder", "--features", "5-")) == 2
    assert call(typed(place, "--sae", f"{place}/coder", "--features", "5")) == 0
    assert call(typed(place, "--site", SITE, "--ctx", "600")) == 2
    assert call(typed(place, "--site", SITE, "--ctx", "500", "--cache", "mine")) == 0


# -- texts ----------------------------------------------------------------------------------------


def records(collection: int = -1) -> list[FeatureRecord]:
    with open_store("sqlite:///glossator.db") as store:
        return list(store.records(store.runs()[collection].collection))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\n", "holds no text"),
        (b"", "holds no text"),
        (b" \t \n", "holds no text"),
        (b"\xef\xbb\xbf\n", "holds no text"),
        (random.Random(0).randbytes(300_000), "no UTF-8"),
        (b"\x7fELF\x02\x01\x01" + bytes(4000), "train"),
        ("one line alone".encode("utf-16"), "no UTF-8"),
        (b"one line alone", "train"),
    ],
    ids=[
        "an empty line",
        "nothing",
        "blanks",
        "a mark",
        "noise",
        "zeros",
        "utf-16",
        "one document",
    ],
)
def test_a_text_that_cannot_be_read_is_refused(
    content: bytes, told: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("odd.txt").write_bytes(content)
    start = time.monotonic()
    code = call(typed(place, "--site", SITE, "--corpus", "odd.txt"))
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, ""), printed
    (line,) = printed.err.splitlines()
    assert told in line
    assert time.monotonic() - start < 30


def giant(kind: str) -> str:
    chance = random.Random(3)
    if kind == "words":
        return " ".join(f"{chance.choice(('river', 'sea', 'ship'))}{n}" for n in range(290_000))
    if kind == "no space":
        return "".join(chance.choices("abcdefghij", k=3_000_000))
    return "a" * 3_000_000


@pytest.mark.parametrize("kind", ["words", "no space", "one letter"])
def test_one_giant_line_is_read_or_refused_in_bounded_time(
    kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = giant(kind)
    assert len(text) >= 3_000_000
    Path("giant.txt").write_text(text)
    start = time.monotonic()
    code = call(typed(place, "--site", SITE, "--corpus", "giant.txt", "--tokens", "20k"))
    printed = capsys.readouterr()
    assert time.monotonic() - start < 45
    if code == 2:
        (line,) = printed.err.splitlines()
        assert "train" in line
        assert kind == "one letter"  # of which all pieces but two are duplicates
        return
    assert code == 0, printed.err
    for record in records():
        assert record.n_tokens > 15_000


ALPHABETS = {
    "Cyrillic": "река старый мост Париж сказал что война корабль плыл на север хлеб стоил два",
    "Chinese": "河 流 上 的 旧 桥 巴黎 说 战争 船 向 北 航行 国王 和 约翰 走 到 市场",
    "emoji": "🌊 🏰 🚢 👩‍👩‍👧‍👦 🇫🇷 ❤️ 🧑🏽‍🚀 1️⃣ 🐧 🌉",
    "Arabic and combining": "نهر جسر قديم باريس e\u0301 a\u0308 ﷽ \u200f שלום",
}


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_a_text_in_another_alphabet_is_read_and_shown_whole(alphabet: str, place: Path) -> None:
    words = ALPHABETS[alphabet].split()
    chance = random.Random(1)
    texts = [" ".join(chance.choices(words, k=30)) + f" {n}" for n in range(60)]
    Path("text.jsonl").write_text(
        "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts),
        encoding="utf-8",
    )
    assert call(typed(place, "--site", SITE, "--corpus", "text.jsonl", "--tokens", "8k")) == 0
    found = records()
    assert len(found) == 3
    shown = 0
    for record in found:
        for pool in Pool:
            for example in record.split(pool).examples:
                assert any("".join(example.tokens) in text for text in texts)
                assert "\ufffd" not in "".join(example.tokens)
                shown += 1
    assert shown > 50


def test_a_coder_at_another_site_than_its_own_is_told_of() -> None:
    from types import SimpleNamespace
    from typing import Any

    from glossator.reading import site_notice

    subject: Any = SimpleNamespace(expand=lambda site: [site])
    coder: Any = SimpleNamespace(name="mine", site="layers.14.resid_post")
    assert site_notice(["layers.14.resid_post"], subject, coder) == ""
    told = site_notice(["layers.3.resid_post"], subject, coder)
    assert "layers.14.resid_post" in told
    assert "layers.3.resid_post" in told
