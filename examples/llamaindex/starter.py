"""Index a folder and ask: ``python examples/llamaindex/starter.py DOCUMENTS --ask "Who wrote it?"``."""

from common import flags, models, read
from llama_index.core import VectorStoreIndex

from blockrag.llamaindex import BlockSynthesizer

parser = flags("Index a folder and ask one question.")
parser.add_argument("--ask", default="What is this about?")
args = parser.parse_args()
llm, embed_model, node_parser = models(args)

index = VectorStoreIndex.from_documents(read(args.documents), transformations=[node_parser], embed_model=embed_model)
query_engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm), similarity_top_k=4)
for _ in range(2):  # the second time, every block's KV is reused
    response = query_engine.query(args.ask)
    report = response.metadata["blockrag"]
    print(f"{response}\n  first token after {report['ttft_ms']:.0f} ms, {report['kv_misses']} blocks computed")
