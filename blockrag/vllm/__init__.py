"""Block KV in vLLM: a connector for the server and an engine that asks such a server.

Only `blockrag.vllm.connector` imports vLLM, and vLLM loads it.
"""
