"""Documents to index."""

from blockrag.documents import Document
from blockrag.segment import SizeBounds

BOUNDS = SizeBounds(16, 64)
"""Bounds that give `CITIES` several blocks."""

CITIES = Document(
    "cities.md",
    "text/markdown",
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
    "# Rome\n\nThe river Tiber flows through Rome; the Colosseum was finished in the year 80.\n\n"
    "# Cairo\n\nThe river Nile flows through Cairo. The pyramids of Giza are close to the city.\n",
)

RIVERS = Document(
    "rivers.txt",
    "text/plain",
    "".join(f"River {i} is {i} kilometres long and flows to the sea. " * 4 + "\n\n" for i in range(6)),
)

RIVER_SECTIONS = "".join(f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long.\n\n" for i in range(12))
"""Markdown with a heading for each block."""
