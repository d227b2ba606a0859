"""The application: flags -> services -> page. Also the entry point of a Hugging Face Space.

python app.py                        serves on http://127.0.0.1:7860
python app.py --host 0.0.0.0         serves other machines too; each browser then has its own collections
python app.py --users FILE           requires a login; python app.py --hash-password makes the hashes for FILE
python app.py --demo                 for the open internet: small limits, collections that expire
"""

import argparse
import getpass
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from blockrag.cli import options
from blockrag.errors import ArgumentError, BlockRAGError
from blockrag.models import DEFAULT_MODEL
from blockrag.segment import DEFAULT_SEGMENTER, SEGMENTERS
from ui import malloc

INCOMING = "incoming"
"""Folder, in the data folder, of files that arrive and of exports."""
NO_ZEROGPU = (
    "this Space runs on ZeroGPU, which lends a GPU to a process that ends after seconds, and its block KV with it. "
    "Choose CPU or a GPU of its own in the Space's settings"
)
LOOPBACK = ("127.0.0.1", "localhost", "::1", None)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags. Gradio's environment variables apply where a flag is absent."""
    parser = argparse.ArgumentParser(description="Ask your documents: load, segment, index, ask.")
    parser.add_argument("--host", help="address to listen on (default: $GRADIO_SERVER_NAME, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: $GRADIO_SERVER_PORT, or the first free from 7860)")
    parser.add_argument(
        "--data-dir", type=Path, help="folder of collections and block KV (default: in the cache folder)"
    )
    parser.add_argument(
        "--database", help="database URL, such as postgresql://HOST/NAME (default: SQLite in the data folder)"
    )
    parser.add_argument("--model", help=options.MODEL_HELP + "; without it, the model that was chosen on the page")
    parser.add_argument("--adapter", default="auto", help=options.ADAPTER_HELP)
    parser.add_argument("--embedder", default="minilm", help="sentence encoder: catalog name, hub name or folder")
    parser.add_argument(
        "--segmenter", choices=SEGMENTERS, default=DEFAULT_SEGMENTER, help="for new documents (default: %(default)s)"
    )
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if there is one)")
    options.add_dtype_option(parser)
    parser.add_argument("--allow-unverified", action="store_true", help="accept unverified model families")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--access",
        choices=("shared", "private"),
        help="shared: everyone who reaches the page shares all collections; private: each browser has its own "
        "(default: private if other machines can reach the page)",
    )
    access.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer only to this host name and loopback names (default: in shared mode loopback, else any)",
    )
    access.add_argument("--users", type=Path, metavar="FILE", help="require a login: JSON of names and password hashes")
    access.add_argument("--hash-password", action="store_true", help="ask for a password and print its hash")
    access.add_argument(
        "--demo", action="store_true", help="private access, small limits, collections expire (default on a Space)"
    )
    parser.add_argument("--mcp", action="store_true", help="serve the API as an MCP server too")
    parser.add_argument(
        "--metrics", action="store_true", help="serve /metrics (Prometheus) to whoever reaches the page"
    )
    parser.add_argument("--log-json", action="store_true", help="log one JSON object per line")
    options.add_kv_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch missing weights, load the models, serve the page."""
    args = parse(argv)
    malloc.limit_arenas()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if os.environ.get("SPACE_ID"):
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")  # a Space is reached through its proxies only
    from ui.passwords import hash_password  # noqa: PLC0415  (so that --help is quick)

    if args.hash_password:
        sys.stdout.write(hash_password(getpass.getpass()) + "\n")
        return
    from storage.lock import locked  # noqa: PLC0415
    from ui import logs  # noqa: PLC0415

    logs.configure(args.log_json)

    with locked(data_dir_of(args)):
        os.environ.setdefault("GRADIO_TEMP_DIR", str(empty_incoming(data_dir_of(args))))
        server = make_server(args)
        sys.stdout.write(f"BlockRAG is on {server.launch(args.host, args.port)}\n")
        sys.stdout.flush()
        server.wait()


def make_server(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Connect the engine, the database and the page."""
    from blockrag.engine import Engine  # noqa: PLC0415
    from storage.database import sqlite_url  # noqa: PLC0415
    from storage.doctor import mend  # noqa: PLC0415
    from storage.library import Library  # noqa: PLC0415
    from storage.settings import APPLICATION  # noqa: PLC0415
    from storage.store import Store  # noqa: PLC0415
    from ui.collection_service import CollectionService  # noqa: PLC0415
    from ui.handlers.settings import restore_budgets  # noqa: PLC0415
    from ui.limits import DEMO, Limits  # noqa: PLC0415
    from ui.models import ModelNames  # noqa: PLC0415
    from ui.passwords import auth_of  # noqa: PLC0415
    from ui.server import Server  # noqa: PLC0415

    auth = auth_of(args.users) if args.users else None
    data_dir = data_dir_of(args)
    demo = args.demo or bool(os.environ.get("SPACE_ID"))
    if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true"):
        raise ArgumentError(NO_ZEROGPU)
    store = Store.open(args.database or sqlite_url(data_dir / "blockrag.sqlite"))
    chosen = args.model or store.settings.of(APPLICATION).get("model")  # on the page, earlier
    model = options.pick_model(chosen or DEFAULT_MODEL, args.device)

    def load(name: str) -> Engine:
        return Engine.from_pretrained(
            name,
            adapter=args.adapter,
            embedder=args.embedder,
            kv_dir=data_dir / "kv",
            device=args.device,
            dtype=args.dtype,
            allow_unverified=args.allow_unverified,
            **options.kv_settings(args),
        )

    library = Library(store, load(model.name), data_dir)
    for problem in mend(library)[0]:
        logging.getLogger("blockrag.app").warning(
            "%s: %s", problem.where, problem.what.partition(" (")[0]
        )  # may tell a name
    limits = DEMO if demo else Limits()
    names = ModelNames(model.name, args.adapter, args.embedder, model.reason)
    access = access_of(args, demo)
    service = CollectionService(
        library, access, args.segmenter, limits, expire=demo, model_names=names, load_model=load,
        is_personal=is_personal(args),
    )  # fmt: skip
    restore_budgets(service)
    service.on_model.append(lambda _: restore_budgets(service))
    return Server(service, data_dir, auth, mcp=args.mcp, metrics=args.metrics, allowed_hosts=args.allowed_host)


def empty_incoming(data_dir: Path) -> Path:
    """Return the empty folder of files that arrive, readable by this user only. A killed process left some there."""
    folder = data_dir / INCOMING
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def data_dir_of(args: argparse.Namespace) -> Path:
    """Return the folder of all that lasts."""
    from blockrag.models.store import home  # noqa: PLC0415

    return args.data_dir or home() / "app"


def access_of(args: argparse.Namespace, demo: bool):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Decide who owns collections: see `ui.collection_service.Access`."""
    if args.users:
        return "login"
    return "private" if demo else args.access or ("shared" if host_of(args) in LOOPBACK else "private")


def is_personal(args: argparse.Namespace) -> bool:
    """Return whether only this machine reaches the page, as far as it is known."""
    return host_of(args) in LOOPBACK and not args.allowed_host


def host_of(args: argparse.Namespace) -> str | None:
    """Return the address to listen on, None for the default, which only this machine reaches."""
    return args.host or os.environ.get("GRADIO_SERVER_NAME")


if __name__ == "__main__":
    try:
        main()
    except BlockRAGError as error:
        sys.exit(f"blockrag: {error}")
