# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a pull job is served: a UNIX socket, TCP, and TLS with certificates on both sides."""

from __future__ import annotations

import pathlib
import shutil
import socket
import stat
import subprocess
import typing as t

import pytest
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call
from lxml import etree

from ansible_collections.virt.backup.plugins.module_utils._run import preflight
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import KIB64

SERVER_CERTIFICATES = pathlib.Path("/etc/pki/qemu")


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain with something to read."""
    domain = domains(Disk("vda", size=8 * MIB))
    domain.write("vda", MIB, KIB64)
    return domain


@pytest.fixture
def port() -> int:
    """Return a TCP port that is free: in the lab's own network nobody else takes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_element(result: kit.Result) -> dict[str, str]:
    """Return the attributes of <server> in the XML that was sent."""
    return dict(etree.fromstring(result["xml"]).find("server").attrib)


def readable(uri: str) -> bool:
    """Whether nbdinfo can open the export."""
    return subprocess.run(["nbdinfo", "--size", uri], check=False, capture_output=True, timeout=30).returncode == 0


def test_unix_is_the_default(domain: LabDomain) -> None:
    frozen = domain.frozen_copy("vda")
    job = kit.backup(domain)
    path = kit.SOCKETS / f"libvirt-{domain.uuid}.sock"
    assert job["server"] == {"transport": "unix", "socket": str(path), "tls": False}
    assert server_element(job) == {"transport": "unix", "socket": str(path)}
    assert kit.disk_of(job, "vda")["uri"] == f"nbd+unix:///vda?socket={path}"
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert not path.stat().st_mode & stat.S_IWOTH
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)
    assert kit.nothing_left(domain)


def test_a_socket_and_names_with_letters_that_uris_and_xml_escape(domain: LabDomain, workdir: pathlib.Path) -> None:
    path = workdir / "a b&c%d.sock"
    frozen = domain.frozen_copy("vda")
    kit.taken(domain, "ck1")
    disk = {"name": "vda", "exportname": "disk <1>/&?#% é", "exportbitmap": "dirty & 'more'"}
    server = {"socket": str(path)}
    job = kit.backup(domain, server=server, incremental="ck1", disks=[disk])
    assert kit.disk_of(job, "vda")["exportname"] == disk["exportname"]
    assert kit.export_equals(job, "vda", frozen)
    assert kit.dirty_map(job, "vda") == []
    assert not kit.backup(domain, server=server, incremental="ck1", disks=[disk])["changed"]
    kit.end(domain, server=server)


def test_tcp_on_loopback(domain: LabDomain, port: int) -> None:
    frozen = domain.frozen_copy("vda")
    server = {"transport": "tcp", "name": "127.0.0.1", "port": port}
    job = kit.backup(domain, server=server)
    assert job["server"] == {**server, "tls": False}
    assert server_element(job) == {"transport": "tcp", "name": "127.0.0.1", "port": str(port)}
    assert kit.disk_of(job, "vda")["uri"] == f"nbd://127.0.0.1:{port}/vda"
    assert kit.export_equals(job, "vda", frozen)
    assert not kit.backup(domain, server=server)["changed"]
    assert "is not the one named here" in kit.refusal("virt_backup", domain=domain.name, state="stopped")
    kit.end(domain, server=server)
    assert not kit.end(domain, server=server)["changed"]


def test_tcp_on_ipv6(domain: LabDomain, port: int) -> None:
    server = {"transport": "tcp", "name": "::1", "port": port}
    job = kit.backup(domain, server=server)
    assert kit.disk_of(job, "vda")["uri"] == f"nbd://[::1]:{port}/vda"
    assert readable(kit.disk_of(job, "vda")["uri"])
    kit.end(domain, server=server)


def test_a_port_in_use_is_told_before_anything(domain: LabDomain) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        options = {"domain": domain.name, "server": {"transport": "tcp", "name": "127.0.0.1", "port": port}}
        for check in (True, False):
            sentence = kit.refusal("virt_backup", check=check, **options, checkpoint={"name": "ck1"})
            assert sentence == (
                f"server.port: {port} cannot be had on 127.0.0.1: Address already in use; "
                "choose another port, or a UNIX socket."
            )
    assert kit.nothing_left(domain)


def test_a_port_that_is_taken_in_the_last_moment_leaves_nothing(
    domain: LabDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check_server", lambda *_arguments: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = {"transport": "tcp", "name": "127.0.0.1", "port": other.getsockname()[1]}
        sentence = kit.refusal("virt_backup", domain=domain.name, server=server, checkpoint={"name": "ck1"})
    assert "Address already in use" in sentence
    assert sentence.endswith("Another server uses that port; choose another server.port, or a UNIX socket.")
    assert kit.nothing_left(domain)
    assert kit.backup(domain, server=server, checkpoint={"name": "ck1"})["changed"]
    kit.end(domain, server=server)


def test_two_domains_at_once_and_two_that_want_one_port(domains: Domains, port: int) -> None:
    one, two = domains(Disk("vda", size=MIB)), domains(Disk("vda", size=2 * MIB))
    jobs = [kit.backup(one), kit.backup(two)]
    sizes = [call("nbdinfo", "--size", kit.disk_of(job, "vda")["uri"]).strip() for job in jobs]
    assert sizes == [str(MIB), str(2 * MIB)]
    kit.end(one)
    assert readable(kit.disk_of(jobs[1], "vda")["uri"])
    kit.end(two)
    server = {"transport": "tcp", "name": "127.0.0.1", "port": port}
    kit.backup(one, server=server)
    assert "Address already in use" in kit.refusal(
        "virt_backup", domain=two.name, server=server, checkpoint={"name": "ck1"}
    )
    assert two.checkpoints() == []
    assert one.has_job()
    kit.end(one, server=server)


# TLS


def _openssl(*words: object) -> None:
    call("openssl", *(str(word) for word in words))


def _certify(folder: pathlib.Path, role: str, authority: pathlib.Path) -> None:
    """Write ``<role>-key.pem``, ``<role>-cert.pem`` and the authority's certificate, with QEMU's names."""
    key, request, certificate = folder / f"{role}-key.pem", folder / "request.pem", folder / f"{role}-cert.pem"
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n", encoding="ascii")
    _openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={role}", "-keyout", key, "-out", request)
    signing = ("-CA", authority / "ca-cert.pem", "-CAkey", authority / "ca-key.pem", "-CAcreateserial", "-days", "2")
    _openssl("x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", certificate)
    shutil.copy(authority / "ca-cert.pem", folder / "ca-cert.pem")
    for path in folder.iterdir():
        shutil.chown(path, "root", "libvirt-qemu")
        path.chmod(0o640)


@pytest.fixture
def client_certificates(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return the client's certificates; QEMU has its own in the place where libvirt looks."""
    authority, client = tmp_path / "authority", tmp_path / "client"
    for folder in (authority, client, SERVER_CERTIFICATES):
        folder.mkdir(parents=True)
    subject = ("-subj", "/CN=test authority", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
    files = ("-keyout", authority / "ca-key.pem", "-out", authority / "ca-cert.pem")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files)
    _certify(SERVER_CERTIFICATES, "server", authority)
    _certify(client, "client", authority)
    yield client
    shutil.rmtree(SERVER_CERTIFICATES.parent)


def test_tls_over_tcp_lets_in_whom_it_knows_only(
    domain: LabDomain, port: int, client_certificates: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    frozen = domain.frozen_copy("vda")
    server = {"transport": "tcp", "name": "localhost", "port": port, "tls": True}
    job = kit.backup(domain, server=server)
    assert server_element(job)["tls"] == "yes"
    uri = kit.disk_of(job, "vda")["uri"]
    assert uri == f"nbds://localhost:{port}/vda"
    assert not kit.backup(domain, server=server)["changed"]
    known = f"{uri}?tls-certificates={client_certificates}"
    copy = tmp_path / "copy.raw"
    call("nbdcopy", known, copy)
    assert copy.read_bytes() == frozen.read_bytes()
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    shutil.copy(client_certificates / "ca-cert.pem", stranger)
    assert not readable(f"{uri}?tls-certificates={stranger}")
    assert not readable(uri.replace("nbds:", "nbd:"))
    kit.end(domain, server=server)


def test_tls_over_a_unix_socket(domain: LabDomain, client_certificates: pathlib.Path) -> None:
    server = {"tls": True}
    job = kit.backup(domain, server=server)
    path = kit.SOCKETS / f"libvirt-{domain.uuid}.sock"
    assert server_element(job) == {"transport": "unix", "socket": str(path), "tls": "yes"}
    uri = kit.disk_of(job, "vda")["uri"]
    assert uri == f"nbds+unix:///vda?socket={path}"
    assert readable(f"{uri}&tls-hostname=localhost&tls-certificates={client_certificates}")
    assert not readable(uri.replace("nbds", "nbd"))
    kit.end(domain, server=server)


def test_tls_without_certificates_is_one_sentence_and_leaves_nothing(domain: LabDomain, port: int) -> None:
    server = {"transport": "tcp", "name": "localhost", "port": port, "tls": True}
    options = {"domain": domain.name, "server": server, "checkpoint": {"name": "ck1"}}
    sentence = kit.refusal("virt_backup", **options)
    assert "Unable to access credentials" in sentence
    assert "/etc/pki" in sentence
    assert kit.nothing_left(domain)
