"""The command line of the storage: python -m storage doctor | backup | restore | salvage | ..."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from blockrag.cli import options
from blockrag.errors import BlockRAGError
from storage.backup import back_up, path_of, problems, restore
from storage.database import Database, sqlite_url
from storage.errors import DamagedError
from storage.lock import locked
from storage.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or 1 after an error or if troubles are left."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    args = _parser().parse_args(argv)
    try:
        if args.run in (_list, _backup):  # also while the application runs
            return int(args.run(args))
        with locked(args.data_dir or default_data_dir()):
            return int(args.run(args))
    except BlockRAGError as error:
        logging.getLogger("storage").error("storage: %s", error)
        return 1


def default_data_dir() -> Path:
    """The default folder of the application's data."""
    from blockrag.models.store import home  # noqa: PLC0415  (imports model libraries)

    return home() / "app"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m storage", description="Look after the application's database.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = {}
    for name, run, text in (
        ("doctor", _doctor, "find what contradicts the database; with --mend, repair it"),
        ("backup", _backup, "copy the database to a file, also while the application runs, and check the copy"),
        ("restore", _restore, "put such a copy in the place of the database"),
        ("salvage", _salvage, "save what can be read of a damaged database"),
        ("migrate", _migrate, "upgrade the database to this version"),
        ("list", _list, "list the collections"),
        ("export", _export, "write a collection to a file"),
        ("import", _import, "create a collection from such a file"),
    ):
        add[name] = command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        command.add_argument("--data-dir", type=Path, help="folder of the application (default: in the cache folder)")
        command.add_argument("--database", help="URL of the database (default: SQLite in the data folder)")
    for name in ("doctor", "export", "import"):
        options.add_model_options(add[name])
        options.add_kv_options(add[name])
    add["doctor"].add_argument("--mend", action="store_true", help="repair what can be repaired")
    add["export"].add_argument("token", help="token of the collection (see list)")
    for name in ("export", "import", "backup", "restore"):
        add[name].add_argument("file", type=Path)
    add["import"].add_argument("--owner", default="local", help="owner of the new collection (default: %(default)s)")
    return parser


def _url(args: argparse.Namespace) -> str:
    return args.database or sqlite_url((args.data_dir or default_data_dir()) / "blockrag.sqlite")


def _library(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from blockrag.engine import Engine  # noqa: PLC0415
    from storage.library import Library  # noqa: PLC0415

    data_dir = args.data_dir or default_data_dir()
    engine = Engine.from_pretrained(
        options.pick_model(args.model, args.device).name,
        embedder=args.embedder,
        kv_dir=data_dir / "kv",
        device=args.device,
        dtype=args.dtype,
        allow_unverified=args.allow_unverified,
        **options.kv_settings(args),
    )
    return Library(Store.open(_url(args)), engine, data_dir)


def _doctor(args: argparse.Namespace) -> int:
    from storage.doctor import examine, mend  # noqa: PLC0415

    url, say = _url(args), logging.getLogger("storage").info
    if url.startswith("sqlite") and Path(make_url(url).database or "").is_file():
        if told := problems(path_of(url)):  # before the models are loaded
            for problem in told:
                say("database: %s", problem)
            raise DamagedError(path_of(url), told[0])
    library = _library(args)
    found, left = mend(library) if args.mend else ([], list(examine(library)))
    for trouble in found or left:
        say("%s: %s%s", trouble.where, trouble.what, "" if trouble.mend else " (cannot be repaired)")
    say("%d found, %d left", len(found or left), len(left))
    library.close()
    return 1 if left else 0


def _backup(args: argparse.Namespace) -> int:
    nbytes = back_up(_url(args), args.file)
    logging.getLogger("storage").info(
        "%s: %d bytes, checked; files that wait to be read are not in it", args.file, nbytes
    )
    return 0


def _restore(args: argparse.Namespace) -> int:
    former = restore(_url(args), args.file)
    logging.getLogger("storage").info("restored; the former database is %s. Run the doctor with --mend now", former)
    return 0


def _salvage(args: argparse.Namespace) -> int:
    from storage.salvage import salvage  # noqa: PLC0415  (imports the migrations)

    done, say = salvage(path_of(_url(args))), logging.getLogger("storage").info
    for table, n_rows in done.n_rows.items():
        say("%s: %d rows saved", table, n_rows)
    for loss in done.losses:
        say("lost: %s", loss)
    say("the damaged database is %s. Run the doctor with --mend now", done.former)
    return 1 if done.losses else 0


def _migrate(args: argparse.Namespace) -> int:
    database = Database(_url(args))
    logging.getLogger("storage").info("the database has version %s", database.version)
    database.close()
    return 0


def _list(args: argparse.Namespace) -> int:
    store = Store.open(_url(args))
    for collection in store.collections.all():
        n_documents, n_chars = store.documents.totals(collection.id)
        line = "%s  %s  %d documents, %d characters"
        logging.getLogger("storage").info(line, collection.token, collection.name, n_documents, n_chars)
    store.close()
    return 0


def _export(args: argparse.Namespace) -> int:
    from storage.archive import export  # noqa: PLC0415

    library = _library(args)
    export(library, library.store.collections.get(None, args.token), args.file)
    library.close()
    return 0


def _import(args: argparse.Namespace) -> int:
    from storage.archive import import_  # noqa: PLC0415

    library = _library(args)
    collection = import_(library, args.owner, args.file)
    logging.getLogger("storage").info("%s  %s", collection.token, collection.name)
    library.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
