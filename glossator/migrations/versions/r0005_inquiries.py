"""Inquiries and conversations: what was supposed, foretold and found, in order."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inquiries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("feature", sa.Integer(), nullable=True),
        sa.Column("made", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inquiries"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_inquiries_run"),
        sa.ForeignKeyConstraint(["feature"], ["features.id"], name="fk_inquiries_feature"),
        sa.UniqueConstraint("name", name="uq_inquiries"),
    )
    op.create_index("ix_inquiries_run", "inquiries", ["run"])
    op.create_index("ix_inquiries_feature", "inquiries", ["feature"])
    op.create_table(
        "entries",
        sa.Column("inquiry", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("inquiry", "key", name="pk_entries"),
        sa.ForeignKeyConstraint(["inquiry"], ["inquiries.id"], name="fk_entries_inquiry"),
    )
