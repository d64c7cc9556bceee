"""WordNet 3 (Fellbaum 1998), as Debian's package `wordnet-base` lays it out: classes of words.

A word belongs to a class as far as its senses do, by how often each was tagged in running text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossator.errors import ConfigError

FOLDER = Path("/usr/share/wordnet")
POS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_LEXNAMES_TEXT = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location
noun.motive noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process
noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change
verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation
verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather
adj.ppl
"""
LEXNAMES = _LEXNAMES_TEXT.split()
_UP = {"@", "@i"}
_TYPES = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_UNTAGGED = 0.3
"""What a sense that was never tagged counts, divided by its rank."""

Key = tuple[str, int]


@dataclass(frozen=True)
class Synset:
    """A sense that several words share."""

    key: Key
    lexname: str
    lemmas: tuple[str, ...]
    gloss: str
    above: tuple[Key, ...]
    """Hypernyms, of instances too."""
    domains: tuple[Key, ...]
    """Topics it belongs to."""
    near: tuple[Key, ...]
    """Adjectives that are similar to it."""


@dataclass(frozen=True)
class WordNet:
    """All of it."""

    synsets: Mapping[Key, Synset]
    senses: Mapping[tuple[str, str], tuple[tuple[Key, float], ...]]
    """By lemma and part of speech: senses, each with how often it was tagged."""
    irregular: Mapping[tuple[str, str], str]
    """By form and part of speech: the lemma."""

    def lemmas(self, word: str) -> Iterator[tuple[str, str]]:
        """Lemma and part of speech of each thing that `word` may be a form of."""
        for pos in POS:
            found = {word, *_regular(word, pos)}
            if (word, pos) in self.irregular:
                found = {word, self.irregular[word, pos]}
            for lemma in sorted(found):
                if (lemma, pos) in self.senses:
                    yield lemma, pos

    def shares(self, word: str) -> dict[Key, float]:
        """How much of `word` each sense is; the shares sum to 1."""
        found: dict[Key, float] = defaultdict(float)
        for lemma, pos in self.lemmas(word):
            for rank, (key, count) in enumerate(self.senses[lemma, pos], 1):
                found[key] += count + _UNTAGGED / rank
        total = sum(found.values())
        return {key: value / total for key, value in found.items()}

    def ancestors(self, key: Key) -> set[Key]:
        """The sense itself and all that is above it."""
        found: set[Key] = set()
        todo = [key]
        while todo:
            at = todo.pop()
            if at not in found and at in self.synsets:
                found.add(at)
                todo += self.synsets[at].above
        return found


def load_wordnet(folder: Path = FOLDER) -> WordNet:
    """WordNet out of its files.

    Raises:
        ConfigError: if they are not there.
    """
    if not (folder / "data.noun").is_file():
        raise ConfigError(f"{folder} holds no WordNet: apt-get install wordnet-base")
    counts: dict[tuple[str, str, int], int] = {}
    for line in (folder / "cntlist.rev").read_text("latin-1").splitlines():
        sense, number, count = line.split()
        lemma, _, rest = sense.partition("%")
        key = (lemma, _TYPES[rest[0]], int(number))
        counts[key] = counts.get(key, 0) + int(count)
    synsets: dict[Key, Synset] = {}
    senses: dict[tuple[str, str], tuple[tuple[Key, float], ...]] = {}
    irregular: dict[tuple[str, str], str] = {}
    for pos, name in POS.items():
        for line in _lines(folder / f"data.{name}"):
            synset = _synset(line, pos)
            synsets[synset.key] = synset
        for line in _lines(folder / f"index.{name}"):
            parts = line.split()
            lemma, n = parts[0], int(parts[2])
            keys = [(pos, int(offset)) for offset in parts[-n:]]
            senses[lemma, pos] = tuple(
                (key, float(counts.get((lemma, pos, i), 0))) for i, key in enumerate(keys, 1)
            )
        for line in (folder / f"{name}.exc").read_text("latin-1").splitlines():
            form, lemma, *_ = line.split()
            irregular[form, pos] = lemma
    return WordNet(synsets, senses, irregular)


def _lines(path: Path) -> Iterable[str]:
    return (x for x in path.read_text("latin-1").splitlines() if not x.startswith("  "))


def _synset(line: str, pos: str) -> Synset:
    data, _, gloss = line.partition(" | ")
    parts = data.split()
    n = int(parts[3], 16)
    lemmas = tuple(lemma.partition("(")[0].replace("_", " ") for lemma in parts[4 : 4 + 2 * n : 2])
    at = 4 + 2 * n
    pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]

    def of(kinds: set[str]) -> tuple[Key, ...]:
        return tuple((p.replace("s", "a"), int(o)) for kind, o, p, _ in pointers if kind in kinds)

    return Synset(
        (pos, int(parts[0])),
        LEXNAMES[int(parts[1])],
        lemmas,
        gloss.split(";")[0].split('"')[0].strip(),
        of(_UP),
        of({";c"}),
        of({"&"}),
    )


def _regular(word: str, pos: str) -> Iterator[str]:
    """Lemmas that `word` may be a regular form of."""
    rules = {
        "n": (("s", ""), ("es", ""), ("ies", "y"), ("men", "man")),
        "v": (
            *(("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ied", "y")),
            *(("ing", ""), ("ing", "e")),
        ),
        "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e"), ("ier", "y"), ("iest", "y")),
        "r": (),
    }[pos]
    for end, other in rules:
        if word.endswith(end) and len(word) - len(end) >= 2:
            stem = word.removesuffix(end)
            yield stem + other
            if pos == "v" and end in ("ed", "ing") and len(stem) > 3 and stem[-1] == stem[-2]:
                yield stem[:-1]
