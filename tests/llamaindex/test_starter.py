"""LlamaIndex's starter tutorial, as published, before and after the README's three lines.

The program is that of docs/docs/getting_started/starter_example.md of run-llama/llama_index (MIT licence). Only the paid
services are stood in for: the agent's LLM and the embedding model.
"""

import asyncio
import re
import sys
import types
from pathlib import Path

import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM

from blockrag.engine import Engine
from blockrag.llamaindex import BlockSynthesizer
from tests.llamaindex.cities import CITIES, kv_files, report

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

PUBLISHED = '''\
from llama_index.core import VectorStoreIndex, SimpleDirectoryReader
from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.llms.openai import OpenAI
import asyncio
import os

# Create a RAG tool using LlamaIndex
documents = SimpleDirectoryReader("data").load_data()
index = VectorStoreIndex.from_documents(documents)
query_engine = index.as_query_engine()


def multiply(a: float, b: float) -> float:
    """Useful for multiplying two numbers."""
    return a * b


async def search_documents(query: str) -> str:
    """Useful for answering natural language questions about an personal essay written by Paul Graham."""
    response = await query_engine.aquery(query)
    return str(response)


# Create an enhanced workflow with both tools
agent = AgentWorkflow.from_tools_or_functions(
    [multiply, search_documents],
    llm=OpenAI(model="gpt-4o-mini"),
    system_prompt="""You are a helpful assistant that can perform calculations
    and search through documents to answer questions.""",
)


# Now we can ask questions about the documents or do calculations
async def main():
    response = await agent.run(
        "What did the author do in college? Also, what's 7 * 8?"
    )
    print(response)


# Run the agent
if __name__ == "__main__":
    asyncio.run(main())
'''


def patched() -> str:
    """The program with the diff that the README shows."""
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    program = PUBLISHED
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
        new = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
        if old:
            assert program.count(old) == 1, f"the tutorial has no such lines: {old}"
            program = program.replace(old, new)
    return program


@pytest.fixture
def services(monkeypatch, tmp_path, embed_model, llm):
    """A folder of data, and stand-ins for what is paid for or fetched."""
    openai = types.ModuleType("llama_index.llms.openai")
    openai.OpenAI = lambda model: MockLLM()
    monkeypatch.setitem(sys.modules, "llama_index.llms.openai", openai)
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    monkeypatch.setattr(Settings, "_embed_model", embed_model)
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir, **kwargs: llm.engine)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "essay.txt").write_text(CITIES)


def search(program: str) -> dict:
    names = {"__name__": "starter"}
    exec(compile(program, "starter.py", "exec"), names)
    names["found"] = asyncio.run(names["search_documents"]("Which river flows through Rome?"))
    return names


def test_the_published_program_runs(services, llm):
    assert search(PUBLISHED)["found"] and kv_files(llm) == set()


def test_three_lines_give_it_block_kv(services, llm):
    changed = [line for line in patched().splitlines() if line not in PUBLISHED.splitlines()]
    removed = [line for line in PUBLISHED.splitlines() if line not in patched().splitlines()]
    assert len(changed) + len(removed) <= 3
    names = search(patched())
    assert names["found"] and len(kv_files(llm)) == 1
    assert isinstance(names["query_engine"]._response_synthesizer, BlockSynthesizer)
    assert report(names["query_engine"].query("Which river flows through Cairo?"))["kv_misses"] == 0
