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

LANGUAGES = {
    "en": "The river flows through the city, and it is not as deep as it was in the spring of that year. ",
    "es": "El río pasa por la ciudad y no es tan profundo como lo era en la primavera de aquel año. ",
    "fr": "La rivière traverse la ville et elle n'est pas aussi profonde que dans les mois du printemps. ",
    "de": "Der Fluss ist nicht so tief wie im Frühling, und die Stadt hat auch eine Brücke für den Zug. ",
    "it": "Il fiume non è profondo come nella primavera, e la città ha un ponte per i treni della valle. ",
    "pt": "O rio não é tão fundo como na primavera, e a cidade tem uma ponte para os trens do vale. ",
    "ru": "Река течёт через город, и она не так глубока, как весной того года. ",
    "uk": "Річка тече через місто, і вона не така глибока, як навесні того року. ",
    "zh": "河流穿过城市，没有那年春天那么深。",
    "ja": "川は町を流れていて、その年の春ほど深くない。",
    "ko": "강은 도시를 가로질러 흐르고 그해 봄만큼 깊지 않다. ",
    "ar": "يمر النهر عبر المدينة وليس عميقا كما كان في ربيع تلك السنة. ",
    "el": "Το ποτάμι περνά από την πόλη και δεν είναι τόσο βαθύ όσο την άνοιξη. ",
    "hi": "नदी शहर से होकर बहती है और उतनी गहरी नहीं है जितनी वसंत में थी। ",
}
"""A sentence of each language, by its code."""
