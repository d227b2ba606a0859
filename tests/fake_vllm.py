"""A server of tests that answers as vLLM with our connector does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.generate import end_tokens, prefill


class FakeVLLM(ThreadingHTTPServer):
    """Answers as vLLM with our connector does; `lose` forgets all block KV, `has_connector` may be switched off, and
    with `is_wrong` block mode computes something else."""

    daemon_threads = True

    def __init__(self, engine, names=("base", "block", "full")):
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.model, self.names, self.has_connector, self.is_wrong = engine.model, names, True, False
        self.encoded, self.bodies, self.keys, self.sessions = set(), [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def lose(self):
        self.encoded.clear()

    def context(self, body):
        """The joined KV, and the tokens that are left to compute."""
        params = (body.get("kv_transfer_params") or {}).get("blockrag")
        prompt, n = body["prompt"], body["max_tokens"]
        model, parts, end = self.model, [], 0
        if params:
            end = params["prefix"]
            prefix, n_sinks = tuple(prompt[:end]), model.format.n_sinks
            parts, blocks = [encode_prefix(model, prefix)] if prefix else [], []
            if prefix and prefix not in self.encoded:
                raise LookupError
            for length in params["blocks"]:
                block = tuple(prompt[end : end + length])
                seen = prefix if model.format.prefix_visible else ()
                if (*seen, *block) not in self.encoded:
                    raise LookupError
                blocks.append(block[n_sinks:])
                end += length
            encoded = sorted(encode_blocks(model, blocks, *parts), key=lambda each: each.number)
            parts += [each.kv for each in encoded]
        return assemble(parts, model.rope, model.kv_storage(len(prompt) + n)), prompt[end:]

    def tokens(self, body):
        cache, following = self.context(body)
        for _ in range(body["max_tokens"]):
            following = [int(prefill(self.model, following, cache).argmax())]
            yield following[0]
            if following[0] in end_tokens(self.model):
                return

    def logprobs(self, body):
        cache, following = self.context(body)
        found = prefill(self.model, following, cache).log_softmax(-1)
        found -= self.is_wrong * bool(body.get("kv_transfer_params"))
        return {f"token_id:{token}": value for token, value in enumerate(found.tolist())}


class FakeHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._json({"data": [{"id": name} for name in self.server.names]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.bodies.append(body)
        server.keys.append(self.headers["Authorization"])
        server.sessions.append(self.headers["X-Session-ID"])
        params = (body.get("kv_transfer_params") or {}).get("blockrag") or {}
        if "logprobs" in body:
            self._json({"choices": [{"logprobs": {"top_logprobs": [server.logprobs(body)]}}]})
            return
        if not body.get("stream"):
            server.encoded.add(tuple(body["prompt"]))
            told = {"blockrag": {"mode": "encode", "n_loaded": 0}} if server.has_connector and params else None
            self._json({"choices": [{"text": ""}], "kv_transfer_params": told})
            return
        self.send_response(200)
        self.end_headers()
        try:
            for token in server.tokens(body):
                self._event({"choices": [{"token_ids": [token], "finish_reason": None}]})
            self.wfile.write(b"data: [DONE]\n\n")
        except LookupError:
            self._event({"error": {"message": "no block KV"}})

    def _event(self, told):
        self.wfile.write(f"data: {json.dumps(told)}\n\n".encode())

    def _json(self, told):
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
