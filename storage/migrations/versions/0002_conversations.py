"""Conversations with their answers and sources, and settings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("collection_id", sa.Integer, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("created_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_conversations_collection_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_conversations_collection_id", "conversations", ["collection_id"])
    op.create_table(
        "turns",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("conversation_id", sa.Integer, nullable=False),
        sa.Column("question", sa.String, nullable=False),
        sa.Column("asked_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_turns_conversation_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turns_conversation_id", "turns", ["conversation_id"])
    op.create_table(
        "answers",
        sa.Column("turn_id", sa.Integer, nullable=False),
        sa.Column("mode", sa.String(32), nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("stopped", sa.String(32), nullable=False),
        sa.Column("report", sa.String, nullable=False),
        sa.Column("citations", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "mode", name="pk_answers"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_answers_turn_id", ondelete="CASCADE"),
    )
    op.create_table(
        "sources",
        sa.Column("turn_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("end", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("n_tokens", sa.Integer, nullable=False),
        sa.Column("left_out", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "number", name="pk_sources"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_sources_turn_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_sources_document_id", ondelete="CASCADE"),
    )
    op.create_index("ix_sources_document_id", "sources", ["document_id"])
    op.create_table(
        "settings",
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_settings"),
    )
