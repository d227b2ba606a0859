"""How Alembic runs the migrations: over the connection and in the transaction that `storage.migrate` gives."""

from alembic import context

from storage.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=False)
context.run_migrations()
