"""Where blocks' KV is (in several tiers, and shared by equal blocks), and KV that is being made."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "kv_places",
        sa.Column("kv_key", sa.String(64), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("seen_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("kv_key", "tier", name="pk_kv_places"),
    )
    op.create_table(
        "encodings",
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("kv_key", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("document_id", "kv_key", name="pk_encodings"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_encodings_document_id", ondelete="CASCADE"),
    )
    op.create_index("ix_encodings_kv_key", "encodings", ["kv_key"])
