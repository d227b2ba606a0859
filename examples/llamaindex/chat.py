"""A chat over several turns; each turn's blocks are reused."""

from common import flags, models, read
from llama_index.core import VectorStoreIndex

from blockrag.llamaindex import BlockContextChatEngine

parser = flags("Chat over a folder.")
parser.add_argument("--ask", nargs="+", default=["What is this about?", "What else does it say?"])
args = parser.parse_args()
llm, embed_model, node_parser = models(args)

index = VectorStoreIndex.from_documents(read(args.documents), transformations=[node_parser], embed_model=embed_model)
chat = BlockContextChatEngine.from_defaults(index.as_retriever(similarity_top_k=3), llm=llm)
for question in args.ask:
    stream = chat.stream_chat(question)
    print(f"> {question}\n{''.join(stream.response_gen).strip()}")
    print(f"  {stream.metadata['blockrag']['n_tokens_saved']} tokens reused")
print(len(chat.chat_history), "messages")
