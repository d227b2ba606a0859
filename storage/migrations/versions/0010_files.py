"""The source of an upload that is not its name, whether its scanned pages are read, and the file kept of a document."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("source", sa.String(), nullable=True))
    op.add_column("uploads", sa.Column("ocr", sa.Boolean(), nullable=True))
    op.add_column("documents", sa.Column("file", sa.String(64), nullable=True))
