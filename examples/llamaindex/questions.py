"""Ten questions at once: the engine admits as many as it has slots for, and the others wait their turn."""

import asyncio

from common import flags, models, read
from llama_index.core import VectorStoreIndex

from blockrag.llamaindex import BlockSynthesizer

parser = flags("Ask ten questions at once.")
args = parser.parse_args()
llm, embed_model, node_parser = models(args)

index = VectorStoreIndex.from_documents(read(args.documents), transformations=[node_parser], embed_model=embed_model)
query_engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm))


async def main() -> None:
    """Ask, and print each answer with the time it waited."""
    asked = [query_engine.aquery(f"What does part {number} say?") for number in range(1, 11)]
    for number, response in enumerate(await asyncio.gather(*asked), start=1):
        waited = response.metadata["blockrag"]["queued_ms"]
        print(f"{number}: {str(response).strip()!r} (waited {waited:.0f} ms)")


asyncio.run(main())
