"""The ledger says how much of a cost is assumed, where no bill is known.

Of older lines that is so where a call was out when its process ended, or failed, and has a cost but
no tokens. Replies without a usage had no cost there; what they can have cost is not known any more.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("assumed", sa.Float(), nullable=False, server_default="0"))
    calls = sa.table(
        "calls",
        *(sa.column(name) for name in ("assumed", "cost", "error_type")),
        *(sa.column(name) for name in ("prompt_tokens", "completion_tokens")),
    )
    told_nothing = calls.c.prompt_tokens + calls.c.completion_tokens == 0
    op.execute(
        calls.update()
        .where(calls.c.error_type != "", calls.c.cost > 0, told_nothing)
        .values(assumed=calls.c.cost)
    )
