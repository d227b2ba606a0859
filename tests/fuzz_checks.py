"""What altered archives and KV files must be: refused with a reason, or what they say they are."""

import io
import json
import zipfile

import torch

from blockrag.documents import Limits
from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.reader import kv_from_bytes
from blockrag.kv.writer import kv_to_bytes
from storage.archive_reader import MANIFEST, read

ENTRY = {
    "name": "a.md", "source": "a.md", "media_type": "text/markdown", "encoding": "", "notes": ["one"], "sha256": "0" * 64,
    "segmenter": "structural", "bounds": [16, 128], "granularity": 0.5, "chars": [5, 9], "scores": [0.5, 0.25],
    "edits": [[7, "added"]],
}  # fmt: skip
LISTED = {"format": "blockrag-collection", "version": 1, "name": "Rivers", "documents": [ENTRY]}
KV = BlockKV(torch.arange(48.0).view(2, 2, 3, 4), -torch.arange(48.0).view(2, 2, 3, 4))


def archive(manifest: bytes, text: bytes = b"# Head\n\nA text.\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(MANIFEST, manifest)
        made.writestr("documents/0.txt", text)
    return file.getvalue()


def is_answered(data: bytes) -> None:
    header, rest = read({"n_documents": 5, "n_chars": 10_000}, io.BytesIO(data), Limits())
    parts = b"".join(rest)
    assert header.get("reason") or (isinstance(header["name"], str) and header["n_documents"] >= 0)
    json.dumps(header)
    assert len(parts) < 1 << 20


def is_refused_or_what_it_was(data: bytes, at_rest: str = "exact") -> None:
    whole = kv_from_bytes(kv_to_bytes(KV, "identity", "key", at_rest), "identity", "key", at_rest)
    try:
        found = kv_from_bytes(data, "identity", "key", at_rest)
    except (KVCorruptError, KVMismatchError):
        return
    assert torch.equal(found.keys, whole.keys) and torch.equal(found.values, whole.values)
    assert found.first_position == whole.first_position
