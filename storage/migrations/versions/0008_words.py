"""The full-text index of the blocks, filled from their texts, and metadata of documents, of which older ones have none.

A later version that makes the table ``vectors`` anew must make the trigger on it again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

from storage import words

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("documents", sa.Column("metadata", sa.String, nullable=True))
    connection = op.get_bind()
    for statement in words.SQLITE if connection.dialect.name == "sqlite" else words.POSTGRESQL:
        connection.exec_driver_sql(statement)
    with Session(connection) as session:
        words.fill(session)
