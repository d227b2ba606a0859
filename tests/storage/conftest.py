"""Databases to test on: SQLite in a file, and a PostgreSQL server of the tests' own."""

import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from storage.store import Store
from tests.databases import prepared

AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if getpass.getuser() == "root" else []
"""PostgreSQL refuses to run as root."""


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql():
    """URL of an empty database: ``$BLOCKRAG_POSTGRESQL``, or one of a server that is started here."""
    if url := os.environ.get("BLOCKRAG_POSTGRESQL"):
        yield url
        return
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: install Debian's package postgresql to run the tests on it")
    folder = Path(tempfile.mkdtemp(prefix="blockrag-pg-", dir="/tmp"))  # a socket's path has at most 107 characters
    if AS_POSTGRES:
        shutil.chown(folder, "postgres")

    def call(*command: str) -> None:
        subprocess.run([*AS_POSTGRES, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")

    call(str(programs / "initdb"), "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses= -k {folder} -c fsync=off -c synchronous_commit=off"
    call(str(programs / "pg_ctl"), "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options, "-w", "start")
    try:
        yield f"postgresql://tester@/postgres?host={folder}"
    finally:
        call(str(programs / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_postgresql(postgresql):
    """URL of an empty PostgreSQL database."""
    engine = create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.sqlite"
    return request.getfixturevalue("empty_postgresql")


@pytest.fixture
def store(url, clock):
    if url.startswith("sqlite"):
        prepared(Path(url.removeprefix("sqlite:///")))
    store = Store.open(url, clock)
    yield store
    store.close()
