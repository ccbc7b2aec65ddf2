# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVRAM and TPM of a domain: in the restore point as they were, back in their place, or an early word about what is not."""

from __future__ import annotations

import contextlib
import json
import pathlib
import stat
import subprocess
import typing as t
import uuid

import pytest
from demo.readme import block
from integration import playbook
from integration.protection import Protection
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import file_hash, virsh

Run = t.Callable[..., t.Any]

TPM = "<tpm model='tpm-tis'><backend type='{kind}' version='2.0'>{inside}</backend></tpm>"
PASSTHROUGH = "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"


def firmware(folder: pathlib.Path) -> str:
    """Return the XML of a UEFI firmware with an NVRAM. What is in them does not matter to a domain that stays paused."""
    code, variables = folder / "code.fd", folder / "variables.fd"
    code.write_bytes(bytes(128 * KIB))
    variables.write_bytes(b"variables" + bytes(128 * KIB - 9))
    variables.chmod(0o666)
    return f"<loader readonly='yes' type='pflash'>{code}</loader><nvram>{variables}</nvram>"


def swtpm(domain: LabDomain) -> pathlib.Path:
    """Return the file in which libvirt's swtpm keeps the state of a domain's TPM."""
    return pathlib.Path("/var/lib/libvirt/swtpm") / domain.uuid / "tpm2" / "tpm2-00.permall"


def back_up(folder: pathlib.Path, protection: Protection) -> playbook.Ended:
    """Run the role, successful or not."""
    place = {"backup_domain": protection.domain.name, "backup_repository": str(protection.repository)}
    return playbook.play(folder, hv={**place, "backup_quiesce": "never"})["hv"]


def restore_tpm(domain: LabDomain, point: pathlib.Path) -> None:
    """Run the README's line for the TPM, in the restore point's directory."""
    (line,) = block("restore-tpm")
    assert " web)" in line
    subprocess.run(["sh", "-e"], input=line.replace(" web)", f" {domain.name})"), cwd=point, check=True, text=True)


@contextlib.contextmanager
def libvirt_secret(folder: pathlib.Path) -> t.Iterator[str]:
    """Give libvirt a secret that a TPM's state can be encrypted with; yield its UUID."""
    name = str(uuid.uuid4())
    xml = f"<secret private='yes'><uuid>{name}</uuid><usage type='vtpm'><name>{name}</name></usage></secret>"
    (folder / "secret.xml").write_text(xml, encoding="utf-8")
    (folder / "secret.value").write_text("sealed", encoding="utf-8")
    virsh("secret-define", folder / "secret.xml")
    try:
        virsh("secret-set-value", name, "--file", folder / "secret.value", "--plain")
        yield name
    finally:
        virsh("secret-undefine", name)


def test_nvram_and_tpm_are_in_the_restore_point_and_come_back(domains: Domains, workdir: pathlib.Path) -> None:
    tpm = TPM.format(kind="emulator", inside="")
    domain = domains(Disk("vda", size=8 * MIB), boot=firmware(workdir), devices=tpm)
    sources = {"nvram": workdir / "variables.fd", "tpm2-00.permall": swtpm(domain)}
    truth = {name: path.read_bytes() for name, path in sources.items()}
    assert all(truth.values())

    ended = back_up(workdir, Protection(domain, workdir / "repository"))
    assert not ended.failed, ended.output
    assert ended.result["warnings"] == []
    point = pathlib.Path(ended.result["path"])
    manifest = json.loads((point / "manifest.json").read_text(encoding="utf-8"))
    listed = {file["name"]: file for file in manifest["files"]}
    rights = stat.S_IMODE(workdir.joinpath("repository").stat().st_mode) & 0o666
    for name, content in truth.items():
        assert (point / name).read_bytes() == content
        assert listed[name]["digest"] == f"sha256:{file_hash(sources[name])}"
        assert stat.S_IMODE((point / name).stat().st_mode) == rights
        assert (point / name).stat().st_ctime_ns < (point / "vda.json").stat().st_ctime_ns, "read after the disks were"

    domain.destroy()
    virsh("undefine", domain.name, "--checkpoints-metadata", "--nvram")
    assert not swtpm(domain).exists()
    virsh("define", point / "domain.xml")
    restore_tpm(domain, point)
    (workdir / "variables.fd").write_bytes((point / "nvram").read_bytes())
    domain.start()
    assert swtpm(domain).read_bytes() == truth["tpm2-00.permall"]


def test_a_secret_that_is_not_in_the_restore_point_is_named(domains: Domains, workdir: pathlib.Path) -> None:
    with libvirt_secret(workdir) as secret:
        tpm = TPM.format(kind="emulator", inside=f"<encryption secret='{secret}'/>")
        domain = domains(Disk("vda", size=8 * MIB), devices=tpm)
        ended = back_up(workdir, Protection(domain, workdir / "repository"))
        assert not ended.failed, ended.output
        (warning,) = ended.result["warnings"]
        assert f"encrypted with libvirt's secret {secret}, which is not in the restore point" in warning
        stored = pathlib.Path(ended.result["path"]) / "tpm2-00.permall"
        assert stored.read_bytes() == swtpm(domain).read_bytes()
        domain.destroy()


def test_a_missing_nvram_is_noticed_before_anything_begins(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=8 * MIB), boot=firmware(workdir))
    protection = Protection(domain, workdir / "repository")
    path = workdir / "variables.fd"
    content = path.read_bytes()
    path.unlink()
    ended = back_up(workdir, protection)
    assert ended.failed
    assert f"the NVRAM, {path}, cannot be read: No such file or directory; put it back" in ended.result["reason"]
    assert "virt_backup" not in ended.output.replace("virt_backup_info", "")
    assert (domain.checkpoints(), domain.has_job()) == ([], False)
    look = protection.look()
    assert (look["lock"], look["stagings"], look["restore_points"]) == (None, [], [])

    path.write_bytes(content)
    assert not back_up(workdir, protection).failed


@pytest.mark.parametrize(
    ("devices", "kind", "reason"),
    [
        (PASSTHROUGH, "passthrough", "the TPM is the host's own chip (passthrough)"),
        (TPM.format(kind="emulator", inside=""), "emulator", "holds no state that this user can read"),
    ],
)
def test_a_tpm_without_a_file_has_a_reason(domains: Domains, run_ok: Run, devices: str, kind: str, reason: str) -> None:
    domain = domains(Disk("vda", size=8 * MIB), devices=devices, start=False)
    found = run_ok("virt_backup_info", {"domain": domain.name})
    assert found["domain"]["tpm"] == kind
    (file,) = found["state_files"]
    assert (file["part"], file["name"], file["path"], file["required"]) == ("tpm", "", "", False)
    assert reason in file["reason"]


def test_a_link_in_the_place_of_the_state_is_no_state(domains: Domains, run_ok: Run, workdir: pathlib.Path) -> None:
    """The directory belongs to the user that swtpm runs as, and root reads it."""
    domain = domains(Disk("vda", size=8 * MIB), devices=TPM.format(kind="emulator", inside=""))
    swtpm(domain).unlink()
    swtpm(domain).symlink_to("/etc/shadow")
    (file,) = run_ok("virt_backup_info", {"domain": domain.name})["state_files"]
    assert (file["name"], file["path"]) == ("", "")
    assert file["reason"].endswith("is not a regular file")


def test_a_domain_without_either_has_none(domains: Domains, run_ok: Run) -> None:
    found = run_ok("virt_backup_info", {"domain": domains(Disk("vda", size=8 * MIB)).name})
    assert (found["domain"]["nvram"], found["domain"]["tpm"], found["state_files"]) == ("", "", [])
