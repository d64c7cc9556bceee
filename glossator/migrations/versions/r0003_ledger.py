"""The ledger says what a call was for, its tokens by class, and the price it was reckoned at.

Batches that are out at a provider are written down, with the requests in them.

Older lines were of no known feature, and their tokens of these classes were not counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("llm", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
        sa.UniqueConstraint("llm", "snapshot", name="uq_prices"),
    )
    # SQLite adds no foreign keys to a table that is there: it is copied.
    with op.batch_alter_table("calls") as table:
        table.add_column(sa.Column("feature", sa.Integer(), nullable=True))
        table.add_column(sa.Column("part", sa.Text(), nullable=False, server_default=""))
        for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
            table.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("price", sa.Integer(), nullable=True))
        table.add_column(
            sa.Column("batched", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        table.create_foreign_key("fk_calls_feature", "features", ["feature"], ["id"])
        table.create_foreign_key("fk_calls_price", "prices", ["price"], ["id"])
        table.create_index("ix_calls_feature", ["feature"])
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("llm", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False, server_default=""),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("token", name="uq_batches"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_batches_run"),
    )
    op.create_index("ix_batches_account", "batches", ["account", "llm"])
    op.create_table(
        "batch_items",
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("worst", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("batch", "number", name="pk_batch_items"),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_batch_items_batch"),
    )
