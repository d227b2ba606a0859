"""The encoding in which an uploaded file is to be read, if the visitor named one."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("encoding", sa.String(64), nullable=True))
