"""Settings of owners and of the application: JSON values under short names."""

import json
from typing import Any

from sqlalchemy import delete, select

from storage import models
from storage.database import Database

APPLICATION = ""
"""The owner of the application's settings."""


class Settings:
    """The settings of a database."""

    def __init__(self, database: Database):
        self._database = database

    def of(self, owner: str) -> dict[str, Any]:
        """All of an owner's settings."""
        query = select(models.Setting).where(models.Setting.owner == owner)
        with self._database.read() as session:
            return {row.key: json.loads(row.value) for row in session.scalars(query)}

    def put(self, owner: str, values: dict[str, Any]) -> None:
        """Set these values, all or none."""
        with self._database.write() as session:
            for key, value in values.items():
                session.merge(models.Setting(owner=owner, key=key, value=json.dumps(value)))

    def delete(self, owner: str) -> None:
        """Forget all of an owner's settings."""
        with self._database.write() as session:
            session.execute(delete(models.Setting).where(models.Setting.owner == owner))
