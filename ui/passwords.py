"""Password hashes for `--users`: Argon2id, parameters included; scrypt hashes of earlier versions still open."""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from blockrag.errors import BlockRAGError

_LOG = logging.getLogger(__name__)
_HASHER = PasswordHasher()  # RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes

_SCRYPT_HASH = re.compile(r"[0-9a-f]{32}:[0-9a-f]{64}")

Auth = Callable[[str, str], bool]


class UsersFileError(BlockRAGError):
    """The file of `--users` cannot be used."""


def hash_password(password: str) -> str:
    """Hash a password for the users file, in Argon2's own format: ``$argon2id$v=19$m=…,t=…,p=…$salt$hash``."""
    return _HASHER.hash(_encode(password))


def auth_of(users_file: Path) -> Auth:
    """Return a function that checks a name and a password against a JSON file of ``{name: hash_password(password)}``.

    A successful login replaces a hash that is older or weaker than `hash_password` makes today, also in the file. One
    password is hashed at a time: each needs 64 MiB, and anyone can send many.

    Raises
    ------
    UsersFileError
        If the file cannot be read, or has something other than hashes in it.
    """
    users = _read(users_file)
    nobody = hash_password(secrets.token_hex(16))
    lock = threading.Lock()

    def check(name: str, password: str) -> bool:
        with lock:
            stored = users.get(name, nobody)  # an unknown name costs as much time as a wrong password
            if not _verify(stored, password) or name not in users:
                return False
            if _is_outdated(stored):
                users[name] = hash_password(password)
                _replace(users_file, name, stored, users[name])
            return True

    return check


def _read(users_file: Path) -> dict[str, str]:
    try:
        users = json.loads(users_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsersFileError(f"{users_file} cannot be read: {error}") from error
    if not isinstance(users, dict) or not users:
        raise UsersFileError(f"{users_file} is not a JSON object of names and password hashes, at least one")
    for name, stored in users.items():
        if not isinstance(stored, str) or not name.strip() or not _is_hash(stored):
            raise UsersFileError(
                f"{users_file} has no valid hash for {name!r}; make one: python app.py --hash-password"
            )
    return users


def _is_hash(stored: str) -> bool:
    try:
        return bool(_SCRYPT_HASH.fullmatch(stored)) or bool(extract_parameters(stored))
    except InvalidHashError:
        return False


def _verify(stored: str, password: str) -> bool:
    if not stored.startswith("$"):
        return _verify_scrypt(stored, password)
    try:
        return _HASHER.verify(stored, _encode(password))
    except (VerificationError, InvalidHashError):
        return False


def _verify_scrypt(stored: str, password: str) -> bool:
    """Check the format of earlier versions: ``salt:hash`` in hexadecimal, over SHA-256 of the password."""
    salt, _, expected = stored.partition(":")
    digest = hashlib.sha256(_encode(password)).digest()
    return hmac.compare_digest(
        hashlib.scrypt(digest, salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1, dklen=32).hex(), expected
    )


def _is_outdated(stored: str) -> bool:
    return not stored.startswith("$") or _HASHER.check_needs_rehash(stored)


def _replace(users_file: Path, name: str, old: str, new: str) -> None:
    """Write one new hash to the file, unless the file has another hash for that name by now."""
    aside = users_file.with_name(f"{users_file.name}.{os.getpid()}.tmp")
    try:
        users = json.loads(users_file.read_text(encoding="utf-8"))
        if users.get(name) != old:
            return
        with open(aside, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(users | {name: new}, file, ensure_ascii=False, indent=2)
        aside.chmod(users_file.stat().st_mode & 0o777)
        aside.replace(users_file)
    except OSError as error:  # such as a file mounted read-only: the login stands
        _LOG.warning("the new password hash was not written to %s: %s", users_file, error)
        aside.unlink(missing_ok=True)


def _encode(password: str) -> bytes:
    return password.encode("utf-8", "replace")
