"""The tables of the store.

    runs ──< explanations          one for each (run, feature, explainer)
      │──< scores ── predictions   one for each (run, feature, explainer, scorer, simulator)
      │──< units                   what is finished: (run, feature, stage, part)
      │──< failures                what was given up, until it succeeds
      │──< bests, marks, flags     the same once more by feature, to sort and to filter by
      │──< calls >── prices        the ledger: each call to a language model and its cost
      │──< batches ──< batch_items what is out at a provider: requests whose replies are to come
      └──< inquiries ──< entries   what an agent or a conversation wrote down, in order
    features ──< summaries         what was collected, by feature and collection digest: all of it
      └──< records                 its text and activations, of those that somebody may explain
    replies                        replies of language models by the digest of the request

Texts in columns are for reading, sorting and searching; the whole value lies in `payload`, as JSON
or as JSON compressed by zlib. Times are ISO 8601 in UTC, which sort as text on every database.
A change here needs a new revision in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every revision this version knows, oldest first; the last is the one it writes."""

WORDS = "explanation_words"
"""On SQLite, the index of the words of `explanations.text`: an FTS5 table, which triggers fill."""

TOKEN_CLASSES = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
"""Columns of the ledger beside the tokens of prompt and completion, of which they are a part."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s",
    }
)


def _run(**options: bool) -> Column[str]:
    return Column("run", Text, ForeignKey("runs.id"), nullable=False, **options)  # type: ignore[arg-type]


def _feature(nullable: bool = False, **options: bool) -> Column[int]:
    key = ForeignKey("features.id")
    return Column("feature", Integer, key, nullable=nullable, **options)  # type: ignore[arg-type]


def _usage() -> tuple[Column[int], Column[int], Column[int], Column[float], Column[float]]:
    return (
        Column("calls", BigInteger, nullable=False),
        Column("prompt_tokens", BigInteger, nullable=False),
        Column("completion_tokens", BigInteger, nullable=False),
        Column("cost", Float),  # US dollars; NULL where a price is unknown
        Column("seconds", Float, nullable=False),
    )


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("config_digest", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("versions", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("finished", Text),
    Column("status", Text, nullable=False),
    Column("budget", Float),  # US dollars, of the latest start; NULL for none
    Index("ix_runs_config_digest", "config_digest"),
)

features = Table(
    "features",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("coder", Text),
    Column("number", BigInteger, nullable=False),
    Column("negative", Boolean, nullable=False),
    Index("ix_features_site", "site", "id"),
    Index("ix_features_number", "number", "id"),
)

records = Table(
    "records",
    metadata,
    Column("collection", Text, primary_key=True),
    _feature(primary_key=True),
    Column("kind", Text, nullable=False),
    Column("density", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("peak", Float, nullable=False),
    Column("mean", Float, nullable=False),
    Column("std", Float, nullable=False),
    Column("n_tokens", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("made", Text, nullable=False),
    Index("ix_records_feature", "feature"),
)

summaries = Table(
    "summaries",
    metadata,
    Column("collection", Text, primary_key=True),
    _feature(primary_key=True),
    Column("kind", Text, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON
    Column("density", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("peak", Float, nullable=False),
    Column("lowest", Float),
    Column("mean", Float, nullable=False),
    Column("std", Float, nullable=False),
    Column("n_tokens", BigInteger, nullable=False),
    Column("n_windows", BigInteger),
    Column("made", Text, nullable=False),
    Index("ix_summaries_kind", "collection", "kind", "feature"),
    Index("ix_summaries_density", "collection", "density", "feature"),
    Index("ix_summaries_peak", "collection", "peak", "feature"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("id", Integer, primary_key=True),
    _run(),
    _feature(),
    Column("explainer", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("abstained", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    *_usage(),
    Column("payload", Text, nullable=False),
    Column("made", Text, nullable=False),
    UniqueConstraint("run", "feature", "explainer"),
    Index("ix_explanations_feature", "feature"),
)

scores = Table(
    "scores",
    metadata,
    Column("id", Integer, primary_key=True),
    _run(),
    _feature(),
    Column("explainer", Text, nullable=False),
    Column("scorer", Text, nullable=False),
    Column("simulator", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
    Column("null_value", Float),
    Column("lift", Float),
    Column("p", Float),
    Column("n", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    Column("note", Text, nullable=False),
    *_usage(),
    Column("payload", Text, nullable=False),
    Column("made", Text, nullable=False),
    UniqueConstraint("run", "feature", "explainer", "scorer", "simulator"),
    Index("ix_scores_feature", "feature"),
)

predictions = Table(
    "predictions",
    metadata,
    Column("score", Integer, ForeignKey("scores.id"), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
)

bests = Table(
    "bests",
    metadata,
    _run(primary_key=True),
    _feature(primary_key=True),
    Column("explanation", Integer, ForeignKey("explanations.id"), nullable=False),
    Column("explainer", Text, nullable=False),
    Column("n_explanations", Integer, nullable=False),
    Column("width", Float),  # of the widest interval among its marks
    Index("ix_bests_explainer", "run", "explainer", "feature"),
    Index("ix_bests_width", "run", "width", "feature"),
)

marks = Table(
    "marks",
    metadata,
    _run(primary_key=True),
    _feature(primary_key=True),
    Column("scorer", Text, primary_key=True),
    Column("score", Integer, ForeignKey("scores.id"), nullable=False),
    Column("value", Float, nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("null_value", Float),
    Index("ix_marks_value", "run", "scorer", "value", "feature"),
)

flags = Table(
    "flags",
    metadata,
    _run(primary_key=True),
    _feature(primary_key=True),
    Column("flag", Text, primary_key=True),
    Index("ix_flags_flag", "run", "flag", "feature"),
)

units = Table(
    "units",
    metadata,
    _run(primary_key=True),
    _feature(primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("made", Text, nullable=False),
)

failures = Table(
    "failures",
    metadata,
    Column("id", Integer, primary_key=True),
    _run(),
    _feature(nullable=True),
    Column("stage", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("made", Text, nullable=False),
    Index("ix_failures_unit", "run", "feature", "stage", "part"),
)

calls = Table(
    "calls",
    metadata,
    Column("id", Integer, primary_key=True),
    _run(),
    Column("stage", Text, nullable=False),
    Column("llm", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("error_type", Text, nullable=False),
    *_usage(),
    Column("cached_calls", BigInteger, nullable=False),
    _feature(nullable=True),  # what the call was for, where it was for one
    Column("part", Text, nullable=False, server_default=""),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in TOKEN_CLASSES),
    Column("assumed", Float, nullable=False, server_default="0"),  # of the cost; see `Usage`
    Column("price", Integer, ForeignKey("prices.id")),
    Column("batched", Boolean, nullable=False, server_default=false()),
    Column("made", Text, nullable=False),
    Index("ix_calls_run", "run"),
    Index("ix_calls_feature", "feature"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("llm", Text, nullable=False),
    Column("snapshot", Text, nullable=False),  # the price list's entry, as JSON
    Column("made", Text, nullable=False),
    UniqueConstraint("llm", "snapshot"),
)

replies = Table(
    "replies",
    metadata,
    Column("key", Text, primary_key=True),
    Column("llm", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("made", Text, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    _run(),
    Column("llm", Text, nullable=False),
    Column("account", Text, nullable=False),  # the provider's address, never a key
    Column("batch", Text, nullable=False, server_default=""),  # what the provider calls it
    Column("n", Integer, nullable=False),
    Column("made", Text, nullable=False),
    Column("ended", Text),  # NULL while there are items
    Index("ix_batches_account", "account", "llm"),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch", Integer, ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("worst", Float, nullable=False),
)

inquiries = Table(
    "inquiries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # inquiry or chat
    Column("run", Text, ForeignKey("runs.id"), nullable=True),
    _feature(nullable=True),
    Column("made", Text, nullable=False),
    Index("ix_inquiries_run", "run"),
    Index("ix_inquiries_feature", "feature"),
)

entries = Table(
    "entries",
    metadata,
    Column("inquiry", Integer, ForeignKey("inquiries.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("made", Text, nullable=False),
)

acts = Table(
    "acts",
    metadata,
    Column("id", Integer, primary_key=True),
    _run(),
    _feature(),
    Column("explainer", Text, nullable=False),  # empty: about the feature itself
    Column("reviewer", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("base", Text, nullable=False),  # ids of edits, with spaces between
    Column("became", Text, nullable=False),
    Column("undoes", Integer, ForeignKey("acts.id")),
    Column("made", Text, nullable=False),
    Index("ix_acts_feature", "run", "feature"),
)
