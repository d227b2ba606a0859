"""The full-text index of the blocks, filled from their texts, and metadata of documents, of which older ones have none.

A later version that makes the table ``vectors`` anew must make the trigger on it again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from blockrag.documents import Document
from storage.words import POSTGRESQL, SQLITE, enter

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("documents", sa.Column("metadata", sa.String, nullable=True))
    connection = op.get_bind()
    for statement in SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL:
        connection.exec_driver_sql(statement)
    with Session(connection) as session:
        documents = "SELECT id, collection_id, name, media_type FROM documents ORDER BY id"
        for number, collection_id, name, media_type in session.execute(sa.text(documents)).all():
            parts = "SELECT text FROM document_parts WHERE document_id = :id ORDER BY number"
            text = "".join(bytes(part).decode("utf-8", "surrogatepass") for part in _scalars(session, parts, number))
            _enter(session, number, collection_id, Document(name, media_type, text))


def _enter(session: Session, number: int, collection_id: int, document: Document) -> None:
    blocks = sa.text(
        'SELECT v.made_by, b.vector_id, b.start, b."end" FROM blocks b JOIN vectors v ON v.id = b.vector_id '
        "WHERE b.document_id = :id ORDER BY b.id"
    )
    texts: dict[str, dict[int, str]] = {}
    for made_by, vector_id, start, end in session.execute(blocks, {"id": number}):
        texts.setdefault(made_by, {}).setdefault(vector_id, document.block_text(start, end))
    for made_by, of_models in texts.items():
        enter(session, collection_id, made_by, of_models)


def _scalars(session: Session, statement: str, number: int) -> list[bytes]:
    return list(session.scalars(sa.text(statement), {"id": number}))
