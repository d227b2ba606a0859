"""Passwords: hashes that carry their parameters, and hashes of earlier versions."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import argon2
import pytest

from ui import passwords
from ui.passwords import UsersFileError, auth_of, hash_password

SCRYPT = (  # of "pass", as versions before Argon2 wrote it
    "000102030405060708090a0b0c0d0e0f:0505335511f8f63ac1bbbd116d41128efcf60747bec86dd58ad17eb8f1b278b4"
)


def test_a_hash_is_salted_and_carries_its_parameters():
    one, two = hash_password("pass"), hash_password("pass")
    assert one != two and "pass" not in one
    parameters = argon2.extract_parameters(one)
    assert parameters.type == argon2.Type.ID and parameters.memory_cost >= 19 * 1024 and parameters.time_cost >= 2


@pytest.fixture(scope="module")
def hashes():
    return {"anna": SCRYPT, "bert": argon2.PasswordHasher(time_cost=1).hash("word"), "cleo": hash_password("pass")}


@pytest.fixture
def users(tmp_path, hashes):
    """A users file: Anna's hash is of an earlier version, Bert's has fewer passes, Cleo's is of today."""
    path = tmp_path / "users.json"
    path.write_text(json.dumps(hashes))
    path.chmod(0o640)
    return path


@pytest.mark.parametrize("name, password", [("anna", "pass"), ("bert", "word")])
def test_an_old_hash_opens_and_is_renewed_at_login(users, name, password):
    before, check = json.loads(users.read_text()), auth_of(users)
    assert not check(name, "wrong") and json.loads(users.read_text()) == before, "a wrong password renews nothing"
    assert check(name, password)
    after = json.loads(users.read_text())
    assert after[name].startswith("$argon2id$") and not argon2.PasswordHasher().check_needs_rehash(after[name])
    assert {**after, name: before[name]} == before, "other users' hashes stay"
    assert users.stat().st_mode & 0o777 == 0o640 and list(users.parent.iterdir()) == [users]
    assert check(name, password) and auth_of(users)(name, password) and json.loads(users.read_text()) == after


def test_wrong_names_and_passwords_fail(users):
    check = auth_of(users)
    wrong = [("anna", ""), ("anna", "pass\x00"), ("cleo", "pass\x00"), ("cleo", "word"), ("nobody", "pass"), ("", "")]
    assert not any(check(name, password) for name, password in wrong)
    assert check("cleo", "pass")


def test_a_hash_changed_in_the_file_meanwhile_is_not_overwritten(users):
    check = auth_of(users)
    changed = json.loads(users.read_text()) | {"anna": hash_password("new")}
    users.write_text(json.dumps(changed))
    assert check("anna", "pass") and json.loads(users.read_text()) == changed


def test_a_login_stands_where_the_file_cannot_be_written(users, caplog, monkeypatch):
    def refuse(self, target):
        raise OSError("read-only file system")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    assert auth_of(users)("anna", "pass") and "was not written" in caplog.text
    assert list(users.parent.iterdir()) == [users]


def test_one_password_is_hashed_at_a_time(users, monkeypatch):
    check, verify, running, most = auth_of(users), passwords._verify, threading.Semaphore(1), []

    def counted(stored, password):
        most.append(running.acquire(blocking=False))
        try:
            return verify(stored, password)
        finally:
            running.release()

    monkeypatch.setattr(passwords, "_verify", counted)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: check("cleo", "pass"), range(4))) == [True] * 4
    assert most == [True] * 4


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot be read"),
        ('["anna"]', "not a JSON object"),
        ("{}", "at least one"),
        ("[" * 100_000, "cannot be read"),
        ('{"anna": "$argon2id$nonsense"}', "no valid hash for 'anna'"),
        ('{"anna": "pass"}', "no valid hash for 'anna'"),
        ('{"anna": null}', "no valid hash"),
    ],
)
def test_a_users_file_that_holds_no_hashes_is_refused(tmp_path, text, message):
    (tmp_path / "users.json").write_text(text)
    with pytest.raises(UsersFileError, match=message):
        auth_of(tmp_path / "users.json")
    with pytest.raises(UsersFileError, match="cannot be read"):
        auth_of(tmp_path / "none.json")
