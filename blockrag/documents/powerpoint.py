"""PPTX to Markdown, one page per slide: title, text, lists, tables, notes. Pictures and charts are skipped."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pptx
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.shapes.base import BaseShape
from pptx.shapes.group import GroupShape
from pptx.slide import Slide

from blockrag.documents import markdown
from blockrag.documents.document import PAGE_BREAK, Content, Limits
from blockrag.documents.zips import check_inflated

_LISTS = {PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.VERTICAL_BODY}
"""Placeholders whose paragraphs PowerPoint shows as a list."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Slides joined by `PAGE_BREAK`: title as a heading, other shapes in order, speaker notes."""
    check_inflated(name, data, limits)
    slides = pptx.Presentation(io.BytesIO(data)).slides
    return Content(PAGE_BREAK.join(markdown.paragraphs(_parts(slide)) for slide in slides))


def _parts(slide: Slide) -> Iterator[str]:
    title = slide.shapes.title
    for shape in _flat(slide.shapes):
        if shape.has_text_frame and title is not None and shape.shape_id == title.shape_id:
            yield markdown.heading(shape.text_frame.text, 1) if shape.text_frame.text.strip() else ""
        elif shape.has_text_frame:
            yield from _lines(shape)
        elif shape.has_table:
            yield "\n".join(markdown.row(cell.text for cell in row.cells) for row in shape.table.rows)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield slide.notes_slide.notes_text_frame.text


def _flat(shapes: Iterable[BaseShape]) -> Iterator[Any]:
    """Shapes in order, with groups expanded in place."""
    for shape in shapes:
        if isinstance(shape, GroupShape):
            yield from _flat(shape.shapes)
        else:
            yield shape


def _lines(shape: Any) -> Iterator[str]:
    is_list = shape.is_placeholder and shape.placeholder_format.type in _LISTS
    for paragraph in shape.text_frame.paragraphs:
        text = paragraph.text.replace("\v", "\n").strip()  # \v: a line break inside a paragraph
        yield markdown.item(text, paragraph.level) if text and (is_list or paragraph.level) else text
