"""Collections, documents, their segmentations, and their blocks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "collections",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_s", sa.Double, nullable=False),
        sa.Column("used_s", sa.Double, nullable=False),
        sa.Column("clock", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("token", name="uq_collections_token"),
        sa.UniqueConstraint("owner", "name", name="uq_collections_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_collections_owner", "collections", ["owner"])
    op.create_index("ix_collections_used_s", "collections", ["used_s"])
    op.create_table(
        "documents",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("collection_id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("media_type", sa.String(200), nullable=False),
        sa.Column("n_chars", sa.Integer, nullable=False),
        sa.Column("added_s", sa.Double, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_documents_collection_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("collection_id", "sha256", name="uq_documents_collection_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_documents_collection_id", "documents", ["collection_id"])
    op.create_table(
        "segmentations",
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("segmenter", sa.String(32), nullable=False),
        sa.Column("min_tokens", sa.Integer, nullable=False),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("granularity", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("chars", sa.LargeBinary, nullable=False),
        sa.Column("scores", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("document_id", name="pk_segmentations"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_segmentations_document_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "edits",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("char", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("made_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_edits"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_edits_document_id", ondelete="CASCADE"),
        sa.CheckConstraint("kind IN ('added', 'removed')", name=op.f("ck_edits_kind")),
        sa.CheckConstraint("state IN ('done', 'undone', 'dropped')", name=op.f("ck_edits_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_edits_document_id", "edits", ["document_id"])
    op.create_table(
        "blocks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("end", sa.Integer, nullable=False),
        sa.Column("n_tokens", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("kv_key", sa.String(64), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_blocks"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_blocks_document_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_blocks_document_id", "blocks", ["document_id"])
    op.create_index("ix_blocks_kv_key", "blocks", ["kv_key"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("collection_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("nbytes", sa.Integer, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("received_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.UniqueConstraint("file", name="uq_uploads_file"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_uploads_collection_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("state IN ('waiting', 'failed')", name=op.f("ck_uploads_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_uploads_collection_id", "uploads", ["collection_id"])
