"""This user's key, with which saved namespaces are signed: a file in Jupyter's data folder, made at first use."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from mpkernel.errors import KeyFileError

KEY_BYTES = 32


def data_folder() -> Path:
    """Where mpkernel keeps what is to outlive a kernel."""
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "mpkernel"


def kept_folder() -> Path:
    """Where namespaces are kept over restarts, each in a file ``<kernel id>-<which>``."""
    return data_folder() / "kept"


def signing_key(folder: Path) -> bytes:
    """The key in `folder`. Raises KeyFileError if it can't be read or made, or if others could have read it."""
    path = folder / "signing-key"
    try:
        if not path.exists():
            _make(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"the key for saved namespaces, {path}, can't be had: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileError(
            f"the key for saved namespaces, {path}, could be read by others, so a file that it signed proves nothing. "
            "Delete it (a new one is made; files signed with the old one can't be restored then), or, if you "
            "know that nobody has read it, `chmod 600` it"
        )
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"the key for saved namespaces, {path}, is damaged: delete it, and a new one is made")
    return key


def _make(path: Path) -> None:
    """Of several processes that do this at once, one wins: a link to what is whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=".signing-key-", dir=path.parent)  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
