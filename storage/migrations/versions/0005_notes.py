"""The encoding of a document's file, and notes of what its reader left out or guessed; unknown for older documents."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("documents", sa.Column("encoding", sa.String(64), nullable=True))
    op.add_column("documents", sa.Column("notes", sa.String, nullable=True))
