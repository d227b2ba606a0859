"""One query engine for each document, and a selector that sends a question to the right one."""

from common import flags, models, read
from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool

from blockrag.llamaindex import BlockSynthesizer

parser = flags("Route a question to the document that it is about.")
parser.add_argument("--ask", default="What is this about?")
args = parser.parse_args()
llm, embed_model, node_parser = models(args)

tools = []
for document in read(args.documents):
    index = VectorStoreIndex.from_documents([document], transformations=[node_parser], embed_model=embed_model)
    engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm))
    name = document.metadata["file_name"]
    tools.append(QueryEngineTool.from_defaults(engine, name=name, description=f"{name}: {document.text[:200]}"))
router = RouterQueryEngine(
    selector=EmbeddingSingleSelector.from_defaults(embed_model=embed_model),
    query_engine_tools=tools,
    llm=llm,
    summarizer=BlockSynthesizer(llm),
)
response = router.query(args.ask)
print(response)
print("from:", tools[response.metadata["selector_result"].ind].metadata.name)
