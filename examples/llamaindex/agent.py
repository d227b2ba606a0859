"""An agent whose tool asks the documents. Small models follow the agent's format badly: use one of several billions."""

import asyncio

from common import flags, models, read
from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import ReActAgent, ToolCallResult
from llama_index.core.tools import QueryEngineTool

from blockrag.llamaindex import BlockSynthesizer

parser = flags("Let an agent ask the documents.")
parser.add_argument("--ask", default="What is this about?")
args = parser.parse_args()
llm, embed_model, node_parser = models(args)

index = VectorStoreIndex.from_documents(read(args.documents), transformations=[node_parser], embed_model=embed_model)
query_engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm))
tool = QueryEngineTool.from_defaults(query_engine, name="documents", description="Answers from the documents.")


async def main() -> None:
    """Run the agent, and print what its tool said and its answer."""
    handler = ReActAgent(tools=[tool], llm=llm).run(args.ask)
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            print("documents:", event.tool_output.content.strip())
    print("agent:", str(await handler).strip())


asyncio.run(main())
