"""Requests to index a document, which the program works off; what was indexed; follow-ups; ratings of answers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "index_requests",
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("due_s", sa.Double, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("document_id", name="pk_index_requests"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_index_requests_document_id", ondelete="CASCADE"
        ),
    )
    op.add_column("collections", sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("segmentations", sa.Column("indexed_cut", sa.String(32), nullable=True))
    op.add_column("turns", sa.Column("is_follow_up", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("answers", sa.Column("rating", sa.Integer, nullable=True))
