"""A database with its repositories."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.blocks import Blocks
from storage.collections import Collections
from storage.conversations import Conversations
from storage.database import Database
from storage.documents import Documents
from storage.jobs import Jobs
from storage.segmentations import Segmentations
from storage.settings import Settings


@dataclass(frozen=True)
class Store:
    """A database with its repositories. Safe to use from several threads."""

    database: Database
    collections: Collections
    documents: Documents
    segmentations: Segmentations
    blocks: Blocks
    conversations: Conversations
    settings: Settings
    jobs: Jobs

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] = time.time) -> "Store":
        """Open the database at `url`; see `Database`."""
        database = Database(url)
        return cls(
            database,
            Collections(database, clock),
            Documents(database, clock),
            Segmentations(database, clock),
            Blocks(database),
            Conversations(database, clock),
            Settings(database),
            Jobs(database, clock),
        )

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
