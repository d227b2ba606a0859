"""How documents are divided into blocks: scores, bounds, granularity, and every edit that was ever made."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, undefer_group

from blockrag.segment import Edit, Scored, SizeBounds
from storage import models
from storage.database import Database
from storage.errors import ConflictError, NotFoundError
from storage.shared import bump_version


@dataclass(frozen=True)
class SegmentationRecord:
    """A document's segmentation. `edits` are those in force, in order; `n_redo` more can be redone. `indexed_cut` is
    the `cut` that was indexed last, empty if there is none, None if an earlier program indexed it."""

    segmenter: str
    bounds: SizeBounds
    granularity: float
    version: int
    edits: tuple[Edit, ...]
    n_redo: int
    indexed_cut: str | None = None

    @property
    def cut(self) -> str:
        """Identifies the current blocks: records of a document with an equal `cut` have equal blocks."""
        return f"{self.version}:{self.granularity:.12g}"


@dataclass(frozen=True)
class NewSegmentation:
    """What a segmenter made of a document."""

    segmenter: str
    scored: Scored
    bounds: SizeBounds
    granularity: float


@dataclass(frozen=True)
class EditRecord:
    """An edit of the history: ``done``, ``undone`` or ``dropped``, and when it was made."""

    edit: Edit
    state: str
    made_s: float


class Segmentations:
    """The segmentations of a database. Each change gives the document a version higher than any before in its
    collection, those of deleted documents included."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    def put(self, document_id: int, segmentation: NewSegmentation) -> int:
        """Replace the scores; edits stay. Returns the version. Raises NotFoundError."""
        with self._database.write() as session:
            version = bump_version(session, document_id)
            session.merge(new_row(document_id, segmentation, version))
            return version

    def get(self, document_id: int) -> SegmentationRecord:
        """A document's segmentation. Raises NotFoundError if the document is gone or was never segmented."""
        with self._database.read() as session:
            return _get(session, document_id)

    def of_collection(self, collection_id: int) -> dict[int, SegmentationRecord]:
        """The segmentations of a collection's documents, by the document's id."""
        of = select(models.Document.id).where(models.Document.collection_id == collection_id)
        found: dict[int, SegmentationRecord] = {}
        with self._database.read() as session:
            edits: dict[int, list[models.Edit]] = {}
            for edit in session.scalars(
                select(models.Edit).where(models.Edit.document_id.in_(of)).order_by(models.Edit.id)
            ):
                edits.setdefault(edit.document_id, []).append(edit)
            for row in session.scalars(select(models.Segmentation).where(models.Segmentation.document_id.in_(of))):
                found[row.document_id] = _record(row, edits.get(row.document_id, []))
        return found

    def scored(self, document_id: int) -> Scored:
        """A document's boundary scores. Raises NotFoundError."""
        with self._database.read() as session:
            row = session.get(models.Segmentation, document_id, options=[undefer_group("scored")])
            if row is None:
                raise NotFoundError("this document has no segmentation")
            return Scored(np.frombuffer(row.chars, "<i8"), np.frombuffer(row.scores, "<f4"))

    def set_granularity(self, document_id: int, granularity: float) -> None:
        """Choose a granularity. Raises NotFoundError."""
        with self._database.write() as session:
            changed = session.execute(
                update(models.Segmentation)
                .where(models.Segmentation.document_id == document_id)
                .values(granularity=granularity)
            )
            if not changed.rowcount:  # type: ignore[attr-defined]
                raise NotFoundError("this document has no segmentation")

    def note_indexed(self, document_id: int, cut: str) -> None:
        """Note that the index holds the blocks of this cut."""
        rows = update(models.Segmentation).where(models.Segmentation.document_id == document_id)
        with self._database.write() as session:
            session.execute(rows.values(indexed_cut=cut))

    def edit(self, document_id: int, edits: list[Edit], expected_version: int | None = None) -> SegmentationRecord:
        """Add edits, all or none; what was undone can no longer be redone.

        Raises
        ------
        ConflictError
            If the segmentation no longer has the version that the edits were checked against.
        NotFoundError
        """
        with self._database.write() as session:
            version = bump_version(session, document_id)
            row = session.get(models.Segmentation, document_id)
            if row is None:
                raise NotFoundError("this document has no segmentation")
            if expected_version not in (None, row.version):
                raise ConflictError("the blocks have changed; look at them and try again")
            row.version = version
            session.execute(
                update(models.Edit)
                .where(models.Edit.document_id == document_id, models.Edit.state == "undone")
                .values(state="dropped")
            )
            for edit in edits:
                session.add(
                    models.Edit(
                        document_id=document_id, char=edit.char, kind=edit.kind, state="done", made_s=self._clock()
                    )
                )
                session.flush()
            return _get(session, document_id)

    def undo(self, document_id: int) -> SegmentationRecord:
        """Undo the last edit, if there is one. Raises NotFoundError."""
        return self._step(document_id, "done", "undone", func.max)

    def redo(self, document_id: int) -> SegmentationRecord:
        """Redo the edit that was undone last, if there is one. Raises NotFoundError."""
        return self._step(document_id, "undone", "done", func.min)

    def _step(self, document_id: int, found: str, then: str, pick: Callable[..., object]) -> SegmentationRecord:
        with self._database.write() as session:
            version = bump_version(session, document_id)
            which = select(pick(models.Edit.id)).where(  # type: ignore[call-overload]
                models.Edit.document_id == document_id, models.Edit.state == found
            )
            edit = session.get(models.Edit, session.scalar(which) or 0)
            row = session.get(models.Segmentation, document_id)
            if edit is not None and row is not None:
                edit.state, row.version = then, version
            session.flush()
            return _get(session, document_id)

    def drop_edits(self, document_id: int) -> None:
        """Drop all edits; the history keeps them. Raises NotFoundError."""
        with self._database.write() as session:
            bump_version(session, document_id)
            session.execute(update(models.Edit).where(models.Edit.document_id == document_id).values(state="dropped"))

    def history(self, document_id: int) -> list[EditRecord]:
        """All edits that were ever made, oldest first."""
        query = select(models.Edit).where(models.Edit.document_id == document_id).order_by(models.Edit.id)
        with self._database.read() as session:
            return [EditRecord(_edit(row), row.state, row.made_s) for row in session.scalars(query)]


def new_row(document_id: int, segmentation: NewSegmentation, version: int) -> models.Segmentation:
    """The row of a document's segmentation."""
    return models.Segmentation(
        document_id=document_id,
        segmenter=segmentation.segmenter,
        granularity=segmentation.granularity,
        min_tokens=segmentation.bounds.minimum,
        max_tokens=segmentation.bounds.maximum,
        version=version,
        indexed_cut="",
        chars=segmentation.scored.chars.astype("<i8").tobytes(),
        scores=segmentation.scored.scores.astype("<f4").tobytes(),
    )


def _get(session: Session, document_id: int) -> SegmentationRecord:
    row = session.get(models.Segmentation, document_id)
    if row is None:
        raise NotFoundError("this document has no segmentation")
    query = select(models.Edit).where(models.Edit.document_id == document_id).order_by(models.Edit.id)
    return _record(row, session.scalars(query).all())


def _record(row: models.Segmentation, edits: Sequence[models.Edit]) -> SegmentationRecord:
    return SegmentationRecord(
        row.segmenter,
        SizeBounds(row.min_tokens, row.max_tokens),
        row.granularity,
        row.version,
        tuple(_edit(edit) for edit in edits if edit.state == "done"),
        sum(edit.state == "undone" for edit in edits),
        row.indexed_cut,
    )


def _edit(row: models.Edit) -> Edit:
    return Edit(row.char, row.kind)  # type: ignore[arg-type]
