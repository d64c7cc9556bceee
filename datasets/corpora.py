"""Corpora: where documents come from. Read as a stream, again and again, in the same order.

Every corpus is deduplicated by normalised text, and documents that share a run of text with a
document of a laxer pool are left out (see `glossator.datasets.pools`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from glossator.assets import Progress
from glossator.datasets.default_corpus import default_corpus_parts
from glossator.datasets.files import file_documents, looks_like_files
from glossator.datasets.hub import hub_documents
from glossator.datasets.pools import Document, leaks
from glossator.errors import CorpusError

__all__ = ["Corpus", "Document", "default_corpus", "load_corpus"]

LONGEST_CORPUS = 400_000_000
"""Characters of a corpus that are read, about 100 million tokens; the rest is not looked at."""

LONGEST_DOCUMENT = 100_000
"""Characters; a longer text is cut at a blank line, a line's end or a space, into several."""

_BREAKS = ("\n\n", "\n", " ")


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order; iterating reads them anew and holds one at a time."""

    name: str
    digest: str
    """SHA-256 over the ids of the documents, in order: equal digests mean equal text."""
    n_documents: int
    n_duplicates: int
    """Documents left out because an earlier one has the same normalised text."""
    n_left_out: int
    """Documents left out because a document of a laxer pool shares a run of text with them."""
    n_unreadable: int
    """Documents kept in which bytes that are no UTF-8 were replaced by U+FFFD."""
    read: Callable[[], Iterator[Document]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[Document]:
        return self.read()

    @classmethod
    def of(cls, texts: Iterable[str], name: str = "in-memory") -> Corpus:
        """A corpus of texts that are already in memory.

        Raises:
            CorpusError: if there is no text among them.
        """
        kept = tuple(texts)
        return _checked(name, lambda: ((text, name) for text in kept), LONGEST_CORPUS)


def load_corpus(
    spec: str = "default",
    offline: bool = False,
    progress: Progress | None = None,
    characters: int = LONGEST_CORPUS,
) -> Corpus:
    """The corpus that `spec` names.

    | spec | documents |
    |---|---|
    | `default` | passages of reading tasks, see `default_corpus` |
    | a `.txt` file | its paragraphs (parted by blank lines), or its lines if it has no blank line |
    | a `.jsonl` or `.parquet` file | the column `text` |
    | a folder | all such files in it, by name; here a `.txt` file is one document |
    | `hf:NAME[:CONFIG][/SPLIT]` | the column `text` of a data set on the hub |

    In any `.txt` file a form feed parts documents, and then nothing else does. A split other than
    `train` of a data set without an organisation is written with one: `hf:ORG/NAME/test`.

    All but `default` are read through once before this returns, and twice more in part, to find
    duplicates and shared text; that takes about half a byte of memory a character.

    Args:
        spec: as above.
        offline: never use the network.
        progress: told of what is fetched.
        characters: read at most about so many.

    Raises:
        CorpusError: if there is no such corpus, it cannot be read, or holds no text.
        AssetError: if the default corpus could not be had.
    """
    if spec == "default":
        return default_corpus(offline, progress)
    if spec.startswith("hf:"):
        return _checked(spec, lambda: hub_documents(spec, offline), characters)
    if looks_like_files(spec):
        return _checked(spec, lambda: file_documents(spec), characters)
    raise CorpusError(
        f"there is no corpus {spec!r}: give default, a file or folder of .txt, .jsonl or "
        ".parquet, or hf:NAME"
    )


def default_corpus(offline: bool = False, progress: Progress | None = None) -> Corpus:
    """About 10 million tokens of English passages out of BIG-bench's reading tasks.

    Wikipedia, news, Reddit, reviews, blogs, fiction, textbooks and instructions, each document
    with its source, in a shuffled order that is the same everywhere. Built at the first call,
    which fetches 358 MB and takes about two minutes, and then kept in the cache as Parquet.

    Raises:
        AssetError: if it is not built and could not be fetched.
    """
    parts = default_corpus_parts(offline, progress)
    return Corpus(
        name="default",
        digest=parts.digest,
        n_documents=parts.n_documents,
        n_duplicates=parts.n_duplicates,
        n_left_out=parts.n_left_out,
        n_unreadable=0,
        read=parts.read,
    )


def _checked(name: str, texts: Callable[[], Iterable[tuple[str, str]]], characters: int) -> Corpus:
    """The corpus of the (text, source) pairs that `texts` gives, the same ones at each call."""

    def distinct(tally: Counter[str] | None = None) -> Iterator[Document]:
        seen: set[str] = set()
        left = characters
        for text, source in texts():
            for piece in _pieces(_encodable(text)):
                document = Document.of(piece, source)
                if document.id in seen:
                    if tally is not None:
                        tally["duplicates"] += 1
                    continue
                seen.add(document.id)
                yield document
                left -= len(piece)
                if left <= 0:
                    return

    left_out = leaks(distinct)
    digest = hashlib.sha256()
    tally: Counter[str] = Counter()
    for document in distinct(tally):
        if document.id not in left_out:
            tally["documents"] += 1
            tally["unreadable"] += "\ufffd" in document.text
            digest.update(document.id.encode())
    if not tally["documents"]:
        raise CorpusError(f"the corpus {name!r} is empty: it holds no text to read")
    return Corpus(
        name=name,
        digest=digest.hexdigest(),
        n_documents=tally["documents"],
        n_duplicates=tally["duplicates"],
        n_left_out=len(left_out),
        n_unreadable=tally["unreadable"],
        read=lambda: (d for d in distinct() if d.id not in left_out),
    )


def _encodable(text: str) -> str:
    """`text` with halves of surrogate pairs, which JSON can spell but UTF-8 cannot, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most `LONGEST_DOCUMENT` characters; blank ones are left out."""
    start = 0
    while start < len(text):
        stop = start + LONGEST_DOCUMENT
        if stop < len(text):
            for mark in _BREAKS:
                at = text.rfind(mark, start + LONGEST_DOCUMENT // 2, stop)
                if at >= 0:
                    stop = at + len(mark)
                    break
        piece = text[start:stop]
        start = stop
        if piece.strip():
            yield piece
