"""A picture of one page of a PDF, drawn in a separate process."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import pypdfium2 as pdfium

from blockrag.documents import worker
from blockrag.documents.document import Limits
from blockrag.documents.sandbox import SandboxError, answer_of
from blockrag.errors import DocumentError

WIDTH, MAX_HEIGHT = 1_000, 3_000
"""Pixels of a picture: it is this wide, or narrower where it would be too high."""

TIMEOUT_S = 15.0


def picture(name: str, file: BinaryIO, page: int) -> bytes:
    """Return a page, counted from 1, as PNG.

    Raises
    ------
    DocumentError
        If there is no such page, it is damaged, or takes too long.
    """
    limits, most = replace(Limits(), timeout_s=TIMEOUT_S), 4 * WIDTH * MAX_HEIGHT
    try:
        with answer_of("blockrag.documents.pdf_picture", {"page": page}, file, limits, most) as (header, answer):
            if "reason" in header:
                raise DocumentError(name, str(header["reason"])[:1000])
            return answer.read()
    except SandboxError as error:
        raise DocumentError(name, str(error)) from error


def _drawn(task: dict[str, Any], file: BinaryIO, limits: Limits) -> worker.Answer:
    try:
        pdf = pdfium.PdfDocument(file.read())
        if not 1 <= task["page"] <= len(pdf):
            return {"reason": f"it has {len(pdf)} pages"}, iter(())
        pdf.init_forms()
        page = pdf[task["page"] - 1]
        width, height = page.get_size()
        bitmap = page.render(scale=min(WIDTH / max(width, 1), MAX_HEIGHT / max(height, 1)), rev_byteorder=True)
    except (pdfium.PdfiumError, MemoryError) as error:
        return {"reason": f"the page is damaged ({str(error)[:200]})"}, iter(())
    return {}, _png(bitmap)


def _png(bitmap: pdfium.PdfBitmap) -> Iterator[bytes]:
    """See https://www.w3.org/TR/png: colour type 0 is grey, 2 is RGB, 6 is RGBA; each row begins with its filter."""
    kind, n_channels = {1: (0, 1), 3: (2, 3), 4: (6, 4)}[bitmap.n_channels]
    data, row = bytes(bitmap.buffer), n_channels * bitmap.width
    rows = b"".join(b"\0" + data[y : y + row] for y in range(0, bitmap.stride * bitmap.height, bitmap.stride))
    yield b"\x89PNG\r\n\x1a\n"
    yield _chunk(b"IHDR", struct.pack(">IIBBBBB", bitmap.width, bitmap.height, 8, kind, 0, 0, 0))
    yield _chunk(b"IDAT", zlib.compress(rows, 6))
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    worker.serve(_drawn)
