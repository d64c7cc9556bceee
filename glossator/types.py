"""What passes between the parts: features, examples, explanations, predictions, scores.

Every type is frozen, made of plain Python, compared by value, checked when it is built, and goes to
JSON and back with `to_json` and `from_json`. No tensors: by the time an activation reaches an
explainer it is a short text with one number a token.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


def to_json(value: Any) -> JSON:
    """`value`, a type of this module or a plain value, as what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} has no JSON form here")


def _from_json(wanted: Any, data: Any) -> Any:
    origin = typing.get_origin(wanted)
    arguments = typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if data is None:
            return None
        inner = [a for a in arguments if a is not type(None)]
        # several alternatives are those of `JSON`, which is plain as it is
        return _from_json(inner[0], data) if len(inner) == 1 else data
    if origin is Literal:
        if data not in arguments:
            raise TypeError(f"{data!r} is none of {', '.join(map(repr, arguments))}")
        return data
    if origin is tuple:
        items = _of_type(data, list | tuple)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            if arguments[0] is float:
                return tuple(map(float, data))  # what most of a record is: a call each is slow
            if arguments[0] is str:
                return tuple(data)
            return tuple(_from_json(arguments[0], item) for item in items)
        return tuple(_from_json(a, item) for a, item in zip(arguments, items, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = _of_type(data, Mapping).items()
        return {str(key): _from_json(arguments[1], item) for key, item in pairs}
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        hints = _hints(wanted)
        unknown = set(_of_type(data, Mapping)) - set(hints)
        if unknown:
            named = ", ".join(sorted(map(str, unknown)))
            raise ValueError(f"{wanted.__name__} has no field called {named}")
        return wanted(**{name: _from_json(hints[name], data[name]) for name in data})
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return wanted(data)
    if wanted is float:
        return float(_of_type(data, int | float))
    return _of_type(data, wanted)


@functools.cache
def _hints(wanted: type[Any]) -> dict[str, Any]:
    """The types of the fields of a type of this module; a record asks for them 500 times."""
    return typing.get_type_hints(wanted)


def _of_type(data: Any, wanted: Any) -> Any:
    """`data`, which must be of the type `wanted`. A flag is no number."""
    if not isinstance(data, wanted) or (isinstance(data, bool) and wanted is not bool):
        raise TypeError(f"{data!r:.100} is no {getattr(wanted, '__name__', wanted)}")
    return data


class Jsonable:
    """Gives the types here `to_json` and `from_json`."""

    __slots__ = ()

    def to_json(self) -> dict[str, JSON]:
        """This value as plain dictionaries and lists, ready for `json.dumps`."""
        plain = to_json(self)
        if not isinstance(plain, dict):
            raise TypeError(f"{type(self).__name__} is not a dataclass")
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The value that `to_json` gave `data` for.

        Raises:
            ValueError: if a field is unknown, missing, of another type, or not allowed.
        """
        try:
            built: Self = _from_json(cls, data)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error
        return built


@dataclass(frozen=True, slots=True)
class FeatureId(Jsonable):
    """One scalar read from a model at each token: a neuron, a latent, a head, one tail of it.

    Prints as, and parses from, `MODEL//SITE[@CODER]/INDEX`, with a minus behind the index for the
    negative tail of a signed feature.
    """

    model: str
    """Name of the subject; may hold one `/`, as hub ids do."""
    site: str
    """Where it is read, such as `layers.7.mlp.neurons`."""
    index: int
    """Position on the site's last axis, or the latent's number in the coder."""
    coder: str | None = None
    """Name of the sparse coder, if the feature is one of its latents."""
    negative: bool = False
    """Whether this is the negative tail: its activations are the raw ones times -1."""

    def __post_init__(self) -> None:
        if not self.model or self.model.count("/") > 1 or self.model.endswith("/"):
            raise ValueError(
                f"a model name is not empty and holds at most one '/', inside it: {self.model!r}"
            )
        if not self.site or "/" in self.site or "@" in self.site:
            raise ValueError(f"a site is not empty and holds no '/' and no '@': {self.site!r}")
        if self.coder is not None and not self.coder:
            raise ValueError("a coder has a name, or is None")
        if self.index < 0:
            raise ValueError(f"a feature's index counts from 0, not {self.index}")
        if any(ord(c) < 32 for c in f"{self.model}{self.site}{self.coder or ''}"):
            raise ValueError("a feature id holds no control characters")

    def __str__(self) -> str:
        return f"{self.source}/{self.index}{'-' if self.negative else ''}"

    @property
    def source(self) -> str:
        """`MODEL//SITE[@CODER]`: what all features of one site have in common."""
        return f"{self.model}//{self.site}{'@' + self.coder if self.coder else ''}"

    @classmethod
    def parse(cls, text: str) -> FeatureId:
        """The feature that prints as `text`.

        Raises:
            ValueError: if `text` is not of the form `MODEL//SITE[@CODER]/INDEX`.
        """
        model, separator, rest = text.partition("//")
        place, slash, number = rest.rpartition("/")
        negative = number.endswith("-")
        number = number[:-1] if negative else number
        if not (separator and slash and number.isascii() and number.isdigit()):
            raise ValueError(
                f"{text!r} is not a feature: it should look like "
                "smollm2-135m//layers.7.mlp.neurons/123"
            )
        site, at, coder = place.partition("@")
        return cls(model, site, int(number), coder if at else None, negative)


class Pool(StrEnum):
    """Which party may see a document. Depends on the document's text alone."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


class Kind(StrEnum):
    """What sort of feature this is, by simple statistics of its training windows."""

    DEAD = "dead"
    TOKEN = "token"  # noqa: S105
    NGRAM = "n-gram"
    POSITIONAL = "positional"
    DENSE = "dense"
    SUPPRESSING = "suppressing"
    """A token or n-gram feature whose output lowers the logits of the tokens it fires on."""
    OTHER = "other"


class Scale(StrEnum):
    """The unit of a predicted activation. Values on different scales are never compared."""

    RAW = "raw"
    """The subject's own units."""
    TENTHS = "tenths"
    """0 to 10, where 10 is the feature's peak (Bills et al. 2023)."""
    LOG_ODDS = "log-odds"
    """Log odds of firing, or a difference of such; only its order and linear relation count."""
    COSINE = "cosine"
    """How near in meaning, from cosines; only its order and linear relation count."""


SILENT = "silent"
TOP = "top"
MISMARKED = "mismarked"
"""Of a prediction: a firing window of which silent tokens were marked as if they fired."""


@dataclass(frozen=True, slots=True)
class Example(Jsonable):
    """A window of text with the feature's activation at each token."""

    tokens: tuple[str, ...]
    """Shape (n_tokens,): each token's text; joined, they are the window's text."""
    activations: tuple[float, ...]
    """Shape (n_tokens,), raw units, sign turned for a negative tail."""
    document: str
    """Id of the document that the window was cut from."""
    start: int
    """Position of the first token in its document, in tokens."""
    stratum: str
    """`silent`, `q1` (weakest) to `q5`, or `top`."""
    weight: float
    """How many windows of the pool this one stands for: N_stratum / n_stratum."""

    def __post_init__(self) -> None:
        if not self.tokens or len(self.tokens) != len(self.activations):
            raise ValueError(
                f"{len(self.tokens)} tokens but {len(self.activations)} activations: "
                "an example has one activation per token, and at least one token"
            )
        if not all(map(math.isfinite, self.activations)):
            raise ValueError("an activation is NaN or infinite")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"a weight is above 0 and finite, not {self.weight}")

    @property
    def text(self) -> str:
        """The window's text."""
        return "".join(self.tokens)

    @property
    def peak(self) -> float:
        """The strongest activation, raw units."""
        return max(self.activations)

    @property
    def key(self) -> str:
        """Names this window among all windows of a corpus."""
        return f"{self.document}:{self.start}"


@dataclass(frozen=True, slots=True)
class Stratum(Jsonable):
    """A class of windows of one pool, from which a uniform sample was drawn."""

    name: str
    population: int
    """Windows of the pool in this stratum."""
    sampled: int
    """How many of them are in the split."""

    def __post_init__(self) -> None:
        if not 0 <= self.sampled <= self.population:
            raise ValueError(f"{self.sampled} sampled out of {self.population} in {self.name!r}")


@dataclass(frozen=True, slots=True)
class Split(Jsonable):
    """The examples one party may see. Whoever holds one split can see no other."""

    pool: Pool
    threshold: float
    """A token fires where its activation is above this, raw units."""
    firing: tuple[Example, ...] = ()
    """Windows in which at least one token fires, the strongest first."""
    silent: tuple[Example, ...] = ()
    """Windows in which none does."""
    strata: tuple[Stratum, ...] = ()

    def __post_init__(self) -> None:
        if any(e.peak <= self.threshold for e in self.firing):
            raise ValueError("a firing example has a token above the threshold")
        if any(e.peak > self.threshold for e in self.silent):
            raise ValueError("a silent example has no token above the threshold")
        named = {s.name for s in self.strata}
        if self.strata and any(e.stratum not in named for e in self.examples):
            raise ValueError("an example's stratum is not among the split's strata")

    @property
    def examples(self) -> tuple[Example, ...]:
        """Firing ones, then silent ones."""
        return self.firing + self.silent

    @property
    def peak(self) -> float:
        """The strongest activation of the split, raw units; 0 if nothing fires."""
        return max((e.peak for e in self.firing), default=0.0)


@dataclass(frozen=True, slots=True)
class FeatureRecord(Jsonable):
    """All that was collected of one feature."""

    feature: FeatureId
    train: Split
    dev: Split
    test: Split
    density: float
    """Share of tokens above the threshold, over all pools, in [0, 1]."""
    threshold: float
    """Firing means above this, raw units."""
    threshold_rule: str
    """How it was chosen, such as `99th percentile of 50000 train tokens` or `above 0`."""
    peak: float
    """Strongest activation seen in any pool, raw units."""
    mean: float
    """Mean activation over tokens, raw units."""
    std: float
    """Standard deviation over tokens, raw units."""
    n_tokens: int
    """Tokens read, over all pools."""
    kind: Kind
    histogram_edges: tuple[float, ...] = ()
    """Shape (n_bins + 1,), raw units, ascending."""
    histogram: tuple[int, ...] = ()
    """Shape (n_bins,): tokens in each bin."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What was read and how: model revision, hook, dtype, tokenizer, corpus, seed, ctx, window."""
    kind_evidence: Mapping[str, float] = field(default_factory=dict)
    """What the tests for `kind` measured, by name; `glossator.datasets.kinds` says what is what."""

    def __post_init__(self) -> None:
        for split, pool in ((self.train, Pool.TRAIN), (self.dev, Pool.DEV), (self.test, Pool.TEST)):
            if split.pool is not pool:
                raise ValueError(f"the {pool.value} split holds the pool {split.pool.value}")
        seen: dict[str, str] = {}
        for split in (self.train, self.dev, self.test):
            for document in {e.document for e in split.examples}:
                if seen.setdefault(document, split.pool) != split.pool:
                    raise ValueError(
                        f"document {document} is in {seen[document]} and in {split.pool.value}: "
                        "no text may be shared between explaining and scoring"
                    )
        if not 0 <= self.density <= 1:
            raise ValueError(f"a density is a share between 0 and 1, not {self.density}")
        if self.histogram and len(self.histogram_edges) != len(self.histogram) + 1:
            raise ValueError("a histogram has one edge more than bins")

    def split(self, pool: Pool) -> Split:
        """The split of `pool`."""
        return {Pool.TRAIN: self.train, Pool.DEV: self.dev, Pool.TEST: self.test}[pool]


@dataclass(frozen=True, slots=True)
class FeatureSummary(Jsonable):
    """What is kept of every feature that was collected, those without a record among them."""

    feature: FeatureId
    kind: Kind
    density: float
    """Share of tokens above the threshold, over all pools, in [0, 1]."""
    threshold: float
    """Firing means above this, raw units."""
    peak: float
    """Strongest activation seen in any pool, raw units."""
    mean: float
    """Mean activation over tokens, raw units."""
    std: float
    """Standard deviation over tokens, raw units."""
    n_tokens: int
    """Tokens read, over all pools."""
    lowest: float | None = None
    """Least activation seen in any pool, raw units; None where it was not kept."""
    n_windows: int | None = None
    """Windows read, over all pools; None where they were not counted."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """What the tests for `kind` measured, by name."""

    def __post_init__(self) -> None:
        if not 0 <= self.density <= 1:
            raise ValueError(f"a density is a share between 0 and 1, not {self.density}")
        numbers = (self.threshold, self.peak, self.mean, self.std, self.lowest or 0.0)
        if not all(map(math.isfinite, (*numbers, *self.evidence.values()))):
            raise ValueError("a summary holds finite numbers")

    @classmethod
    def of(cls, record: FeatureRecord) -> Self:
        """What `record` says of its feature as a whole."""
        strata = [stratum for pool in Pool for stratum in record.split(pool).strata]
        return cls(
            feature=record.feature,
            kind=record.kind,
            density=record.density,
            threshold=record.threshold,
            peak=record.peak,
            mean=record.mean,
            std=record.std,
            n_tokens=record.n_tokens,
            n_windows=sum(stratum.population for stratum in strata) if strata else None,
            evidence=dict(record.kind_evidence),
        )


class BadUsage(ValueError):
    """Raised for numbers of which `Usage` can hold none."""


@dataclass(frozen=True, slots=True)
class Usage(Jsonable):
    """What calls to language models used. Sums with `+`; what cannot be one is a `BadUsage`."""

    calls: int = 0
    """Replies paid for, those from the cache left out."""
    cached_calls: int = 0
    """Replies taken from the cache."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None where a price is unknown, never 0 for unknown."""
    seconds: float = 0.0
    """Time spent waiting for replies, summed over calls."""
    cache_read_tokens: int = 0
    """Prompt tokens that the provider had in its cache; among `prompt_tokens`."""
    cache_write_tokens: int = 0
    """Prompt tokens that the provider put into its cache; among `prompt_tokens`."""
    reasoning_tokens: int = 0
    """Tokens generated before the answer; among `completion_tokens`."""
    assumed: float = 0.0
    """US dollars of `cost` of which no bill is known: the most that calls can have cost."""

    def __post_init__(self) -> None:
        counts = (self.calls, self.cached_calls, self.prompt_tokens, self.completion_tokens)
        classes = (self.cache_read_tokens, self.cache_write_tokens, self.reasoning_tokens)
        for n in (*counts, *classes):
            if not isinstance(n, int) or n < 0:
                raise BadUsage(f"calls and tokens are whole numbers, none below 0, not {n!r:.40}")
        if not _is_amount(0.0 if self.cost is None else self.cost):
            raise BadUsage(
                "a cost is a finite number of dollars, at least 0, or None where it is unknown, "
                f"not {self.cost!r:.40}"
            )
        for name in ("seconds", "assumed"):
            if not _is_amount(value := getattr(self, name)):
                raise BadUsage(f"{name} is a finite number, at least 0, not {value!r:.40}")

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost is None or other.cost is None
        return Usage(
            self.calls + other.calls,
            self.cached_calls + other.cached_calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if unknown else (self.cost or 0.0) + (other.cost or 0.0),
            self.seconds + other.seconds,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.assumed + other.assumed,
        )


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


@dataclass(frozen=True, slots=True)
class NgramPath(Jsonable):
    """A run of tokens at whose last one a feature fires; one way through a graph of n-grams."""

    steps: tuple[tuple[str, ...], ...]
    """Shape (n_steps,), in the order of the text: the tokens that may stand there; empty if any
    may."""
    activation: float
    """What is expected at the last token, raw units."""

    def __post_init__(self) -> None:
        if not self.steps or not self.steps[0] or not self.steps[-1]:
            raise ValueError("a path begins and ends with a step that names tokens")
        if not math.isfinite(self.activation):
            raise ValueError("a path's activation is a finite number")

    @property
    def detail(self) -> tuple[int, int]:
        """How much it asks for: of several that end at a token, the greatest counts."""
        return len(self.steps), sum(map(bool, self.steps))

    def ends_at(self, tokens: Sequence[str], i: int) -> bool:
        """Whether it can be read off `tokens` up to number `i`."""
        first = i + 1 - len(self.steps)
        if first < 0:
            return False
        inside = zip(self.steps, tokens[first : i + 1], strict=True)
        return all(not allowed or token in allowed for allowed, token in inside)


@dataclass(frozen=True, slots=True)
class Explanation(Jsonable):
    """What somebody says a feature does, or that they abstain."""

    feature: FeatureId
    text: str
    """One or two sentences; empty only for an abstention."""
    explainer: str
    """Registered name of who wrote it; `human` for a person."""
    model: str = ""
    """The language model that wrote it, empty if none did."""
    prompt_version: str = ""
    trigger: str = ""
    """What in the input makes it fire, where known apart."""
    output_effect: str = ""
    """What it does to the output, where known apart."""
    senses: tuple[str, ...] = ()
    coverage: tuple[float | None, ...] = ()
    """Shape (n_senses + 1,): share of dev's firing windows that each sense fits, and last what all
    of them together do. Empty where nobody looked; None where it is undefined."""
    precision: tuple[float | None, ...] = ()
    """Shape (n_senses + 1,): share of the dev windows that each fits that fire, and last of all."""
    exceptions: tuple[str, ...] = ()
    words: tuple[tuple[str, float], ...] = ()
    """Token texts and their mean activation in raw units: the pattern that `symbolic` runs."""
    paths: tuple[NgramPath, ...] = ()
    """Runs of tokens: the pattern that `symbolic` runs where there are any, in place of `words`."""
    abstained: str = ""
    """Why there is no explanation; empty if there is one."""
    usage: Usage = Usage()
    note: str = ""
    """What to know about how it was made, such as examples that were left out."""

    def __post_init__(self) -> None:
        if bool(self.text.strip()) == bool(self.abstained):
            raise ValueError("an explanation has a text, or a reason to abstain, and not both")

    @property
    def runs(self) -> bool:
        """Whether it carries a pattern that predicts activations as a program."""
        return bool(self.words or self.paths)

    @classmethod
    def written_by_hand(cls, feature: FeatureId, text: str) -> Explanation:
        """`text` as a person's explanation of `feature`."""
        return cls(feature, text, explainer="human")


@dataclass(frozen=True, slots=True)
class Simulation(Jsonable):
    """What a reader of the explanation, who has not seen the activations, expects them to be."""

    tokens: tuple[str, ...]
    """Shape (n_tokens,): the tokens of the example that was simulated."""
    predicted: tuple[float, ...]
    """Shape (n_tokens,), on `scale`: expected activation at each token."""
    scale: Scale = Scale.TENTHS
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.predicted):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.predicted)} predictions")
        if not all(map(math.isfinite, self.predicted)):
            raise ValueError("a predicted activation is NaN or infinite")


@dataclass(frozen=True, slots=True)
class Prediction(Jsonable):
    """What a scorer predicted for one example, beside what happened."""

    example: str
    """`Example.key` of the window."""
    stratum: str
    weight: float
    document: str
    actual: tuple[float, ...]
    """Shape (n_tokens,) in raw units, or (1,) for a judgement of the whole window."""
    predicted: tuple[float, ...]
    """Same shape, on `scale`; empty if it failed."""
    scale: str
    """A `Scale`, or `probability`."""
    tokens: tuple[str, ...] = ()
    """Shape (n_tokens,), also where the prediction is of the whole window."""
    failure: str = ""
    """`parse`, `refused`, `range`, `cut off` or `provider`; empty if it worked."""
    raw: str = ""
    """The reply that could not be used, at most 2,000 characters."""

    def __post_init__(self) -> None:
        if bool(self.failure) == bool(self.predicted):
            raise ValueError("a prediction has values, or a failure, and not both")
        if self.predicted and len(self.predicted) != len(self.actual):
            raise ValueError(f"{len(self.predicted)} predictions of {len(self.actual)} values")


@dataclass(frozen=True, slots=True)
class Measure(Jsonable):
    """One figure with its 95% interval; `value` is None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError("a measure is a finite number or None")


@dataclass(frozen=True, slots=True)
class Null(Jsonable):
    """What the same scorer gives to explanations that should not fit."""

    kind: Literal["shuffled", "decoys", "empty", "unigram"]
    """`shuffled`: explanations of other features of the run; `decoys`: a fixed list, where the run
    has too few others; `empty`: a constant answer; `unigram`: the baseline explainer."""
    value: float | None
    """Mean over `values`."""
    values: tuple[float, ...] = ()
    """One for each wrong explanation."""
    explanations: tuple[str, ...] = ()
    """Their texts, in the order of `values`."""


@dataclass(frozen=True, slots=True)
class Score(Jsonable):
    """How far an explanation's predictions were from what the model really did.

    `value` is None with a reason in `note` when it could not be computed: never 0, never NaN.
    """

    feature: FeatureId
    explainer: str
    """Who wrote the explanation that is scored."""
    scorer: str
    simulator: str = ""
    """Who predicted from it, for scorers that use a simulator or judge."""
    metric: str = ""
    """What `value` is, such as `weighted Pearson over tokens`."""
    model: str = ""
    """Language model of the simulator or judge, empty if none."""
    value: float | None = None
    low: float | None = None
    """Lower end of the 95% interval."""
    high: float | None = None
    """Upper end of the 95% interval."""
    null: float | None = None
    """Mean value of wrong explanations on the same examples."""
    lift: float | None = None
    """Chance-corrected value, (value - null) / (1 - null)."""
    p: float | None = None
    """Share of wrong explanations that score at least as high, by permutation, in (0, 1]."""
    n: int = 0
    """Examples that entered the value."""
    n_failed: int = 0
    """Examples that could not be judged; they enter nothing."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """`n_failed` by kind."""
    note: str = ""
    """Why there is no value, or what to know about it."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Other figures by name, each with its interval."""
    nulls: tuple[Null, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    usage: Usage = Usage()

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "null", "lift", "p"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"the {name} of a score is a finite number or None")
        if self.value is None and not self.note:
            raise ValueError("a score without a value says why in `note`")
        if self.p is not None and not 0 < self.p <= 1:
            raise ValueError(f"a permutation p is in (0, 1], not {self.p}")
        if self.n_failed != sum(self.failures.values()):
            raise ValueError(f"{self.n_failed} failed, but by kind {dict(self.failures)}")


@dataclass(frozen=True, slots=True)
class ExperimentResult(Jsonable):
    """One row of the store: an explanation, its scores, and what is needed to make them again."""

    explanation: Explanation
    scores: tuple[Score, ...]
    config_digest: str
    seed: int
    versions: Mapping[str, str]
    cost: float | None
    """US dollars, None if a price was unknown."""
    seconds: float
