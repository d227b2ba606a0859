"""A document of three cities whose blocks have 16 to 64 tokens."""

from blockrag.documents import Document
from blockrag.segment import SizeBounds

BOUNDS = SizeBounds(16, 64)
CITIES = Document(
    "cities.md",
    "text/markdown",
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
    "# Rome\n\nThe river Tiber flows through Rome; the Colosseum was finished in the year 80.\n\n"
    "# Cairo\n\nThe river Nile flows through Cairo. The pyramids of Giza are close to the city.\n",
)
