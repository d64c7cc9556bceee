"""Features can be sorted, filtered and searched by an index, and a run keeps its budget.

Of older stores the tables are filled from explanations, scores and failures, by the rules that
`glossator.listing` states. What a run might spend was not kept before. On SQLite the words of
explanations get an index of their own; elsewhere texts are searched without one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MARKS = """
INSERT INTO marks (run, scorer, feature, score, value, low, high, null_value)
SELECT s.run, s.scorer, s.feature, s.id, s.value, s.low, s.high, s.null_value
FROM bests b JOIN scores s
  ON s.run = b.run AND s.feature = b.feature AND s.explainer = b.explainer
WHERE s.value IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM scores o WHERE o.run = s.run AND o.feature = s.feature
    AND o.explainer = s.explainer AND o.scorer = s.scorer AND o.id < s.id
)
"""
BESTS = """
INSERT INTO bests (run, feature, explanation, explainer, n_explanations)
SELECT run, feature, id, explainer, n FROM (
  SELECT e.run, e.feature, e.id, e.explainer,
    (SELECT count(*) FROM explanations o WHERE o.run = e.run AND o.feature = e.feature) AS n,
    row_number() OVER (PARTITION BY e.run, e.feature ORDER BY
      CASE WHEN e.abstained <> '' THEN 1 ELSE 0 END,
      CASE WHEN e.explainer = 'unigram' THEN 1 ELSE 0 END,
      CASE WHEN s.value IS NULL THEN 1 ELSE 0 END,
      CASE WHEN s.scorer = 'simulation' THEN 0 ELSE 1 END,
      s.scorer, s.value DESC, e.id
    ) AS place
  FROM explanations e LEFT JOIN (
    SELECT o.run, o.feature, o.explainer, o.scorer, o.value, row_number() OVER (
      PARTITION BY o.run, o.feature, o.explainer, o.scorer ORDER BY o.id
    ) AS nth FROM scores o WHERE o.scorer <> 'intruder'
  ) s ON s.run = e.run AND s.feature = e.feature AND s.explainer = e.explainer
    AND s.nth = 1 AND s.value IS NOT NULL
) ranked WHERE place = 1
"""
WIDTHS = """
UPDATE bests SET width = (
  SELECT max(m.high - m.low) FROM marks m WHERE m.run = bests.run AND m.feature = bests.feature
)
"""
FAILED = """
INSERT INTO flags (run, flag, feature)
SELECT DISTINCT run, 'failed', feature FROM failures WHERE feature IS NOT NULL
"""
ABSTAINED = """
INSERT INTO flags (run, flag, feature)
SELECT b.run, 'abstained', b.feature FROM bests b JOIN explanations e ON e.id = b.explanation
WHERE e.abstained <> ''
"""
BEATEN = """
INSERT INTO flags (run, flag, feature)
SELECT m.run, 'beaten', m.feature FROM marks m JOIN scores u
  ON u.run = m.run AND u.feature = m.feature AND u.explainer = 'unigram'
    AND u.scorer = m.scorer
WHERE m.scorer = 'simulation' AND u.value > m.value AND NOT EXISTS (
  SELECT 1 FROM scores o WHERE o.run = u.run AND o.feature = u.feature
    AND o.explainer = u.explainer AND o.scorer = u.scorer AND o.id < u.id
)
"""
DISAGREEMENT = """
INSERT INTO flags (run, flag, feature)
SELECT run, 'disagreement', feature FROM marks
WHERE low IS NOT NULL AND null_value IS NOT NULL GROUP BY run, feature
HAVING min(CASE WHEN low > null_value THEN 1 ELSE 0 END)
  < max(CASE WHEN low > null_value THEN 1 ELSE 0 END)
"""
FILL = (BESTS, MARKS, WIDTHS, FAILED, ABSTAINED, BEATEN, DISAGREEMENT)

WORDS = (
    "CREATE VIRTUAL TABLE explanation_words USING fts5(text, content='explanations', "
    "content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='3')",
    "INSERT INTO explanation_words (explanation_words) VALUES ('rebuild')",
    "CREATE TRIGGER tr_explanations_added AFTER INSERT ON explanations BEGIN "
    "INSERT INTO explanation_words (rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER tr_explanations_gone AFTER DELETE ON explanations BEGIN "
    "INSERT INTO explanation_words (explanation_words, rowid, text) "
    "VALUES ('delete', old.id, old.text); END",
    "CREATE TRIGGER tr_explanations_changed AFTER UPDATE OF text ON explanations BEGIN "
    "INSERT INTO explanation_words (explanation_words, rowid, text) "
    "VALUES ('delete', old.id, old.text); "
    "INSERT INTO explanation_words (rowid, text) VALUES (new.id, new.text); END",
)


def upgrade() -> None:
    op.add_column("runs", sa.Column("budget", sa.Float(), nullable=True))
    op.create_index("ix_features_site", "features", ["site", "id"])
    op.create_index("ix_features_number", "features", ["number", "id"])
    op.drop_index("ix_summaries_kind", "summaries")
    for name in ("kind", "density", "peak"):
        op.create_index(f"ix_summaries_{name}", "summaries", ["collection", name, "feature"])
    _make_tables()
    for statement in FILL:
        op.execute(statement)
    if op.get_context().dialect.name == "sqlite":
        for statement in WORDS:
            op.execute(statement)


def _make_tables() -> None:
    op.create_table(
        "bests",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("explanation", sa.Integer(), nullable=False),
        sa.Column("explainer", sa.Text(), nullable=False),
        sa.Column("n_explanations", sa.Integer(), nullable=False),
        sa.Column("width", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_bests_run"),
        sa.ForeignKeyConstraint(["feature"], ["features.id"], name="fk_bests_feature"),
        sa.ForeignKeyConstraint(["explanation"], ["explanations.id"], name="fk_bests_explanation"),
        sa.PrimaryKeyConstraint("run", "feature", name="pk_bests"),
    )
    op.create_index("ix_bests_explainer", "bests", ["run", "explainer", "feature"])
    op.create_index("ix_bests_width", "bests", ["run", "width", "feature"])
    op.create_table(
        "marks",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("null_value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_marks_run"),
        sa.ForeignKeyConstraint(["feature"], ["features.id"], name="fk_marks_feature"),
        sa.ForeignKeyConstraint(["score"], ["scores.id"], name="fk_marks_score"),
        sa.PrimaryKeyConstraint("run", "feature", "scorer", name="pk_marks"),
    )
    op.create_index("ix_marks_value", "marks", ["run", "scorer", "value", "feature"])
    op.create_table(
        "flags",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("flag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_flags_run"),
        sa.ForeignKeyConstraint(["feature"], ["features.id"], name="fk_flags_feature"),
        sa.PrimaryKeyConstraint("run", "feature", "flag", name="pk_flags"),
    )
    op.create_index("ix_flags_flag", "flags", ["run", "flag", "feature"])
