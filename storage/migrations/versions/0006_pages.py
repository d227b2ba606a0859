"""The number of a document's pages; unknown for older documents, and none where the format has no pages."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("documents", sa.Column("n_pages", sa.Integer, nullable=True))
