"""The application: access, demo, ZeroGPU, logs, graceful stop."""

import io
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from pathlib import Path

import pytest
import yaml
from gradio_client import Client
from gradio_client.exceptions import AppError

import app
from blockrag.engine import Engine
from blockrag.errors import ArgumentError
from storage.__main__ import main as storage_command
from storage.lock import LockedError, locked
from tests.tiny import tiny_engine
from tests.ui.serving import serve
from ui.limits import DEMO
from ui.logs import JSONLines, PlainLines, StderrRecords

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "flags, host, demo, access",
    [
        ([], None, False, "shared"),
        (["--host", "0.0.0.0"], None, False, "private"),
        ([], "0.0.0.0", False, "private"),
        (["--host", "0.0.0.0", "--access", "shared"], None, False, "shared"),
        (["--access", "private"], None, False, "private"),
        (["--access", "shared"], None, True, "private"),
        (["--users", "x.json"], None, False, "login"),
    ],
)
def test_collections_are_shared_only_on_this_machine(monkeypatch, flags, host, demo, access):
    monkeypatch.setenv("GRADIO_SERVER_NAME", host) if host else monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert app.access_of(app.parse(flags), demo) == access


@pytest.mark.parametrize(
    "flags, personal",
    [
        ([], True),
        (["--host", "localhost"], True),
        (["--host", "0.0.0.0", "--access", "shared"], False),
        (["--allowed-host", "docs.example"], False),
    ],
)
def test_the_page_changes_the_model_only_where_this_machine_alone_reaches_it(flags, personal):
    assert app.is_personal(app.parse(flags)) is personal


def test_a_space_is_a_demo_with_small_limits(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_ID", "someone/blockrag")
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir, **kwargs: tiny_engine(kv_dir))
    server = app.make_server(app.parse(["--data-dir", str(tmp_path)]))
    service = server.service
    assert service.access == "private" and service.expires and service.limits is DEMO
    server.close()


def test_zerogpu_is_refused_with_what_to_choose_instead(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    with pytest.raises(ArgumentError, match="Choose CPU or a GPU of its own"):
        app.make_server(app.parse(["--data-dir", str(tmp_path)]))


def test_a_space_gets_what_the_application_needs_and_a_readme_of_its_own(monkeypatch):
    push = runpy.run_path(str(ROOT / "integrations" / "space" / "push.py"))
    files = push["files_of_space"]()
    assert {"app.py", "requirements.txt", "blockrag/__init__.py", "ui/page.py", "storage/store.py"} <= files.keys()
    assert not [name for name in files if name.startswith("tests/")]
    _, front, text = files["README.md"].read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(front)
    assert settings["app_file"] == "app.py" and settings["license"] == "apache-2.0" and "BlockRAG" in text
    assert not (ROOT / "README.md").read_text(encoding="utf-8").startswith("---")
    made = []

    class Api:
        def create_repo(self, *args, **settings):
            made.append(settings["space_sdk"])

        def create_commit(self, space, operations, **settings):
            made.append((space, {operation.path_in_repo for operation in operations}))

    monkeypatch.setitem(push["main"].__globals__, "HfApi", Api)
    push["main"](["someone/blockrag"])
    assert made == ["gradio", ("someone/blockrag", files.keys())]


HOLDER = """
import sys
from pathlib import Path
from storage.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_files_that_arrived_before_a_kill_are_removed_at_the_start(tmp_path):
    (tmp_path / "incoming" / "a").mkdir(parents=True)
    (tmp_path / "incoming" / "a" / "secret.pdf").write_text("a visitor's")
    folder = app.empty_incoming(tmp_path)
    assert folder == tmp_path / "incoming" and list(folder.iterdir()) == [] and folder.stat().st_mode & 0o077 == 0


def test_a_second_program_on_one_data_folder_stops_before_it_touches_anything(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(app, "make_server", lambda args: pytest.fail("the application went on"))
    monkeypatch.setattr("ui.logs.configure", lambda as_json: None)  # it would take the log from pytest
    for name in ("_doctor", "_migrate", "_export", "_import"):
        monkeypatch.setattr(f"storage.__main__.{name}", lambda args: pytest.fail("the command went on"))
    folder, flags = tmp_path / "data", ["--data-dir", str(tmp_path / "data")]
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match="in use by another program"):
            app.main(flags)
        for arguments in (["doctor", "--mend"], ["migrate"], ["export", "x", "a.zip"], ["import", "a.zip"]):
            assert storage_command([*arguments, *flags]) == 1 and "in use by another program" in caplog.text
            caplog.clear()
        assert [path.name for path in folder.iterdir()] == ["lock"]
        holder.kill()
    with locked(folder):
        pass  # a killed program holds nothing


def test_log_lines_are_json():
    record = logging.LogRecord("ui.session", logging.INFO, "f", 1, "refused: %s", ('a\n"b"',), None)
    line = JSONLines().format(record)
    assert "\n" not in line and json.loads(line)["says"] == 'refused: a\n"b"' and json.loads(line)["level"] == "INFO"


def test_tracebacks_lose_their_messages_wherever_they_are_printed():
    said = io.StringIO()
    handler, log, stream = logging.StreamHandler(said), logging.getLogger("stderr"), StderrRecords(said)
    handler.setFormatter(PlainLines())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        try:
            raise ValueError("a\n  private\nmessage")
        except ValueError as error:
            traceback.print_exc(file=stream)
            print("ERROR: failed\n" + traceback.format_exc(), file=stream)
            try:
                raise KeyError("private") from error
            except KeyError:
                traceback.print_exc(file=stream)
        stream.write("one line\nand ")
        stream.write("another\n")
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    lines = said.getvalue().splitlines()
    assert "private" not in said.getvalue() and "message" not in said.getvalue()
    assert [line for line in lines if line.startswith("ERROR")] == [
        f"ERROR stderr: a traceback was printed [{kind} at {re.findall('test_app.py:[0-9]+', line)[0]}]"
        for kind, line in zip(
            ("ValueError", "ValueError", "ValueError", "KeyError"),
            [x for x in lines if x.startswith("ERROR")],
            strict=True,
        )
    ]
    assert lines[-2:] == ["INFO stderr: one line", "INFO stderr: and another"]


def test_exceptions_are_logged_without_messages():
    try:
        raise ValueError("private")
    except ValueError:
        record = logging.LogRecord(
            "asyncio", logging.ERROR, "f.py", 1, "future: ValueError('private')", (), sys.exc_info()
        )
    for formatter in (JSONLines(), PlainLines()):
        line = formatter.format(record)
        assert "private" not in line and "ValueError" in line and "test_app.py" in line and "\n" not in line


SERVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.tiny import tiny_engine
from blockrag.engine import Engine
from blockrag.progress import Progress
from blockrag.segment import SEGMENTERS, Structural
class Endless(Structural):
    def score(self, text, candidates, on_progress):
        if "swordfish" in text:
            import warnings
            warnings.warn("a warning")
            sys.stderr.write("a library prints")
            raise ValueError("first line\\nswordfish on the second line: " + text)
        while True:
            (Path(sys.argv[1]) / "scoring").touch()
            time.sleep(0.05)
            on_progress(Progress("segment", 1, 2))
SEGMENTERS["neural"] = lambda counter, embed: Endless()
Engine.from_pretrained = staticmethod(lambda *args, kv_dir, **kwargs: tiny_engine(kv_dir))
import app
app.main(["--data-dir", sys.argv[1], "--host", "127.0.0.1", "--log-json"])
"""


@pytest.mark.timeout(240)
def test_it_starts_responds_and_stops_gracefully_while_segmenting(tmp_path):
    environment = {**os.environ, "GRADIO_SERVER_NAME": "", "SPACE_ID": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(root=str(ROOT)), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        address = next(line for line in process.stdout if line.startswith("BlockRAG is on")).split()[-1]
        with urllib.request.urlopen(address + "health", timeout=30) as response:
            assert response.status == 200
        client = Client(address, verbose=False)
        token = client.predict("Swordfish collection", api_name="/new_collection")["collection"]
        for name in ("swordfish.txt", "swordfish.docx"):  # an internal error, and a malformed file
            with pytest.raises(AppError):
                client.predict(name, "The swordfish of a private text. " * 20, token, api_name="/add_text")
        client.submit("endless.txt", "A text that is scored without end. " * 20, api_name="/add_text")
        while not (tmp_path / "scoring").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "swordfish" not in errors.lower() and token not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    (error,) = [line for line in lines if line.get("error") == "ValueError"]
    assert error["raised_at"].startswith("<string>:")
    assert [line["says"] for line in lines if line["from"] == "ui.server"][-1] == "stopping"


def test_the_documented_client_works(tmp_path, capsys):
    url, close = serve(tiny_engine(tmp_path / "kv"), tmp_path / "app", "shared")
    page = (ROOT / "docs" / "application.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    try:
        exec(compile(code.replace("http://127.0.0.1:7860", url.rstrip("/")), "application.md", "exec"), {})
    finally:
        close()
    assert capsys.readouterr().out.strip()
