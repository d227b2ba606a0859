"""Block KV in vLLM: a connector for the server and an engine that asks such a server.

vLLM is imported only in its own processes: by `blockrag.vllm.connector` and, to make that known, by `register`.
"""


def register() -> None:
    """Make the connector known to vLLM by its name. vLLM calls this when it loads its plugins."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory  # noqa: PLC0415

    if "BlockRAGConnector" not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector("BlockRAGConnector", "blockrag.vllm.connector", "BlockRAGConnector")
