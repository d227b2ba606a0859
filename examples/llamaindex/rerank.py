"""Find by vectors, by words and by both, with neighbours, and order what was found with a cross-encoder."""

from pathlib import Path

from common import flags
from llama_index.core.query_engine import RetrieverQueryEngine

from blockrag import BlockRAG, Retrieval
from blockrag.llamaindex import BlockAttentionLLM, BlockRAGRetriever, BlockSynthesizer

parser = flags("Ask with hybrid search, neighbours and a reranker.")
parser.add_argument("--ask", default="What is this about?")
parser.add_argument("--reranker", help="such as cross-encoder/ms-marco-MiniLM-L6-v2 (default: none)")
args = parser.parse_args()

rag = BlockRAG.from_pretrained(args.model, directory=args.store, reranker=args.reranker)
rag.update(*sorted(path for path in Path(args.documents).iterdir() if path.is_file()))
synthesizer = BlockSynthesizer(BlockAttentionLLM(rag.engine, max_tokens=args.max_tokens))
for by in ("dense", "lexical", "hybrid"):
    retriever = BlockRAGRetriever(rag, similarity_top_k=2, retrieval=Retrieval(by=by, neighbours=1))
    response = RetrieverQueryEngine(retriever, synthesizer).query(args.ask)
    names = ", ".join(dict.fromkeys(node.metadata["file_name"] for node in response.source_nodes))
    print(f"{by}: {str(response).strip()!r} from {names or 'no document'}")
