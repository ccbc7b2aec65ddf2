# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a dest on another server may be: far away, behind TLS, and unable to promise anything."""

from __future__ import annotations

import json
import socket
import typing as t

import pytest

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.nbd_store import Store, StoreServer

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
OLD = b"\xa5"

lab_host = without_hypervisor.lab_host
out = without_hypervisor.out


@pytest.fixture
def server(tmp_path: Path) -> t.Iterator[nbd.Server]:
    """Serve a disk of 8 MiB, two of them data."""
    disk = nbd.create(tmp_path / "disk.raw", 8 * MIB, image_format="raw")
    nbd.qemu_io(disk, "write -P 1 0 1M", "write -P 2 5M 1M", image_format="raw")
    with nbd.qemu_nbd(disk, "-r", image_format="raw") as running:
        yield running


@pytest.fixture
def port() -> int:
    """Return a TCP port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certify(folder: Path) -> Path:
    """Make an authority, and what it signed for the server and for its client, with the names that nbdkit looks for."""
    folder.mkdir()
    ca = ("-CA", folder / "ca-cert.pem", "-CAkey", folder / "ca-key.pem", "-CAcreateserial", "-days", "2")
    new = ("openssl", "req", "-newkey", "rsa:2048", "-nodes")
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-out", folder / "ca-cert.pem")
    nbd.run(*new, "-x509", "-subj", "/CN=authority", "-keyout", folder / "ca-key.pem", *authority)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for role in ("server", "client"):
        request = folder / "request.pem"
        nbd.run(*new, "-subj", f"/CN={role}", "-keyout", folder / f"{role}-key.pem", "-out", request)
        signed = ("-extfile", folder / "names", "-out", folder / f"{role}-cert.pem")
        nbd.run("openssl", "x509", "-req", "-in", request, *ca, *signed)
    return folder


def psk(path: Path, key: str) -> Path:
    path.write_text(f"backup:{key * 4}\n")
    path.chmod(0o600)
    return path


class Far(t.NamedTuple):
    """A server's options, the URI that it lets in, and those that it does not."""

    options: tuple[str, ...]
    uri: str
    strangers: tuple[str, ...]


def over_tcp(_folder: Path, port: int) -> Far:
    return Far((), f"nbd://127.0.0.1:{port}/", (f"nbds://127.0.0.1:{port}/", "nbd://127.0.0.1:1/"))


def with_a_shared_key(folder: Path, port: int) -> Far:
    keys, wrong = psk(folder / "keys", "0123456789abcdef"), psk(folder / "wrong", "fedcba9876543210")
    place = f"nbds://backup@127.0.0.1:{port}/?tls-psk-file"
    return Far(
        ("--tls=require", f"--tls-psk={keys}"), f"{place}={keys}", (f"{place}={wrong}", f"nbd://127.0.0.1:{port}/")
    )


def with_certificates(folder: Path, port: int) -> Far:
    ours, others = certify(folder / "ours"), certify(folder / "others")
    place = f"nbds://localhost:{port}/?tls-certificates"
    return Far(
        ("--tls=require", "--tls-verify-peer", f"--tls-certificates={ours}"),
        f"{place}={ours}",
        (f"{place}={others}", f"nbds://localhost:{port}/", f"nbd://localhost:{port}/"),
    )


@pytest.mark.parametrize("make", [over_tcp, with_a_shared_key, with_certificates])
def test_a_dest_that_is_far(
    server: nbd.Server, out: Path, tmp_path: Path, port: int, make: t.Callable[[Path, int], Far]
) -> None:
    """It is written over several connections, each as safe as the first; whom it does not let in changes nothing."""
    backing = out / "export"
    backing.write_bytes(OLD * 8 * MIB)
    far = make(tmp_path, port)
    with nbd.nbdkit(tmp_path, *far.options, "file", backing, writable=True, port=port):
        for uri in far.strangers:
            image = {"uri": server.uri(), "dest": uri, "format": "raw"}
            refused = nbd.run_module({"images": [image], "force": True, "timeout": 10}, tmp_path)
            assert refused["msg"].startswith(f"images[0].dest: '{uri}' can't be opened: ")
            assert "is undefined now" not in refused["msg"]
            assert backing.read_bytes() == OLD * 8 * MIB
        image = {"uri": server.uri(), "dest": far.uri, "format": "raw", "source_id": "a", "record": str(out / "a.json")}
        result = nbd.run_module({"images": [image], "force": True}, tmp_path)
        assert result["changed"], result
        assert (result["images"][0]["atomic"], result["images"][0]["durable"]) == (False, True)
        assert not nbd.run_module({"images": [image]}, tmp_path)["changed"]
    nbd.identical(backing, tmp_path / "disk.raw", "raw", "raw")
    assert "psk" not in json.loads((out / "a.json").read_text())["written_to"]


@pytest.mark.parametrize("flushes", [True, False])
def test_a_server_without_flush_promises_nothing(server: nbd.Server, out: Path, tmp_path: Path, flushes: bool) -> None:
    """The result and a warning say so, in check mode and of what is there already too; and so it is."""
    store = Store(OLD * 8 * MIB)
    with StoreServer(tmp_path / "store", store, flushes=flushes) as target:
        image = {"uri": server.uri(), "dest": target.server.uri(), "format": "raw", "source_id": "a"}
        image["record"] = str(out / "a.json")
        first = {"images": [image], "force": True}
        results = [
            nbd.run_module(first, tmp_path, check=True),
            nbd.run_module(first, tmp_path),
            nbd.run_module({"images": [image]}, tmp_path),
        ]
    assert [result["changed"] for result in results] == [True, True, False]
    for result in results:
        assert result["images"][0]["durable"] is flushes
        assert ("has no flush" in json.dumps(result.get("warnings", []))) is not flushes
    disk = (tmp_path / "disk.raw").read_bytes()
    assert store.content == disk
    assert (store.durable == disk) is flushes
