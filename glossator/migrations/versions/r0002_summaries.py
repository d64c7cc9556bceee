"""A summary of every feature that was collected, with or without a record.

What older versions collected has a record for each feature. Their summaries are made from the
columns of those; the least activation, the number of windows and the evidence for the kind were not
kept apart then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "summaries",
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("density", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("peak", sa.Float(), nullable=False),
        sa.Column("lowest", sa.Float(), nullable=True),
        sa.Column("mean", sa.Float(), nullable=False),
        sa.Column("std", sa.Float(), nullable=False),
        sa.Column("n_tokens", sa.BigInteger(), nullable=False),
        sa.Column("n_windows", sa.BigInteger(), nullable=True),
        sa.Column("made", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["feature"], ["features.id"], name="fk_summaries_feature"),
        sa.PrimaryKeyConstraint("collection", "feature", name="pk_summaries"),
    )
    op.create_index("ix_summaries_kind", "summaries", ["collection", "kind"])
    op.execute(
        "INSERT INTO summaries (collection, feature, kind, density, threshold, peak, mean, std, "
        "n_tokens, made, evidence) "
        "SELECT collection, feature, kind, density, threshold, peak, mean, std, "
        "n_tokens, made, '{}' FROM records"
    )
