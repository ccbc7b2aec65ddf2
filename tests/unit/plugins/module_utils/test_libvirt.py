# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gateway to libvirt, as far as it needs no daemon: which paths are ours to look at, and what to do about an error."""

from __future__ import annotations

import typing as t

import libvirt
import pytest

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError

URIS = [
    ("qemu:///system", True),
    ("qemu:///session", True),
    ("qemu+unix:///system", True),
    ("qemu+unix:///system?socket=/run/other/libvirt-sock", True),
    ("test:///default", True),
    ("qemu+ssh://root@hv2/system", False),
    ("qemu+ssh:///system", False),
    ("qemu+tcp://127.0.0.1/system", False),
    ("qemu+tls://hv2/system", False),
    ("qemu://hv2/system", False),
]


@pytest.mark.parametrize(("uri", "local"), URIS)
def test_whether_paths_are_of_this_machine(uri: str, local: bool) -> None:
    assert _libvirt.Hypervisor(t.cast(t.Any, None), uri).is_local is local


class Refusal(libvirt.libvirtError):
    """An error of libvirt with a code and a text of our choice."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.args = (text,)  # libvirt would tell its own last error, if there was one
        self.code, self.text = code, text

    def get_error_code(self) -> int:
        return self.code

    def get_error_message(self) -> str:
        return self.text


ERRORS = [
    (1, "'nbd-server-start': Failed to bind socket to /run/a: Permission denied", "virt.backup.hypervisor"),
    (1, "'nbd-server-start': Failed to find an available port: Address already in use", "choose another server.port"),
    (1, "'object-add': Unable to access credentials /etc/pki/qemu/ca-cert.pem: No such file", "server.tls out"),
    (55, "Requested operation is not valid: backup TLS directory not configured", "Set backup_tls_x509_cert_dir"),
    (1, "'transaction': Bitmap already exists: a", "choose another name"),
    (38, "failed to create image file '/s/a': Permission denied", "the user QEMU runs as"),
    (1, "'blockdev-add': Could not open '/s/a': Permission denied", "the user QEMU runs as"),
    (68, "Timed out during operation: cannot acquire state change lock", "Another job holds the domain"),
    (86, "Guest agent is not responding", "set quiesce to never"),
    (92, "XML document failed to validate against schema", "Nothing has happened"),
    (109, "checkpoint inconsistent: missing or broken bitmap", "auto or full"),
    (3, "this function is not supported by the connection driver", "qemu:///system"),
    (9, "operation failed: something new", ""),
]


@pytest.mark.parametrize(("code", "text", "remedy"), ERRORS)
def test_an_error_keeps_code_and_text_and_gains_what_to_do(code: int, text: str, remedy: str) -> None:
    failure = _libvirt._failure("Starting", Refusal(code, text))
    assert failure.message.startswith(f"Starting failed: libvirt error {code}: {text}.")
    assert remedy in failure.message
    assert failure.as_result()["libvirt_code"] == code
    assert failure.as_result()["libvirt_message"] == text


def test_lines_of_another_program_become_one() -> None:
    failure = _libvirt._failure("Connecting", Refusal(38, "Cannot recv data: ssh: no route\r\n: Connection reset.\n"))
    assert failure.message == "Connecting failed: libvirt error 38: Cannot recv data: ssh: no route : Connection reset."


@pytest.mark.parametrize(("number", "version"), [(9000000, "9.0.0"), (11003001, "11.3.1"), (7002022, "7.2.22")])
def test_versions(number: int, version: str) -> None:
    assert _libvirt._version(number) == version


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libvirt, "HAS_LIBVIRT", False)
    with pytest.raises(BackupError, match="python3-libvirt"), _libvirt.connect("test:///default"):
        pass


def test_a_driver_without_backups() -> None:
    refusal = "uri: 'test:///default' is of the driver TEST, which has no backups; use one of QEMU"
    with _libvirt.connect("test:///default") as hypervisor, pytest.raises(InputError, match=refusal):
        hypervisor.require_backups()


@pytest.mark.parametrize(("seconds", "wanted"), [(5.0, 7), (0.0, None)])
def test_a_call_that_may_never_return(seconds: float, wanted: int | None) -> None:
    import threading

    never = threading.Event()
    answer = _libvirt._in_time(lambda: 7 if seconds else int(never.wait(30)), seconds)
    never.set()
    assert answer == wanted


def test_a_call_that_fails_in_time() -> None:
    def call() -> int:
        raise Refusal(86, "no agent")

    answer = _libvirt._in_time(call, 5.0)
    assert isinstance(answer, libvirt.libvirtError)


class Calls:
    """A domain of libvirt's that writes down the flags of a begin, and the connection to its daemon."""

    def __init__(self, version: int = 0) -> None:
        self._version = version
        self.flags: list[int] = []

    def name(self) -> str:
        return "web"

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return "uuid"

    def backupBegin(self, _xml: str, _checkpoint: str | None, flags: int) -> None:  # noqa: N802  libvirt's name
        self.flags.append(flags)

    def getLibVersion(self) -> int:  # noqa: N802  libvirt's name
        return self._version


@pytest.mark.parametrize(
    ("reuse", "preserve", "flags"), [(False, False, 0), (True, False, 1), (False, True, 2), (True, True, 3)]
)
def test_flags_of_a_begin(flags: int, *, reuse: bool, preserve: bool) -> None:
    """virDomainBackupBeginFlags; the second is known to libvirt 11.10 and later."""
    domain = Calls()
    _libvirt.DomainHandle(domain, "qemu:///system").begin_backup("<x/>", None, reuse_external=reuse, preserve=preserve)
    assert domain.flags == [flags]


def test_the_version_is_that_of_the_daemon() -> None:
    assert _libvirt.Hypervisor(t.cast(t.Any, Calls(11_010_000)), "qemu:///system").version() == 11_010_000
