"""The application: flags -> settings -> services -> page. Also the entry of the Hugging Face Space.

python app.py                        serves on http://127.0.0.1:7860
python app.py --host 0.0.0.0         to other machines too: each browser then has collections of its own
python app.py --users FILE           with a login (python app.py --hash-password tells how a password is written)
python app.py --demo                 for anyone on the internet: small limits, and collections that expire
"""

import argparse
import getpass
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from blockrag.cli import options
from blockrag.errors import BlockRAGError
from blockrag.segment import DEFAULT_SEGMENTER, SEGMENTERS
from ui import malloc

LOOPBACK = ("127.0.0.1", "localhost", "::1", None)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, from flags; Gradio's own variables stand in where a flag is absent."""
    parser = argparse.ArgumentParser(description="Load documents, shape their blocks, index them, ask.")
    parser.add_argument("--host", help="address to listen on (default: $GRADIO_SERVER_NAME, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: $GRADIO_SERVER_PORT, or the first free from 7860)")
    parser.add_argument(
        "--data-dir", type=Path, help="where collections and block KV are kept (default: in the cache folder)"
    )
    parser.add_argument(
        "--database", help="URL of the database, such as postgresql://HOST/NAME (default: SQLite in the data folder)"
    )
    parser.add_argument("--model", default="smollm2", help="answering model: catalog name, hub name or folder")
    parser.add_argument("--adapter", default="auto", help=options.ADAPTER_HELP)
    parser.add_argument("--embedder", default="minilm", help="sentence encoder: catalog name, hub name or folder")
    parser.add_argument(
        "--segmenter", choices=SEGMENTERS, default=DEFAULT_SEGMENTER, help="for new documents (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    parser.add_argument("--allow-unverified", action="store_true", help="accept model families that are not verified")
    who = parser.add_argument_group("who may do what")
    who.add_argument(
        "--access",
        choices=("shared", "private"),
        help="whose collections are: of all who reach the page, or of each browser (default: private where other "
        "machines reach it)",
    )
    who.add_argument("--users", type=Path, metavar="FILE", help="login: JSON of names and hashed passwords")
    who.add_argument("--hash-password", action="store_true", help="ask for a password and print it as --users wants it")
    who.add_argument(
        "--demo", action="store_true", help="private, with small limits; collections expire (default on a Space)"
    )
    parser.add_argument("--mcp", action="store_true", help="serve the API as an MCP server too")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    options.add_kv_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch what is missing, load the models, serve the page."""
    args = parse(argv)
    malloc.limit()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # After the flags, so that --help is quick.
    from ui.passwords import hash_password  # noqa: PLC0415

    if args.hash_password:
        sys.stdout.write(hash_password(getpass.getpass()) + "\n")
        return
    log(args.log_json)
    with tempfile.TemporaryDirectory(prefix="blockrag-") as received:
        os.environ.setdefault("GRADIO_TEMP_DIR", received)  # which no other user of the machine can read
        service = make_service(args)
        sys.stdout.write(f"BlockRAG is on {service.launch(args.host, args.port)}\n")
        sys.stdout.flush()
        service.wait()


def make_service(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """The engine, the database and the page, in step with one another."""
    from blockrag.engine import Engine  # noqa: PLC0415
    from blockrag.models.store import home  # noqa: PLC0415
    from storage.database import sqlite_url  # noqa: PLC0415
    from storage.doctor import mend  # noqa: PLC0415
    from storage.library import Library  # noqa: PLC0415
    from storage.store import Store  # noqa: PLC0415
    from ui import zerogpu  # noqa: PLC0415
    from ui.collection_service import CollectionService  # noqa: PLC0415
    from ui.handlers.settings import restore_budgets  # noqa: PLC0415
    from ui.limits import DEMO, Limits  # noqa: PLC0415
    from ui.passwords import auth_of  # noqa: PLC0415
    from ui.preferences import Started  # noqa: PLC0415
    from ui.serve import Service  # noqa: PLC0415

    data_dir = args.data_dir or home() / "app"
    demo = args.demo or bool(os.environ.get("SPACE_ID"))
    if zerogpu.is_here():
        zerogpu.announce()
    engine = Engine.from_pretrained(
        args.model,
        adapter=args.adapter,
        embedder=args.embedder,
        kv_dir=data_dir / "kv",
        device="cpu" if zerogpu.is_here() else args.device,
        allow_unverified=args.allow_unverified,
        **options.kv_settings(args),
    )
    options.tell_adapter(engine)
    library = Library(Store.open(args.database or sqlite_url(data_dir / "blockrag.sqlite")), engine, data_dir)
    for trouble in mend(library)[0]:
        logging.getLogger("blockrag.app").warning("%s: %s", trouble.where, trouble.what)
    limits = DEMO if demo else Limits()
    started = Started(args.model, args.adapter, args.embedder)
    workspaces = CollectionService(library, access_of(args, demo), args.segmenter, limits, expire=demo, started=started)
    restore_budgets(workspaces)
    return Service(workspaces, data_dir, auth_of(args.users) if args.users else None, mcp=args.mcp)


def access_of(args: argparse.Namespace, demo: bool):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Whose collections are."""
    if args.users:
        return "login"
    host = args.host or os.environ.get("GRADIO_SERVER_NAME")
    return "private" if demo else args.access or ("shared" if host in LOOPBACK else "private")


def log(as_json: bool) -> None:
    """Send the log to standard error."""
    from ui.serve import JSONLines  # noqa: PLC0415

    handler = logging.StreamHandler()
    handler.setFormatter(JSONLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "httpcore", "alembic", "sentence_transformers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    try:
        main()
    except BlockRAGError as error:
        sys.exit(f"blockrag: {error}")
