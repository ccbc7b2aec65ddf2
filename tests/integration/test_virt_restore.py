# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain defined again from a restore point: as itself, as a copy beside the original, or refused in one sentence."""

from __future__ import annotations

import contextlib
import copy
import os
import pathlib
import signal
import typing as t
from xml.etree import ElementTree

import pytest
from integration import virt_kit as kit
from integration.protection import Point, Protection
from integration.test_state_files import TPM, firmware
from integration.virt_kit import Result
from lab.disks import MIB, Disk, cdrom
from lab.domains import Domains, LabDomain
from lab.guest import Guest
from lab.tools import call, content_hash, virsh, virsh_names

from ansible_collections.virt.backup.plugins.module_utils import _libvirt

NETWORK = "<network><name>{name}</name><bridge name='{bridge}'/></network>"


def restored_disk(point: Point, name: str, path: pathlib.Path) -> Result:
    """Restore a disk with qemu-img, and return what virt_restore is told of it."""
    new = path.with_name(f"{path.name}.new")
    call("qemu-img", "convert", "-O", "qcow2", point.tip(name), new)
    new.rename(path)
    return {"name": name, "source": str(path)}


def restore(point: Point, *disks: Result, check: bool = False, **options: t.Any) -> Result:
    return kit.run("virt_restore", check=check, restore_point=str(point.path), disks=list(disks), **options)


def refused(point: Point, *disks: Result, **options: t.Any) -> str:
    """Ask for a restore that is refused, in check mode too, and return the sentence."""
    before = definitions()
    arguments = {"restore_point": str(point.path), "disks": list(disks), **options}
    sentence = kit.refusal("virt_restore", check=True, **arguments)
    assert kit.refusal("virt_restore", **arguments) == sentence
    assert definitions() == before
    return sentence


def definitions() -> dict[str, str]:
    return {name: virsh("dumpxml", name, "--inactive") for name in virsh_names("list", "--all", "--name")}


def four_times(point: Point, *disks: Result, **options: t.Any) -> Result:
    """Check, restore, check again, restore again; return the result of the first restore."""
    foreseen = restore(point, *disks, check=True, **options)
    assert foreseen["changed"]
    made = restore(point, *disks, **options)
    assert made["changed"]
    assert foreseen["diff"] == made["diff"]
    assert {**foreseen, "domain": 0} == {**made, "domain": 0}
    assert foreseen["domain"] == made["domain"]
    for check in (True, False):
        again = restore(point, *disks, check=check, **options)
        assert not again["changed"]
        assert again["diff"]["before"] == again["diff"]["after"]
        assert (again["domain"], again["warnings"]) == (made["domain"], [])
    return made


def forget(domain: LabDomain) -> None:
    """Lose all that libvirt knows of a domain, as with its host."""
    if domain.state != "shut off":
        domain.destroy()
    virsh("undefine", domain.name, "--checkpoints-metadata", "--nvram")


def definition(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(virsh("dumpxml", name, "--inactive"))


@pytest.fixture
def undefined() -> t.Iterator[list[str]]:
    """Give a list of names; those domains are ended and forgotten after the test."""
    names: list[str] = []
    yield names
    for name in names:
        virsh("destroy", name, check=False)
        virsh("undefine", name, "--nvram", "--checkpoints-metadata", check=False)


def test_as_itself_after_all_of_libvirts_state_was_lost(domains: Domains, workdir: pathlib.Path) -> None:
    tpm = TPM.format(kind="emulator", inside="")
    domain = domains(Disk("vda", size=8 * MIB), cdrom("sda"), boot=firmware(workdir), devices=tpm)
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, MIB)
    point = protection.backup()
    before = definition(domain.name)
    forget(domain)
    disk = restored_disk(point, "vda", domain.disks["vda"].image)

    made = four_times(point, disk, state="paused")
    assert made["domain"] == {"name": domain.name, "uuid": domain.uuid, "state": "paused"}
    assert domain.state == "paused"
    after = definition(domain.name)
    for metadata in after.findall("metadata"):
        after.remove(metadata)
    assert ElementTree.tostring(after) == ElementTree.tostring(before)
    assert content_hash(domain.live_source("vda")) == point.truth["vda"]


def test_a_copy_runs_beside_the_original(domains: Domains, workdir: pathlib.Path, undefined: list[str]) -> None:
    devices = (
        TPM.format(kind="emulator", inside="")
        + f"<serial type='file'><source path='{workdir}/console.log'/></serial>"
        + "<interface type='ethernet'><mac address='52:54:00:00:00:01'/></interface>"
        + "<graphics type='vnc' port='5999' autoport='no'/>"
    )
    domain = domains(Disk("vda", size=8 * MIB, serial="S1"), cdrom("sda"), boot=firmware(workdir), devices=devices)
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, MIB)
    point = protection.backup()
    name = f"{domain.name}-copy"
    undefined.append(name)
    disk = restored_disk(point, "vda", workdir / "copy.qcow2")

    options = {"as": name, "state": "running", "missing_devices": "remove"}
    made = four_times(point, disk, **options)
    assert {domain.state, virsh("domstate", name).strip()} == {"paused", "running"}
    old, new = definition(domain.name), definition(name)
    assert new.findtext("uuid") != old.findtext("uuid")
    assert new.find("devices/interface/mac").get("address") not in ("52:54:00:00:00:01", None)
    assert pathlib.Path(made["nvram"]).read_bytes() == (point.path / "nvram").read_bytes()
    assert pathlib.Path(made["nvram"]) != workdir / "variables.fd"
    state = pathlib.Path(made["tpm"]) / "tpm2-00.permall"
    assert state.read_bytes() == (point.path / "tpm2-00.permall").read_bytes()
    assert new.findtext("devices/disk/serial") == "S1"
    assert [d["source"] for d in made["disks"]] == [str(workdir / "copy.qcow2"), str(domain.disks["sda"].image)]
    assert sorted(made["notes"]) == [
        f"{workdir}/console.log of the original is {workdir}/console-{name}.log of the copy",
        "the display (vnc) of the copy gets a port of its own",
    ]


def edited(point: Point, *changes: tuple[str, str]) -> Result:
    """Return the stored definition with texts replaced, as it would be from another host."""
    xml = (point.path / "domain.xml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in xml, f"{old} is not in {xml}"
        xml = xml.replace(old, new)
    return {"xml": xml, "id": point.id}


def refused_xml(definition: Result, **options: t.Any) -> str:
    before = definitions()
    sentence = kit.refusal("virt_restore", **definition, **options)
    assert definitions() == before
    return sentence


@contextlib.contextmanager
def network(name: str, *, active: bool) -> t.Iterator[None]:
    """Give libvirt a network without an address, so that neither a bridge device nor dnsmasq is needed to define it."""
    path = pathlib.Path(f"/tmp/{name}.xml")
    path.write_text(NETWORK.format(name=name, bridge=name), encoding="ascii")
    virsh("net-define", path)
    try:
        if active:
            virsh("net-start", name)
        yield
    finally:
        virsh("net-destroy", name, check=False)
        virsh("net-undefine", name)
        path.unlink()


def test_what_is_in_the_way_is_told_before_anything(domains: Domains, workdir: pathlib.Path) -> None:
    """Names, UUIDs and places of other domains, a running original, a definition that would be lost."""
    domain = domains(Disk("vda", size=MIB), Disk("vdb", size=MIB))
    point = Protection(domain, workdir / "repository").backup()
    disk = {"name": "vda", "source": str(domain.disks["vda"].image)}
    assert f"Domain '{domain.name}' can't be restored on this host: it is running; shut it down" in refused(point, disk)
    absent: Result = {"xml": edited(point)["xml"], "disks": [{**disk, "source": str(workdir / "a")}], "as": "copy"}
    assert "a is not there; restore its content first" in refused_xml(absent, missing_disks="remove")
    assert kit.run("virt_restore", check=True, **absent, missing_disks="remove")["changed"]
    (workdir / "a").write_bytes(bytes(MIB))
    assert "a is no qcow2 image; restore it as one, or set its format" in refused_xml(absent, missing_disks="remove")
    sentence = refused(point, disk, **{"as": "copy"}, missing_disks="remove")
    assert f"disk vda: {disk['source']} is used by domain '{domain.name}' (disk vda); restore it to" in sentence
    assert "disk vdb is not among the restored" in refused(point, disk, **{"as": "copy"})
    (workdir / "link").symlink_to(domain.disks["vdb"].image)
    sentence = refused(point, {**disk, "source": str(workdir / "link")}, **{"as": "copy"}, missing_disks="remove")
    assert f"is used by domain '{domain.name}' (disk vdb)" in sentence

    domain.destroy()
    assert "it is defined already, and otherwise; set overwrite" in refused(point, disk)
    other = domains(Disk("vda", size=MIB), start=False)
    taken = restored_disk(point, "vda", workdir / "taken.qcow2")
    assert f"the name is taken by another domain (UUID {other.uuid})" in refused(
        point, taken, **{"as": other.name}, missing_disks="remove"
    )
    changed = edited(point, (f"<name>{domain.name}</name>", "<name>renamed</name>"))
    assert f"its UUID {domain.uuid} is that of domain '{domain.name}'" in refused_xml(changed, overwrite=True)
    assert "is no disk of the domain; it has: vda, vdb" in refused(point, {"name": "vdz", "source": "/a"})


def test_what_the_host_lacks_is_told_at_once(domains: Domains, workdir: pathlib.Path, undefined: list[str]) -> None:
    """A definition from another host, with everything that this one does not have; then made to fit."""
    card = "<interface type='{0}'><mac address='52:54:00:00:00:0{1}'/><source {2}='lan{1}'/></interface>"
    devices = "".join(card.format(*row) for row in [("network", 1, "network"), ("bridge", 2, "bridge")])
    devices += "<filesystem type='mount'><source dir='/srv/images'/><target dir='share'/></filesystem>"
    domain = domains.describe(Disk("vda", size=MIB), Disk("vdb", size=MIB), cdrom("sda"), devices=devices)
    undefined.append(domain.name)
    xml = domain.xml()
    for old, new in (
        ("machine='pc'", "machine='pc-q35-99.1'"),
        ("<on_crash>", "<cpu mode='custom' match='exact'><model>EPYC-Future</model></cpu><on_crash>"),
        ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
        ("'/srv/images'", "'/srv/nowhere'"),
        (str(domain.disks["sda"].image), "/srv/install.iso"),
        (str(domain.disks["vdb"].image), "/srv/gone.qcow2"),
    ):
        assert old in xml
        xml = xml.replace(old, new)
    disk = {"name": "vda", "source": str(domain.disks["vda"].image)}
    options: Result = {"xml": xml, "disks": [disk]}
    sentence = kit.refusal("virt_restore", **options)
    for words in (
        "machine type pc-q35-99.1 is unknown to this host's QEMU (it has pc-q35-",
        "set machine to q35, or update QEMU",
        "network card 52:54:00:00:00:01 is on a network: this host has no network lan1 (it has: none); give another",
        "network card 52:54:00:00:00:02 is on an interface of the host: this host has no interface or bridge lan2",
        "disk vdb: /srv/gone.qcow2 is not there; name its new place in disks, or set missing_disks to remove",
        "the shared directory: /srv/nowhere is not there; provide it, or set missing_devices to remove",
    ):
        assert words in sentence
    assert "virsh" not in sentence
    assert not domain.exists()

    options["machine"] = "pc"
    assert "CPU model EPYC-Future is unknown to this host's libvirt; set cpu" in kit.refusal("virt_restore", **options)
    options.update(cpu="host-model", missing_networks="remove", missing_disks="remove", missing_devices="remove")
    made = kit.run("virt_restore", **options, state="paused")
    assert [(found["name"], found["source"]) for found in made["disks"]] == [("vda", disk["source"]), ("sda", "")]
    assert made["notes"] == [
        "the emulator /usr/libexec/qemu-kvm is not on this host, /usr/bin/qemu-system-x86_64 is used"
    ]
    warned = " ".join(made["warnings"])
    for words in (
        "vdb: /srv/gone.qcow2 is not there: it was removed",
        "sda: /srv/install.iso is not there: it was taken",
    ):
        assert words in warned
    assert (made["macs"], domain.state) == ([], "paused")
    assert not kit.run("virt_restore", **options, state="paused")["changed"]


def test_a_network_that_is_mapped_and_one_that_sleeps(
    domains: Domains, workdir: pathlib.Path, undefined: list[str]
) -> None:
    devices = "<interface type='network'><source network='lan'/></interface>"
    domain = domains.describe(Disk("vda", size=MIB), devices=devices)
    undefined.append(domain.name)
    disk = {"name": "vda", "source": str(domain.disks["vda"].image)}
    mac = "52:54:00:00:00:77"
    card = f"<interface type='user'><mac address='{mac}'/></interface>"
    other = domains(Disk("vda", size=MIB), devices=card, start=False)
    xml = domain.xml().replace("<source network='lan'/>", f"<mac address='{mac}'/><source network='lan'/>")
    options: Result = {"xml": xml, "disks": [disk], "networks": {"lan": "vbr-lan"}}
    with network("vbr-lan", active=False):
        assert "network vbr-lan is not active; start it" in kit.refusal("virt_restore", **options, state="paused")
        assert not domain.exists()
        assert kit.run("virt_restore", **options)["warnings"] == [
            f"network card {mac} is on a network: network vbr-lan is not active; start it.",
            f"Network card {mac} has the address of one of domain '{other.name}': keep them in different networks.",
        ]
    assert definition(domain.name).find("devices/interface/source").get("network") == "vbr-lan"


# The next backup


def test_only_the_restored_disk_is_full_again(domains: Domains, workdir: pathlib.Path) -> None:
    """One of two disks goes back to the first restore point, under its path; the other's bitmaps are as they were."""
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, MIB, 0x11)
    first = protection.backup()
    for target in ("vda", "vdb"):
        domain.write(target, 2 * MIB, MIB, 0x22)
    second = protection.backup()
    assert set(second.levels.values()) == {"incremental"}
    domain.write("vdb", 4 * MIB, 65536, 0x33)
    domain.destroy()

    disk = restored_disk(first, "vda", domain.disks["vda"].image)
    assert "set overwrite" in refused(first, disk)
    four_times(first, disk, state="paused", overwrite=True)
    assert domain.checkpoints() == [second.checkpoint]
    domain.write("vda", 6 * MIB, 65536, 0x44)
    third = protection.backup()
    assert third.levels == {"vda": "full", "vdb": "incremental"}
    assert f"there is another file at '{disk['source']}' now" in third.reason("vda")
    assert third.disk("vdb")["bytes_copied"] == 65536
    assert domain.checkpoints() == [third.checkpoint]
    domain.write("vda", 0, 65536, 0x55)
    assert set(protection.backup().levels.values()) == {"incremental"}
    protection.check_all()


def test_a_file_with_the_inode_of_the_old_one_is_no_base_either(domains: Domains, workdir: pathlib.Path) -> None:
    """File systems give the number of a deleted file to the next; then it is the bitmap that is missing."""
    domain = domains(Disk("vda", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    point = protection.backup()
    domain.destroy()
    image = domain.disks["vda"].image
    inode = image.stat().st_ino
    call("qemu-img", "convert", "-O", "qcow2", point.tip("vda"), workdir / "restored")
    image.write_bytes((workdir / "restored").read_bytes())
    assert image.stat().st_ino == inode
    restore(point, {"name": "vda", "source": str(image)}, state="paused", overwrite=True)
    after = protection.backup()
    assert after.levels == {"vda": "full"}
    assert f"the bitmap of {point.checkpoint} can't be used" in after.reason("vda")


def test_a_bitmap_of_the_old_name_in_a_restored_disk_is_no_base(domains: Domains, workdir: pathlib.Path) -> None:
    """A bitmap of the newest checkpoint's name lies in the image, empty and in order: it says that nothing changed.

    What is written into the very file of the old disk is for test_clean_samples.
    """
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    for number in range(2):
        domain.write("vda", number * MIB, MIB, pattern=0x11 + number)
        protection.backup()
    first, second = protection.points
    domain.destroy()
    image = domain.disks["vda"].image
    call("qemu-img", "convert", "-O", "qcow2", first.tip("vda"), workdir / "restored")
    call("qemu-img", "bitmap", "--add", "--enable", workdir / "restored", second.checkpoint)
    call("mv", workdir / "restored", image)
    restore(first, {"name": "vda", "source": str(image)}, state="paused", overwrite=True)
    assert second.checkpoint in kit.bitmaps_of(domain, "vda")
    after = protection.backup()
    assert after.levels == {"vda": "full", "vdb": "incremental"}
    assert "there is another file at" in after.reason("vda")
    domain.write("vda", 0, 65536, 0x55)
    assert set(protection.backup().levels.values()) == {"incremental"}
    protection.check_all()


def test_after_the_loss_of_the_host_the_next_backup_is_full(domains: Domains, workdir: pathlib.Path) -> None:
    """All of libvirt's state is gone. The repository would redefine the checkpoint, but no restored image has it."""
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, MIB)
    point = protection.backup()
    forget(domain)
    disks = [restored_disk(point, name, domain.disks[name].image) for name in ("vda", "vdb")]
    restore(point, *disks, state="paused")
    after = protection.backup()
    assert after.levels == {"vda": "full", "vdb": "full"}
    for name in ("vda", "vdb"):
        assert "there is another file at" in after.reason(name)
    assert set(protection.backup().levels.values()) == {"incremental"}


# What fails leaves nothing


def files_below(*folders: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_start_that_fails_takes_everything_back(domains: Domains, workdir: pathlib.Path) -> None:
    """The disk's base is missing, which only QEMU notices. NVRAM, TPM, definition: all as before, or not there."""
    devices = TPM.format(kind="emulator", inside="")
    domain = domains(Disk("vda", size=8 * MIB), boot=firmware(workdir), devices=devices)
    point = Protection(domain, workdir / "repository").backup()
    call("qemu-img", "create", "-q", "-f", "qcow2", workdir / "base", "8M")
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", workdir / "base", "-F", "qcow2", workdir / "broken.qcow2")
    (workdir / "base").unlink()
    disk = {"name": "vda", "source": str(workdir / "broken.qcow2")}
    swtpm = pathlib.Path("/var/lib/libvirt/swtpm")
    before = files_below(workdir, swtpm), definitions()
    folders = sorted(swtpm.iterdir())
    failure = kit.refusal("virt_restore", restore_point=str(point.path), disks=[disk], state="paused", **{"as": "copy"})
    assert "Starting domain 'copy' failed" in failure
    assert "could not be taken back" not in failure
    assert (files_below(workdir, swtpm), definitions()) == before
    assert sorted(swtpm.iterdir()) == folders

    domain.destroy()
    (workdir / "variables.fd").write_bytes(b"newer")
    before = files_below(workdir, swtpm), definitions()
    options: Result = {"restore_point": str(point.path), "disks": [disk], "state": "paused"}
    assert "variables.fd is there already and holds something else; set overwrite" in kit.refusal(
        "virt_restore", **options
    )
    assert "Starting domain" in kit.refusal("virt_restore", **options, overwrite=True)
    assert (files_below(workdir, swtpm), definitions()) == before

    disk = restored_disk(point, "vda", domain.disks["vda"].image)
    restore(point, disk, state="paused", overwrite=True)
    assert (workdir / "variables.fd").read_bytes() == (point.path / "nvram").read_bytes()
    assert [path.name for path in workdir.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_restore_point_and_one_in_the_making_are_refused(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=MIB), boot=firmware(workdir))
    point = Protection(domain, workdir / "repository").backup()
    forget(domain)
    nvram = point.path / "nvram"
    good = nvram.read_bytes()
    nvram.write_bytes(good[:-1] + b"x")
    assert f"{nvram} is not what was stored (its digest differs)" in refused(point)
    nvram.write_bytes(good)
    (point.path / "domain.xml").unlink()
    assert f"{point.path}/domain.xml is missing; bring it back" in refused(point)
    staging = str(point.path) + ".staging"
    assert "is not the directory of a published" in kit.refusal("virt_restore", restore_point=staging)


def test_a_restore_point_is_found_in_its_repository(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=MIB))
    protection = Protection(domain, workdir / "repository")
    first, second = protection.backup(), protection.backup()
    place: Result = {"repository": str(protection.repository), "check": True, "as": "copy", "missing_disks": "remove"}
    for options, point in (
        ({"domain_name": domain.name}, second),
        ({"domain_uuid": domain.uuid, "id": "latest"}, second),
        ({"domain_uuid": domain.uuid, "id": first.id}, first),
        ({"domain_name": domain.name, "before": second.manifest["created"]}, first),
    ):
        assert kit.run("virt_restore", **place, **options)["restore_point"] == point.id
    for options, words in (
        ({}, "holds many domains; give exactly one of domain_uuid and domain_name"),
        ({"domain_name": "nobody"}, "has no restore point in this repository"),
        ({"domain_name": domain.name, "before": "soon"}, "before: 'soon' is no time in ISO 8601"),
        (
            {"domain_name": domain.name, "state_files": [{"name": "nvram", "path": "/n"}]},
            "means nothing with repository",
        ),
        ({"domain_name": domain.name, "as": domain.name}, "is the name of the original; leave it out"),
        ({"domain_name": domain.name, "as": "a/b"}, "is no name for a domain"),
        ({"domain_name": domain.name, "networks": {"lan": ""}}, "networks: '' is empty; give the name on this host"),
        ({"domain_name": domain.name, "disks": [{"name": "vda", "source": "a"}]}, "is a relative path"),
    ):
        assert words in kit.refusal("virt_restore", **{**place, **options})


def test_files_that_were_brought_here(domains: Domains, workdir: pathlib.Path) -> None:
    """The repository is elsewhere: the definition comes as text, the state as files."""
    domain = domains(Disk("vda", size=MIB), boot=firmware(workdir))
    point = Protection(domain, workdir / "repository").backup()
    forget(domain)
    (workdir / "brought").write_bytes((point.path / "nvram").read_bytes())
    options: Result = {**edited(point), "disks": [restored_disk(point, "vda", domain.disks["vda"].image)]}
    options["state_files"] = [{"name": "nvram", "path": str(workdir / "brought")}]
    assert kit.run("virt_restore", **options, state="paused")["restore_point"] == point.id
    assert (workdir / "variables.fd").read_bytes() == (workdir / "brought").read_bytes()
    assert domain.state == "paused"
    assert not kit.run("virt_restore", **options, state="paused")["changed"]


def test_what_others_changed_since_is_told_and_replaced_only_if_asked(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=MIB))
    point = Protection(domain, workdir / "repository").backup()
    domain.destroy()
    disk = restored_disk(point, "vda", domain.disks["vda"].image)
    restore(point, disk, overwrite=True)
    virsh("setmaxmem", domain.name, "65536", "--config")
    (warning,) = restore(point, disk)["warnings"]
    assert "was changed since it was restored" in warning
    again = restore(point, disk, overwrite=True)
    assert again["changed"]
    assert definition(domain.name).findtext("memory") == "32768"
    virsh("start", domain.name, "--paused")
    virsh("managedsave", domain.name, "--paused")
    assert not restore(point, disk)["changed"]
    virsh("setmaxmem", domain.name, "65536", "--config")
    (warning,) = restore(point, disk, overwrite=True)["warnings"]
    assert "saved memory of the domain (managed save) belongs to its old disks; it is deleted" in warning
    assert "no" in virsh("dominfo", domain.name).partition("Managed save:")[2].split()[0]
    assert restore(point, disk, state="running")["changed"]
    assert domain.state == "running"


def test_a_disk_that_moved_as_announced_is_no_change_and_again_is(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=8 * MIB))
    point = Protection(domain, workdir / "repository").backup()
    domain.destroy()
    disk = {**restored_disk(point, "vda", workdir / "first"), "moves_to": str(workdir / "second")}
    wish = {"overwrite": True, "state": "paused", "error_policy": "stop"}
    assert not restore(point, disk, **wish)["restored_before"]
    live, stored = (virsh("dumpxml", domain.name, *options) for options in ((), ("--inactive",)))
    assert "error_policy='stop' rerror_policy='stop'" in live
    assert "error_policy" not in stored
    kit.run("virt_disk_copy", domain=domain.name, disks=[{"name": "vda", "dest": str(workdir / "second")}])
    again = restore(point, disk, **wish)
    assert (again["changed"], again["restored_before"], again["warnings"]) == (False, True, [])
    assert again["disks"][0]["source"] == str(workdir / "second")
    assert "it is running" in refused(point, disk, **wish, again=True)

    domain.destroy()
    assert "set overwrite to replace" in refused(point, disk, again=True)
    once_more = restore(point, disk, **wish, again=True)
    assert (once_more["changed"], once_more["reason"]) == (True, "it was asked for once more")
    assert str(workdir / "first") in virsh("domblklist", domain.name)
    domain.destroy()
    elsewhere = virsh("dumpxml", domain.name, "--inactive").replace(str(workdir / "first"), str(workdir / "third"))
    (workdir / "third.xml").write_text(elsewhere, encoding="utf-8")
    virsh("define", workdir / "third.xml")
    (warning,) = restore(point, disk)["warnings"]
    assert "was changed since it was restored" in warning


# Definitions of other kinds


def test_the_xml_of_a_running_domain_can_be_defined(domains: Domains, workdir: pathlib.Path) -> None:
    """A disk that was attached to the running domain only is in no definition, and comes back all the same."""
    devices = (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><serial type='pty'/>"
        "<graphics type='vnc' port='-1' autoport='yes'/><input type='tablet' bus='usb'/>"
        "<controller type='virtio-serial'/><interface type='user'><model type='virtio'/></interface>"
    )
    domain = domains(Disk("vda", size=MIB), cdrom("sda"), devices=devices)
    domain.attach(Disk("vdb", size=MIB), live_only=True)
    before = definition(domain.name)
    point = Protection(domain, workdir / "repository").backup()
    assert "<domain type='qemu' id=" not in (point.path / "domain.xml").read_text(encoding="utf-8")
    forget(domain)
    disks = [restored_disk(point, name, domain.disks[name].image) for name in ("vda", "vdb")]
    four_times(point, *disks, state="paused")
    after = definition(domain.name)
    assert [target.get("dev") for target in after.iterfind("devices/disk/target")] == ["vda", "vdb", "sda"]
    for disk in after.findall("devices/disk"):
        if disk.find("target").get("dev") == "vdb":
            after.find("devices").remove(disk)
    after.remove(after.find("metadata"))
    assert sorted(lines(after)) == sorted(lines(before))  # libvirt sorts controllers in the order it adds them


def lines(root: ElementTree.Element) -> t.Iterator[str]:
    """Show a document in the one form that equal ones have, an element in each line."""
    text = ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), strip_text=True)
    yield from text.replace("><", ">\n<").splitlines()


def test_disks_that_survived_go_on_with_increments(domains: Domains, workdir: pathlib.Path) -> None:
    """Only libvirt's state was lost: the disks are where they were, with their bitmaps, and nothing was restored."""
    domain = domains(Disk("vda", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, MIB)
    point = protection.backup()
    forget(domain)
    restore(point, state="paused")
    domain.write("vda", 0, 65536, 0x77)
    assert protection.backup().levels == {"vda": "incremental"}


@contextlib.contextmanager
def pool(name: str, folder: pathlib.Path) -> t.Iterator[None]:
    virsh("pool-create-as", name, "dir", "--target", folder)
    try:
        yield
    finally:
        virsh("pool-destroy", name)


def test_volumes_and_network_disks(domains: Domains, workdir: pathlib.Path, undefined: list[str]) -> None:
    """A disk may come back as a volume of a pool or as an NBD export; a volume is known by its path too."""
    domain = domains(Disk("vda", size=8 * MIB))
    domain.write("vda", 0, MIB)
    point = Protection(domain, workdir / "repository").backup()
    (workdir / "pool").mkdir()
    restored_disk(point, "vda", workdir / "pool/v.qcow2")
    undefined += [f"{domain.name}-{kind}" for kind in ("volume", "file", "nbd")]
    volume: Result = {"name": "vda", "type": "volume", "source": "lab/v.qcow2"}
    assert "this host has no storage pool lab (it has: none); restore its content" in kit.refusal(
        "virt_restore", restore_point=str(point.path), disks=[volume], **{"as": undefined[0]}
    )
    with pool("lab", workdir / "pool"):
        four_times(point, volume, state="paused", **{"as": undefined[0]})
        sentence = refused(point, {"name": "vda", "source": str(workdir / "pool/v.qcow2")}, **{"as": undefined[1]})
        assert f"is used by domain '{undefined[0]}' (disk vda)" in sentence
        virsh("destroy", undefined[0])
    served = domains(Disk("vda", size=8 * MIB, kind="nbd", image=None), start=False).disks["vda"]
    uri = f"nbd+unix:///vda?socket={served.socket}"
    made = four_times(point, {"name": "vda", "type": "network", "source": uri}, state="paused", **{"as": undefined[2]})
    assert (made["disks"][0]["type"], virsh("domstate", undefined[2]).strip()) == ("network", "paused")


# Killed in the middle


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kill_after_a_definition_is_set_right_by_the_same_call(
    domains: Domains, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The files are there and so is the definition, with or without its final mark; nothing runs yet."""
    domain = domains(Disk("vda", size=MIB), boot=firmware(workdir), devices=TPM.format(kind="emulator", inside=""))
    point = Protection(domain, workdir / "repository").backup()
    forget(domain)
    disk = restored_disk(point, "vda", domain.disks["vda"].image)
    work = kit.work_of("virt_restore", restore_point=str(point.path), disks=[disk], state="paused")
    with monkeypatch.context() as patched:
        patched.setattr(_libvirt.Hypervisor, "define", ends_after(calls, lambda: os._exit(9)))
        assert kit.printed_by_child(work) == ""
    assert domain.state == "shut off"
    made = restore(point, disk, state="paused")
    assert (made["changed"], made["domain"]["state"], made["warnings"]) == (True, "paused", [])
    assert not restore(point, disk, state="paused")["changed"]


def test_a_signal_takes_everything_back(
    domains: Domains, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = domains(Disk("vda", size=MIB), boot=firmware(workdir), devices=TPM.format(kind="emulator", inside=""))
    point = Protection(domain, workdir / "repository").backup()
    forget(domain)
    disk = restored_disk(point, "vda", domain.disks["vda"].image)
    before = files_below(workdir, pathlib.Path("/var/lib/libvirt/swtpm")), definitions()
    monkeypatch.setattr(_libvirt.Hypervisor, "define", ends_after(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    sentence = kit.refusal("virt_restore", restore_point=str(point.path), disks=[disk], state="paused")
    assert sentence == "Interrupted by SIGTERM; what had been begun was undone."
    assert (files_below(workdir, pathlib.Path("/var/lib/libvirt/swtpm")), definitions()) == before


def ends_after(calls: int, end: t.Callable[[], None]) -> t.Callable[..., t.Any]:
    """Return a method that defines as ever, and at the end of that many calls does something else."""
    define, counted = _libvirt.Hypervisor.define, []

    def defines(self: t.Any, xml: str) -> t.Any:
        handle = define(self, xml)
        counted.append(xml)
        if len(counted) == calls:
            end()
        return handle

    return defines


# With a guest in it


def test_the_guest_of_a_copy_has_the_files_of_the_original(
    guest: Guest, workdir: pathlib.Path, undefined: list[str]
) -> None:
    """Both run at the same time; what the original writes later is none of the copy's."""
    guest.make_filesystem("vda", "/data")
    guest.sh("head -c 300000 /dev/urandom > /data/a; echo b > /data/b; sync")
    truth = guest.checksums("/data")
    virsh("suspend", guest.name)
    point = Protection(guest, workdir / "repository").backup()
    virsh("resume", guest.name)
    guest.sh("rm /data/a; sync")

    twin = copy.copy(guest)
    twin.name = f"{guest.name}-copy"
    undefined.append(twin.name)
    disk = restored_disk(point, "vda", workdir / "copy.qcow2")
    four_times(point, disk, state="running", **{"as": twin.name})
    twin.wait_for_agent()
    twin.mount("vda", "/data")
    assert (len(truth), twin.checksums("/data")) == (2, truth)
    assert "/data/a" not in guest.checksums("/data")
