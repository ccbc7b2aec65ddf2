# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The gateway to QEMU's programs: nothing else starts ``qemu-img`` and ``qemu-nbd``. Never through a shell.

A secret reaches them as an open file that has no name: the argument list holds only its number, which is worth
nothing to another process.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.text import shown

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption

PACKAGES = "qemu-utils (Debian), qemu-img (RHEL)"
DAEMON_PACKAGES = "qemu-system-common (Debian), qemu-img (RHEL)"

_KEY = "key"
_PATIENCE = 60.0
"""Seconds within which a server must have ended by itself once nobody is connected and all is flushed."""

_CALIBRATIONS = 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What ``qemu-img info`` says of one image, the images below it left alone. Sizes in bytes.

    ``backing_file`` is as stored in the image, empty without one; ``bitmaps`` are the names of qcow2's persistent ones.
    """

    format: str
    virtual_size: int
    backing_file: str = ""
    backing_format: str = ""
    bitmaps: tuple[str, ...] = ()
    encrypted: bool = False


def info(path: str, image_format: str = "") -> ImageInfo:
    """Return what the image is. ``image_format`` empty lets QEMU guess, which is not safe for a guest's raw disk.

    Works on images in use (``--force-share``). Raises :class:`ToolError` for what is no readable image of that format.
    """
    chosen = ["-f", image_format] if image_format else []
    text = _run("qemu-img", "info", "--output=json", "--force-share", *chosen, _as_file(path))
    data = json.loads(text)
    specific = data.get("format-specific", {}).get("data", {})
    return ImageInfo(
        format=data["format"],
        virtual_size=data["virtual-size"],
        backing_file=data.get("backing-filename", ""),
        backing_format=data.get("backing-filename-format", ""),
        bitmaps=tuple(bitmap["name"] for bitmap in specific.get("bitmaps", [])),
        encrypted=data.get("encrypted", False),
    )


def check(path: str, image_format: str = "qcow2", encryption: Encryption | None = None) -> None:
    """Raise :class:`ToolError` unless the image's metadata is without errors and leaks."""
    if encryption is None:  # QEMU opens no encrypted image without its secret, not even for this
        _run("qemu-img", "check", "-q", "-f", image_format, _as_file(path))
        return
    with _secret(encryption) as (options, fds):
        _run("qemu-img", "check", "-q", *options, _alone(_as_file(path), encryption), fds=fds)


def check_stored(path: str, encryption: Encryption | None = None) -> None:
    """Do the same for a qcow2 image that nobody writes to any more, although others may be reading it.

    By itself: QEMU else opens all images below it, and so would say of this one what is wrong with another.
    """
    with _secret(encryption) as (options, fds):
        image = _alone(_as_file(path), encryption)
        _run("qemu-img", "check", "-q", "--force-share", *options, image, fds=fds)


def unlock(path: str, encryption: Encryption) -> None:
    """Raise :class:`ToolError` unless the image is encrypted, and opens with this secret; reads no content."""
    with _secret(encryption) as (options, fds):
        _run("qemu-img", "measure", "-O", "raw", *options, _alone(_as_file(path), encryption), fds=fds)


def create(fd: int, size: int, backing_file: str, backing_format: str, encryption: Encryption | None) -> None:
    """Make the open file an empty qcow2 image like those of our own writer; the backing name is only stored.

    For LUKS, QEMU counts how often this CPU can hash in a given time, and fails now and then where the kernel has not
    accounted for that time yet ("Unable to get accurate CPU usage", QEMU 7.2.22 to 9.2), so it is asked again.
    """
    backing = ["-u", "-b", backing_file, "-F", backing_format] if backing_file else []
    layout = "compat=1.1,cluster_size=65536"
    if encryption:
        layout += f",encrypt.format=luks,encrypt.key-secret={_KEY},encrypt.iter-time={encryption.iter_time}"
    with _secret(encryption) as (options, fds):
        command = ["create", "-q", "-f", "qcow2", *options, "-o", layout, *backing, f"/dev/fd/{fd}", str(size)]
        for attempt in range(_CALIBRATIONS):
            try:
                _run("qemu-img", *command, fds=(fd, *fds))
                return
            except ToolError as error:
                if "accurate CPU usage" not in error.message or attempt == _CALIBRATIONS - 1:
                    raise


def rebase_unsafe(path: str, backing_file: str, backing_format: str) -> None:
    """Store another backing name in a qcow2 image, its content untouched; a relative one counts from the image."""
    _run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", backing_format, "-b", backing_file, _as_file(path))


def _listens(socket: str) -> bool:
    """Whether somebody listens on a UNIX socket: the kernel's list tells (proc(5), flag ``__SO_ACCEPTCON``).

    The name alone does not, it is there a moment before; and to connect would count as the server's first client.
    """
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split()[3] == "00010000" for line in file if line.endswith(f" {socket}\n"))


class _Server:
    """A ``qemu-nbd`` that serves one image on a private socket.

    Without ``--persistent`` it ends by itself, in order, when the last of its clients leaves; so it does when this
    process is killed. Until they are connected, the kernel ends it with the thread that started it. Not ``--fork``: the
    parent of that would report any warning as a failure while the child lives on with the image locked.
    """

    def __init__(
        self, image: str, options: Sequence[str], fds: tuple[int, ...], timeout: float, encryption: Encryption | None
    ) -> None:
        self._folder = tempfile.mkdtemp(prefix="virt-backup-")  # nobody else may enter it
        self._socket = os.path.join(self._folder, "nbd")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        try:
            with _secret(encryption) as (secret, inherited):
                arguments = [*secret, *options, "--socket", self._socket]
                self._process = subprocess.Popen(
                    [_program("qemu-nbd"), *arguments, image],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    env=_environment(),
                    pass_fds=(*fds, *inherited),
                    preexec_fn=_EndWithParent(),  # noqa: PLW1509 - calls the kernel and nothing else
                )
        except BaseException:
            self._stderr.close()
            self.hide()
            raise
        try:
            self._await_socket(timeout)
        except BaseException:
            self.stop()
            raise

    @property
    def uri(self) -> str:
        """Return the URI of the only export."""
        return f"nbd+unix:///?socket={urllib.parse.quote(self._socket)}"

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def hide(self) -> None:
        """Remove the socket's name: nobody else can connect, and nothing is left should this process be killed."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def complaint(self) -> str:
        """Return what the server said when it ended, an end that is under way included; empty while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        return "" if self._process.returncode is None else self._words()

    def wait(self) -> None:
        """Wait for its orderly end after the last client left. Raises :class:`ToolError` when it did not succeed."""
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"qemu-nbd did not end within {_PATIENCE:g} seconds after the last client left.") from error
        if status:
            raise ToolError(f"qemu-nbd ended with status {status}: {self._words() or 'no message'}.")

    def stop(self) -> None:
        """End it, in order if it listens, and forget all that belongs to it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()
        self.hide()

    def _await_socket(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not _listens(self._socket):
            if self._process.poll() is not None:
                raise ToolError(f"qemu-nbd did not start: {self._words() or 'no message'}.")
            if time.monotonic() > deadline:
                raise ToolError(f"qemu-nbd did not start within {timeout:g} seconds.")
            time.sleep(0.005)

    def _words(self) -> str:
        self._stderr.seek(0)
        return _one_line("qemu-nbd", self._stderr.read())


CACHE = "writeback"
"""How ``qemu-nbd`` writes: without waiting for the storage until it is asked to flush. Before QEMU 6.2 it waits after
each write unless it is told otherwise."""


class ImageServer(_Server):
    """Serves an open qcow2 file for writing, without its backing images."""

    def __init__(self, fd: int, clients: int, timeout: float, encryption: Encryption | None = None) -> None:
        options = [f"--shared={clients}", f"--cache={CACHE}"]
        super().__init__(_alone(f"/dev/fd/{fd}", encryption), options, (fd,), timeout, encryption)


class ChainServer(_Server):
    """Serves for reading what shows through a chain: the images at ``paths``, the full one first, all named by us.

    What the images store as their backing files is not looked at, so nothing else than these files is ever opened.
    All are qcow2; the full one may be ``raw``, which ``bottom`` then says.
    """

    def __init__(
        self,
        paths: Sequence[str],
        timeout: float,
        encryption: Encryption | None = None,
        clients: int = 1,
        *,
        bottom: str = "qcow2",
    ) -> None:
        chain = f"json:{json.dumps(_chain(paths, encryption, bottom))}"
        super().__init__(chain, ["--read-only", f"--shared={clients}"], (), timeout, encryption)


class MapExtent(t.NamedTuple):
    """A range of a disk, and where its content is: how many images below the top one, and at which byte of that file.

    ``offset`` is -1 where QEMU does not tell, as for compressed clusters. What is ``zero`` is nowhere.
    """

    start: int
    length: int
    depth: int
    zero: bool
    offset: int


class ChainMap:
    """What ``qemu-img map`` says of a plain chain, extent by extent as it comes: the map of a large disk is large, too.

    Ends with the thread that made it.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        self._process = subprocess.Popen(
            [_program("qemu-img"), "map", "--output=json", f"json:{json.dumps(_chain(paths, None))}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(),
            preexec_fn=_EndWithParent(),  # noqa: PLW1509 - calls the kernel and nothing else
        )

    def __iter__(self) -> Iterator[MapExtent]:
        """Yield the extents, ascending and without gaps; raise :class:`ToolError` when QEMU fails before the end."""
        if self._process.stdout is None:
            raise AssertionError("Contract violation: the program was started with a pipe")
        for line in self._process.stdout:
            text = line.strip(b"[], \n")
            if text:
                told = json.loads(text.decode("ascii"))  # bytes would have their encoding guessed first
                where = (told["depth"], told["zero"] or not told["data"], told.get("offset", -1))
                yield MapExtent(told["start"], told["length"], *where)
        if self._process.wait():
            self._stderr.seek(0)
            words = _one_line("qemu-img", self._stderr.read())
            raise ToolError(f"qemu-img map failed with status {self._process.returncode}: {words or 'no message'}.")

    def close(self) -> None:
        """End the program, wherever it is."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()


class Export(t.NamedTuple):
    """A chain that is to be served under a name; ``encrypted`` tells whether its images need the secret."""

    name: str
    paths: tuple[str, ...]
    encrypted: bool


@contextlib.contextmanager
def storage_daemon(
    exports: Sequence[Export], socket: str, pid_file: str, encryption: Encryption | None
) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Yield the command that serves chains for reading on one socket, and the files that it must inherit.

    It writes ``pid_file`` when all exports are there and removes it when it ends in order. Nothing of the images is
    locked and nothing written.
    """
    words = ["--pidfile", pid_file]
    with _secret(encryption) as (secret, fds):
        for number, export in enumerate(exports):
            node = _chain(export.paths, encryption if export.encrypted else None)
            words += ["--blockdev", json.dumps({**node, "node-name": f"disk{number}"})]
        words += ["--nbd-server", f"addr.type=unix,addr.path={socket.replace(',', ',,')},max-connections=0"]
        for number, export in enumerate(exports):
            words += ["--export", f"type=nbd,id=disk{number},node-name=disk{number},name={export.name},writable=off"]
        yield [_program("qemu-storage-daemon"), *secret, *words], fds


class _EndWithParent:
    """Run between fork and exec: the kernel shall end the new process with the thread that started it.

    By SIGKILL, since qemu-nbd forgets a SIGTERM that comes while it opens the image.
    """

    def __init__(self) -> None:
        self._prctl = ctypes.PyDLL(None).prctl  # looked up before the fork, which is no time to load anything
        self._parent = os.getpid()

    def __call__(self) -> None:
        self._prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != self._parent:
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _secret(encryption: Encryption | None) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Yield the options that define the secret, and the files that the program must inherit for it."""
    if encryption is None:
        yield [], ()
        return
    fd = os.memfd_create("secret")
    try:
        os.write(fd, encryption.secret)
        yield ["--object", f"secret,id={_KEY},file=/dev/fd/{fd}"], (fd,)
    finally:
        os.close(fd)


def _alone(path: str, encryption: Encryption | None) -> str:
    """Return a qcow2 image as QEMU's programs take it, for the image without those below it."""
    return f"json:{json.dumps(_layer(path, None, encryption))}"


def _layer(path: str, backing: dict[str, t.Any] | None, encryption: Encryption | None) -> dict[str, t.Any]:
    """Return a qcow2 image as QEMU describes it, on top of another or of none."""
    image: dict[str, t.Any] = {"driver": "qcow2", "backing": backing, "file": {"driver": "file", "filename": path}}
    if encryption:
        image["encrypt"] = {"format": "luks", "key-secret": _KEY}
    return image


def _chain(paths: Sequence[str], encryption: Encryption | None, bottom: str = "qcow2") -> dict[str, t.Any]:
    """Return a chain as QEMU describes it, for reading. ``bottom`` is the format of its first image.

    No lock is taken, as who restores must not be in the way of who verifies or prunes, nor they in his.
    """
    image: dict[str, t.Any] | None = None
    for path in paths:
        raw = bottom == "raw" and image is None
        image = _raw(_as_file(path)) if raw else _layer(_as_file(path), image, encryption)
    return {**(image or {}), "read-only": True, "force-share": True}


def _raw(path: str) -> dict[str, t.Any]:
    """Return a raw image as QEMU describes it."""
    return {"driver": "raw", "file": {"driver": "file", "filename": path}}


def _as_file(path: str) -> str:
    """Return the path in a form that QEMU takes for nothing else: ``a:b`` would name a protocol, ``-x`` an option."""
    return os.path.abspath(path)


def _run(program: str, *arguments: str, fds: tuple[int, ...] = ()) -> str:
    """Run a program and return what it printed; raise :class:`ToolError` with its complaint as one line."""
    done = subprocess.run(
        [_program(program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(),
        pass_fds=fds,
        check=False,
    )
    if done.returncode:
        words = _one_line(program, done.stderr or done.stdout)
        raise ToolError(f"{program} {arguments[0]} failed with status {done.returncode}: {words or 'no message'}.")
    return done.stdout.decode(errors="replace")


def _program(name: str) -> str:
    executable = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/local/bin:/bin")
    if executable is None:
        packages = DAEMON_PACKAGES if name == "qemu-storage-daemon" else PACKAGES
        raise BackupError(f"The program {name} is missing on this machine; install the package {packages}.")
    return executable


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _one_line(program: str, complaint: bytes) -> str:
    return shown(" ".join(complaint.decode(errors="replace").split())).removeprefix(f"{program}: ").rstrip(".")
