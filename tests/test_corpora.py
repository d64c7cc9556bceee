"""Corpora: local files, memory, the hub's errors, the cleaning of passages, the default corpus."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets import corpora
from glossator.datasets.bigbench import clean, is_english, passages, source_of
from glossator.datasets.corpora import Corpus, default_corpus, load_corpus
from glossator.datasets.default_corpus import _kept
from glossator.datasets.hub import parse_spec
from glossator.datasets.pools import SHARED_RUN, normalised
from glossator.errors import AssetError, CorpusError
from glossator.types import Pool

TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks/"
PROSE = "It was the best of times and it was the worst of times, and this is what they said of it."


def texts_of(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus]


def test_a_corpus_is_the_same_each_time_it_is_read() -> None:
    corpus = Corpus.of([f"text {i}" for i in range(50)])
    assert list(corpus) == list(corpus)
    assert corpus.n_documents == len(list(corpus)) == 50
    assert texts_of(corpus) == [f"text {i}" for i in range(50)]


def test_texts_that_differ_only_in_case_and_marks_are_one_document() -> None:
    corpus = Corpus.of(["Hello, World", "hello world!", "other"])
    assert texts_of(corpus) == ["Hello, World", "other"]
    assert corpus.n_duplicates == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_no_run_of_100_characters_is_in_two_pools(seed: int) -> None:
    rng = random.Random(seed)
    quotations = ["".join(rng.choice("abcdef gh") for _ in range(200)) for _ in range(3)]
    corpus = Corpus.of(
        f"{rng.random()} {rng.choice(quotations)[rng.randint(0, 90) :]} {rng.random()}"
        for _ in range(15)
    )
    runs: dict[str, set[Pool]] = {}
    for document in corpus:
        text = normalised(document.text)
        for i in range(len(text) - SHARED_RUN + 1):
            runs.setdefault(text[i : i + SHARED_RUN], set()).add(document.pool)
    assert all(len(pools) == 1 for pools in runs.values())
    assert corpus.n_documents + corpus.n_left_out == 15


def test_the_digest_changes_with_the_text_and_with_nothing_else() -> None:
    assert Corpus.of(["a", "b"]).digest == Corpus.of(["a", "b"], name="other").digest
    assert Corpus.of(["a", "b"]).digest != Corpus.of(["a", "c"]).digest


def test_a_lone_text_file_is_parted_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\nstill one\n\ntwo\n\n\n\nthree\n")
    assert [t.strip() for t in texts_of(load_corpus(str(path)))] == [
        "one\nstill one",
        "two",
        "three",
    ]


def test_without_blank_lines_each_line_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    assert texts_of(load_corpus(str(path))) == ["one", "two", "three"]


def test_form_feeds_part_documents_and_then_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\nstill one\ftwo")
    assert texts_of(load_corpus(str(path))) == ["one\n\nstill one", "two"]


def test_in_a_folder_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("one\n\nstill one")
    (tmp_path / "sub" / "c.jsonl").write_text('{"text": "two"}\n\n{"text": "three"}\n')
    (tmp_path / "notes.md").write_text("not read")
    found = list(load_corpus(str(tmp_path)))
    assert [(d.text, d.source) for d in found] == [
        ("one\n\nstill one", "b.txt"),
        ("two", "sub/c.jsonl"),
        ("three", "sub/c.jsonl"),
    ]


def test_a_text_file_larger_than_what_is_held_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    rng = random.Random(2)
    wanted = [" ".join(f"w{rng.random()}" for _ in range(100)) for _ in range(1500)]
    path.write_text("\n\n".join(wanted))
    assert [t.strip() for t in texts_of(load_corpus(str(path)))] == wanted


def test_parquet_is_read_by_its_text_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3], "text": ["one", None, "two"]}), path)
    assert texts_of(load_corpus(str(path))) == ["one", "two"]


def test_a_long_text_is_cut_into_documents_that_join_to_it() -> None:
    rng = random.Random(1)
    text = " ".join(f"w{rng.randint(0, 10**9)}" for _ in range(40_000))
    found = texts_of(Corpus.of([text]))
    assert len(found) > 3
    assert "".join(found) == text
    assert all(len(piece) <= corpora.LONGEST_DOCUMENT for piece in found)


def test_no_more_of_a_corpus_is_read_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"line {i:04}" for i in range(1000)))
    assert load_corpus(str(path), characters=90).n_documents == 10


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "no `text`; it has body, id"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": 5}\n', "string `text`"),
        ("a.jsonl", b"[1]\n", "not an object"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet file"),
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n\n \n", "empty"),
        ("a.csv", b"x", "no .txt, .jsonl or .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_so(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        load_corpus(str(tmp_path / name))
    assert says in str(caught.value)


def test_a_parquet_file_without_text_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), path)
    with pytest.raises(CorpusError, match="no column `text`; it has body, n"):
        load_corpus(str(path))


@pytest.mark.parametrize("spec", ["deafult", "nowhere.txt", "no/such/folder"])
def test_an_unknown_corpus_is_said_so(spec: str) -> None:
    with pytest.raises(CorpusError, match=r"there is no"):
        load_corpus(spec)


def test_a_folder_without_text_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no"):
        load_corpus(str(tmp_path))


def test_bytes_that_are_no_utf8_are_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9\n\nfine")
    corpus = load_corpus(str(path))
    assert texts_of(corpus) == ["caf\ufffd", "fine"]
    assert corpus.n_unreadable == 1


def test_half_a_surrogate_pair_in_json_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\ud800b \\ud83d\\ude00"}\n')
    assert texts_of(load_corpus(str(path))) == ["a\ufffdb 😀"]


def test_names_of_data_sets_on_the_hub_are_taken_apart() -> None:
    assert parse_spec("hf:org/name") == ("org/name", None, "train")
    assert parse_spec("hf:org/name:en/test") == ("org/name", "en", "test")
    assert parse_spec("hf:org/name/test") == ("org/name", None, "test")
    assert parse_spec("hf:name:config") == ("name", "config", "train")
    with pytest.raises(CorpusError, match="should look like"):
        parse_spec("hf:")


@pytest.mark.usefixtures("socket_disabled")
def test_the_hub_is_not_asked_offline() -> None:
    with pytest.raises(CorpusError, match="--offline"):
        load_corpus("hf:org/name", offline=True)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Sent 1: One.Sent 2: Two.", "One. Two."),
        ("I ca n't , he 's here . Yes , really .", "I can't, he's here. Yes, really."),
        ("a<br />b &amp;quot;c&amp;quot;", 'a b "c"'),
        ("Zinc () is (; old) here", "Zinc is (old) here"),
        ("``Who, ''he said", '"Who, "he said'),
        ("costs Â£5", "costs £5"),
        ('He said "no.".', 'He said "no."'),
        ("a   b\r\n\r\n\r\nc", "a b\n\nc"),
    ],
)
def test_artefacts_are_taken_off(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_only_english_is_kept() -> None:
    german = "Die Stadt liegt an der Donau und ist in ganz Europa bekannt, was sie dem Hafen dankt."
    french = (
        "La ville se trouve sur la rivière et elle est connue dans toute la région pour son vin."
    )
    russian = "Город стоит на реке и известен своим портом."
    assert is_english(PROSE)
    assert not any(map(is_english, (german, french, russian, "", "1234 5678")))


def instruction(text: str) -> bytes:
    return json.dumps({"examples": [{"input": text, "target": "secret answer"}]}).encode()


def test_a_passage_comes_without_its_label_and_question() -> None:
    content = instruction(f"Passage: {PROSE} {PROSE} \nQuestion: Who said it?\nAnswer type: span")
    assert list(passages("natural_instructions/drop", content)) == [f"{PROSE} {PROSE}"]


def test_background_and_story_are_two_passages() -> None:
    story = f"{PROSE} Tom was there and he saw it all with his own eyes."
    content = instruction(
        f"Background Paragraph: {PROSE} {PROSE} \nStory: {story} \nQuestion: Who?"
    )
    assert list(passages("natural_instructions/ropes", content)) == [f"{PROSE} {PROSE}", story]


def test_paragraphs_are_put_together_from_their_sentences() -> None:
    data = {"examples": [{"input": f"{PROSE}\n{PROSE}\n{PROSE}\n", "target": "0 1 1"}]}
    (text,) = passages("paragraph_segmentation", json.dumps(data).encode())
    assert text == f"{PROSE} {PROSE}\n\n{PROSE}"


def test_only_wanted_files_of_the_archive_have_a_source() -> None:
    assert source_of(TASKS + "squad_shifts/nyt_v1.0.json") == "squad_shifts/nyt"
    assert source_of(TASKS + "squad_shifts/nyt_v1.0_removed.json") is None
    assert source_of(TASKS + "gem/xsum/task.json") == "xsum"
    assert source_of("../../etc/passwd") is None
    drop = "natural_instructions/subtask026_drop_question_generation/task.json"
    assert source_of(TASKS + drop) == "natural_instructions/drop"


def archive_with(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def small_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real archive of the real layout with 40 passages, in a cache that takes it for verified."""
    from glossator.assets import ASSETS, Asset

    monkeypatch.setenv("GLOSSATOR_CACHE", str(tmp_path))
    (tmp_path / "files").mkdir()
    archive = tmp_path / "files" / ASSETS["corpus-default"].filename
    paragraphs = [{"context": f"{PROSE} This is the story number {i} of it."} for i in range(40)]
    again = [{"context": p["context"].upper()} for p in paragraphs[:3]]
    squad = {"data": [{"paragraphs": paragraphs + again}]}
    archive_with(
        archive,
        {
            TASKS + "squad_shifts/nyt_v1.0.json": json.dumps(squad).encode(),
            TASKS + "squad_shifts/task.py": b"raise SystemExit('this must never be run')",
            "../outside.json": b"{}",
        },
    )
    import hashlib

    real, content = ASSETS["corpus-default"], archive.read_bytes()
    values: dict[str, Any] = {f: getattr(real, f) for f in Asset.__slots__}
    values |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    monkeypatch.setattr(
        "glossator.datasets.default_corpus.ASSETS", {"corpus-default": Asset(**values)}
    )
    return archive


@pytest.mark.usefixtures("socket_disabled")
def test_the_default_corpus_is_built_once_and_the_archive_is_not_kept(
    small_archive: Path, tmp_path: Path
) -> None:
    corpus = default_corpus(offline=True)
    assert corpus.n_documents + corpus.n_left_out == 40
    assert corpus.n_duplicates == 3
    assert not small_archive.exists()
    assert list(default_corpus(offline=True)) == list(corpus)
    assert {d.source for d in corpus} == {"squad_shifts/nyt"}
    numbers = [int(d.text.split("number ")[1].split()[0]) for d in corpus]
    assert numbers != sorted(numbers)
    table = pq.read_table(tmp_path / "corpora" / "default" / "corpus.parquet")
    assert table.column_names == ["id", "text", "source", "pool", "left_out"]
    assert table.num_rows == 40


@pytest.mark.usefixtures("small_archive")
def test_a_corpus_that_was_half_written_or_changed_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "corpora" / "default"
    default_corpus(offline=True)
    with (folder / "corpus.parquet").open("ab") as file:
        file.write(b"x")
    assert _kept(folder) is None
    with pytest.raises(AssetError, match="without --offline"):
        default_corpus(offline=True)


def test_an_archive_that_cannot_be_read_is_said_so(small_archive: Path, tmp_path: Path) -> None:
    from glossator.datasets import default_corpus as module

    small_archive.write_bytes(b"not an archive")
    with pytest.raises(AssetError, match="cannot be read"):
        module._read(small_archive)


@pytest.mark.assets
def test_the_default_corpus_is_the_same_on_every_machine() -> None:
    corpus = default_corpus()
    assert corpus.digest.startswith("eff5570a47bb916b")
    assert corpus.n_documents == 38563
    n_labels = n_characters = 0
    for document in corpus:
        n_characters += len(document.text)
        n_labels += document.text.startswith(("Passage:", "Context:", "Paragraph-", "Sent 1:"))
    assert n_labels == 0
    assert n_characters > 40_000_000
