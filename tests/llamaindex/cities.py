"""A text with a passage that comes twice, a question to it, and what tests of LlamaIndex look at."""

CITIES = (
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
    "# Rome\n\nThe river Tiber flows through Rome; the Colosseum was finished in the year 80.\n\n"
    "# Cairo\n\nThe river Nile flows through Cairo. The pyramids of Giza are close to the city.\n\n"
    "# Paris\n\nThe river Seine flows through Paris, and the tower stands near it since 1889.\n\n"
)
QUESTION = "Which river flows through Rome?"


def report(response):
    """The report of an LLM's response, or of a query's."""
    return response.raw["blockrag"] if hasattr(response, "raw") else response.metadata["blockrag"]


def kv_files(llm):
    """Keys of the block KVs on disk."""
    return {path.stem for path in (llm.engine.kv.tiers[1]._folder).glob("*/*.safetensors")}
