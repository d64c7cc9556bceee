"""Search by meaning: what is nearest, what is kept, and the lists that it narrows."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from glossator.embedder import Vectors, bundled
from glossator.meanings import Meanings
from glossator.store import open_store
from glossator.types import Explanation, Kind
from glossator.web.server.app import create_app
from tests.review_store import feature_of, fill, record_of
from tests.test_embedder import Letters
from tests.test_report import Page

HERE = "http://127.0.0.1:8321"
TEXTS = ["aaaa", "aaab", "bbbb", "cccc", "abab"]


class Counting(Letters):
    """Notes what it is asked to read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As `Letters` does."""
        self.read += texts
        return super().embed(texts)


def test_the_nearest_comes_first_with_its_cosine() -> None:
    near = Meanings(Letters()).near(list(enumerate(TEXTS)), "a")
    assert [row for row, _ in near.found] == [0, 1, 4, 2, 3]
    assert near.found[0][1] == pytest.approx(1.0)
    assert near.found[2][1] == pytest.approx(0.5**0.5)
    assert (near.n_read, near.n_texts) == (5, 5)


def test_a_row_is_as_near_as_the_nearest_of_its_texts() -> None:
    near = Meanings(Letters()).near([(7, "bbbb"), (8, "aabb"), (7, "aaaa")], "a")
    assert [row for row, _ in near.found] == [7, 8]
    assert near.found[0][1] == pytest.approx(1.0)


def test_each_text_is_read_once_also_by_another_process(tmp_path: Path) -> None:
    file, rows = tmp_path / "kept.npz", [*enumerate(TEXTS), (9, "aaaa")]
    first = Counting()
    found = Meanings(first, file).near(rows, "a").found
    assert first.read == [*TEXTS, "a"]
    again = Counting()
    kept = Meanings(again, file).near(rows, "a").found
    assert again.read == ["a"]
    assert [row for row, _ in kept] == [row for row, _ in found]
    assert np.allclose([c for _, c in kept], [c for _, c in found], atol=1e-3)


def test_a_search_reads_a_bounded_number_of_texts_and_the_next_reads_on() -> None:
    meanings = Meanings(Counting(), each=2)
    rows = list(enumerate(TEXTS))
    assert [meanings.near(rows, "a").n_read for _ in range(4)] == [2, 4, 5, 5]


def test_no_more_vectors_are_kept_than_said(tmp_path: Path) -> None:
    file = tmp_path / "kept.npz"
    meanings = Meanings(Letters(), file, most=3)
    assert meanings.near(list(enumerate(TEXTS)), "a").n_read == 3
    meanings.near([(0, "dddd"), (1, "eeee")], "a")
    with np.load(file) as kept:
        assert len(kept["digests"]) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x80\x04K\x01."])
def test_a_file_of_no_use_is_made_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "kept.npz"
    file.write_bytes(content)
    assert Meanings(Letters(), file).near([(1, "a")], "a").n_read == 1
    assert Meanings(Letters(), file).near([(1, "a")], "a").n_read == 1


def test_vectors_of_another_embedder_are_not_used(tmp_path: Path) -> None:
    other = Counting()
    other.name = "other"
    Meanings(other, tmp_path / "kept.npz").near([(1, "a")], "a")
    mine = Counting()
    Meanings(mine, tmp_path / "kept.npz").near([(1, "a")], "a")
    assert mine.read == ["a", "a"]


def test_what_cannot_be_kept_is_found_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "kept.npz"
    assert Meanings(Letters(), file).near([(1, "a")], "a").n_read == 1


def test_real_meanings_are_told_apart() -> None:
    rows = [(1, "names of rivers"), (2, "opening brackets in code"), (3, "words about money")]
    near = Meanings(bundled(offline=True)).near(rows, "Danube, Seine and other streams of water")
    assert near.found[0][0] == 1


# --- the list -------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    url = f"sqlite:///{tmp_path}/results.db"
    with open_store(url) as store:
        run = fill(store, 0).id
        for number, text in enumerate(TEXTS):
            kind = Kind.TOKEN if number % 2 else Kind.NGRAM
            record = record_of(feature_of(number), kind)
            store.put_record("key", record)
            store.put_explanation(run, Explanation(record.feature, text, "max-act"))
    with TestClient(create_app(url, embedder=Letters()), base_url=HERE) as made:
        yield made


def listed(client: TestClient, query: str) -> list[str]:
    page = Page(client.get(f"/features?{query}").text)
    rows = [a["href"] for a in page.all("a") if re.match(r"/features/\d+\?", a["href"])]
    return [TEXTS[int(re.findall(r"\d+", href)[0]) - 1] for href in rows]


def test_the_list_is_in_the_order_of_nearness(client: TestClient) -> None:
    assert listed(client, "like=a") == ["aaaa", "aaab", "abab", "bbbb", "cccc"]
    assert listed(client, "like=a&limit=2") == ["aaaa", "aaab"]
    assert "nearest in meaning to a" in Page(client.get("/features?like=a").text).text


def test_meaning_and_filters_hold_together(client: TestClient) -> None:
    assert listed(client, "like=a&kind=token") == ["aaab", "cccc"]
    assert listed(client, "like=a&limit=2&sort=-id") == ["aaab", "aaaa"]
    assert listed(client, "like=a&q=nothing") == []


def test_what_is_exported_is_what_is_listed(client: TestClient) -> None:
    reply = client.get("/features/export.csv?like=b&limit=3")
    texts = [row["explanation"] for row in csv.DictReader(io.StringIO(reply.text))]
    assert texts == listed(client, "like=b&limit=3") == ["bbbb", "abab", "aaab"]


def test_pages_that_need_no_model_load_none() -> None:
    said = (
        "import sys; from glossator.web.server.app import create_app; "
        "create_app('sqlite:///x.db'); print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
