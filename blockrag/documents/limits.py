"""How much a document may cost: bytes, characters, pages, time, memory. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds for reading one file.

    Attributes
    ----------
    max_bytes : int
        Of the file.
    max_chars : int
        Of its text.
    max_expanded_bytes : int
        Of all members of a zip format (DOCX, PPTX, EPUB) once inflated.
    max_pages : int
        Of a PDF.
    timeout_s : float
        For parsing a rich format, in seconds: of wall-clock and of processor time alike.
    memory_bytes : int
        Address space of the process that parses it.

    Raises
    ------
    ValueError
        If one is not positive.
    """

    max_bytes: int = 64 << 20
    max_chars: int = 64 << 20
    max_expanded_bytes: int = 256 << 20
    max_pages: int = 5_000
    timeout_s: float = 60.0
    memory_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:  # so that NaN is refused as well
                raise ValueError(f"{name} is {value}; expected more than 0")
