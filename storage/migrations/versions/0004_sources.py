"""Documents by source, texts in parts, a vector for each text, pages with blocks; where KV is is not kept any more."""

import sqlalchemy as sa
from alembic import op

from blockrag.documents import Document, source_id
from blockrag.index.upgrade import former_source

revision = "0004"
down_revision = "0003"

PART_CHARS = 4096
FOREVER = {"sqlite_autoincrement": True}


def upgrade() -> None:
    sequences = _sequences()
    op.drop_table("kv_places")
    with op.batch_alter_table("collections", table_kwargs=FOREVER) as table:
        table.add_column(sa.Column("index_version", sa.Integer, nullable=False, server_default="0"))
    _make_tables()
    _fill_vectors()
    with op.batch_alter_table("documents", table_kwargs=FOREVER) as table:
        table.add_column(sa.Column("document_id", sa.String(64), nullable=True))
        table.add_column(sa.Column("source", sa.String, nullable=True))
    with op.batch_alter_table("blocks", table_kwargs=FOREVER) as table:
        table.add_column(sa.Column("is_estimate", sa.Boolean, nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("page", sa.Integer, nullable=True))
    with op.batch_alter_table("sources") as table:
        table.add_column(sa.Column("page", sa.Integer, nullable=True))
        table.add_column(sa.Column("text", sa.LargeBinary, nullable=True))
    _fill_documents()
    _drop_columns()
    for name, last_id in sequences:
        update = sa.text("UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name")
        op.get_bind().execute(update, {"seq": last_id, "name": name})


def _sequences() -> list[tuple[str, int]]:
    """Last ids that SQLite gave, which it forgets of a table that it makes anew."""
    if op.get_bind().dialect.name != "sqlite":
        return []
    return [tuple(row) for row in op.get_bind().execute(sa.text("SELECT name, seq FROM sqlite_sequence"))]


def _make_tables() -> None:
    op.create_table(
        "document_parts",
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("document_id", "number", name="pk_document_parts"),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name="fk_document_parts_document_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "vectors",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("collection_id", sa.Integer, nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("kv_key", sa.String(64), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vectors"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_vectors_collection_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("collection_id", "made_by", "kv_key", name="uq_vectors_collection_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vectors_kv_key", "vectors", ["kv_key"])


def _fill_vectors() -> None:
    """A vector for each text that a collection's blocks have, and the blocks' reference to it."""
    op.execute(
        "INSERT INTO vectors (collection_id, made_by, kv_key, vector) "
        "SELECT d.collection_id, b.made_by, b.kv_key, b.vector FROM blocks b JOIN documents d ON d.id = b.document_id "
        "WHERE b.id IN (SELECT min(c.id) FROM blocks c JOIN documents e ON e.id = c.document_id "
        "GROUP BY e.collection_id, c.made_by, c.kv_key) ORDER BY b.id"
    )
    with op.batch_alter_table("blocks", table_kwargs=FOREVER) as table:
        table.add_column(sa.Column("vector_id", sa.Integer, nullable=True))
    op.execute(
        "UPDATE blocks SET vector_id = "
        "(SELECT v.id FROM vectors v JOIN documents d ON d.collection_id = v.collection_id "
        "WHERE d.id = blocks.document_id AND v.made_by = blocks.made_by AND v.kv_key = blocks.kv_key)"
    )


def _fill_documents() -> None:
    """Sources of documents, their texts in parts, pages of blocks, texts and pages of what answers were given."""
    connection, taken = op.get_bind(), dict[int, set[str]]()
    for (number,) in connection.execute(sa.text("SELECT id FROM documents ORDER BY id")).all():
        select = sa.text("SELECT collection_id, name, media_type, sha256, text FROM documents WHERE id = :id")
        collection_id, name, media_type, sha256, text = connection.execute(select, {"id": number}).one()
        source = former_source(name, sha256, taken.setdefault(collection_id, set()))
        document = Document(name, media_type, bytes(text).decode("utf-8", "surrogatepass"), source)
        connection.execute(
            sa.text("UPDATE documents SET document_id = :document_id, source = :source WHERE id = :id"),
            {"id": number, "document_id": source_id(source), "source": source},
        )
        for part, start in enumerate(range(0, len(document.text), PART_CHARS)):
            connection.execute(
                sa.text("INSERT INTO document_parts VALUES (:id, :number, :text)"),
                {"id": number, "number": part, "text": _encode(document.text[start : start + PART_CHARS])},
            )
        _fill_spans(connection, number, document)


def _fill_spans(connection: sa.Connection, number: int, document: Document) -> None:
    blocks = connection.execute(sa.text("SELECT id, start FROM blocks WHERE document_id = :id"), {"id": number}).all()
    for id, start in blocks if document.page_of(0) else ():
        update = sa.text("UPDATE blocks SET page = :page WHERE id = :id")
        connection.execute(update, {"id": id, "page": document.page_of(start)})
    select = sa.text('SELECT turn_id, number, start, "end" FROM sources WHERE document_id = :id')
    for turn_id, place, start, end in connection.execute(select, {"id": number}).all():
        connection.execute(
            sa.text("UPDATE sources SET page = :page, text = :text WHERE turn_id = :turn_id AND number = :number"),
            {
                "turn_id": turn_id,
                "number": place,
                "page": document.page_of(start),
                "text": _encode(document.text[start:end]),
            },
        )


def _drop_columns() -> None:
    with op.batch_alter_table("documents", table_kwargs=FOREVER) as table:
        table.drop_constraint("uq_documents_collection_id", type_="unique")
        table.drop_column("text")
        table.alter_column("document_id", existing_type=sa.String(64), nullable=False)
        table.alter_column("source", existing_type=sa.String, nullable=False)
        table.create_unique_constraint("uq_documents_collection_id", ["collection_id", "document_id"])
    op.drop_index("ix_blocks_kv_key", "blocks")
    with op.batch_alter_table("blocks", table_kwargs=FOREVER) as table:
        for column in ("kv_key", "made_by", "vector"):
            table.drop_column(column)
        table.alter_column("vector_id", existing_type=sa.Integer, nullable=False)
        table.alter_column("is_estimate", existing_type=sa.Boolean, server_default=None)
        table.create_foreign_key("fk_blocks_vector_id", "vectors", ["vector_id"], ["id"])
    op.create_index("ix_blocks_vector_id", "blocks", ["vector_id"])
    with op.batch_alter_table("sources") as table:
        table.alter_column("text", existing_type=sa.LargeBinary, nullable=False)
    with op.batch_alter_table("collections", table_kwargs=FOREVER) as table:
        table.alter_column("index_version", existing_type=sa.Integer, server_default=None)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
