# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains without a guest system: started paused they cost no processor time, and backup works on them just the same.

Writes go through QEMU's live block layer (``qemu-io`` over the monitor), so dirty bitmaps record them as a guest's.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import types
import typing as t
import uuid
from xml.etree import ElementTree

from lab.disks import Attached, Disk
from lab.errors import LabError
from lab.tools import call, hmp, virsh, virsh_names
from lab.wait import until

if t.TYPE_CHECKING:
    from typing_extensions import Self  # noqa: UP035  mypy checks for 3.10

IMAGES = pathlib.Path("/srv/images")
"""A folder of the hypervisor's own that QEMU's user can reach."""

_DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='scsi' model='virtio-scsi'/>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""


_TALKATIVE = ("write", "read", "discard")
"""The qemu-io commands that print a line when they are done, also a failed one."""


def _talkative(command: str) -> bool:
    return command.split(maxsplit=1)[0] in _TALKATIVE


def _batches(commands: t.Iterable[str]) -> list[list[str]]:
    """Return what goes to the monitor at once: the report of a command must be told from the next one's."""
    batches: list[list[str]] = []
    for command in commands:
        if batches and not _talkative(command):
            batches[-1].append(command)
        else:
            batches.append([command])
    return batches


def _failure(log: pathlib.Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if "failed" in line or "invalid" in line.lower())


class LabDomain:
    """One domain and its disks, from :meth:`define` to :meth:`close`."""

    def __init__(
        self,
        name: str,
        *disks: Disk,
        memory: int = 32,
        boot: str = "",
        devices: str = "",
        folder: pathlib.Path | None = None,
    ) -> None:
        """Describe it. ``memory`` is in MiB; ``boot`` and ``devices`` are more XML for ``<os>`` and ``<devices>``."""
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.folder = folder or IMAGES / name
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.disks: dict[str, Attached] = {}
        self._memory, self._boot, self._devices = memory, boot, devices
        try:
            for disk in disks:
                self.disks[disk.target] = Attached(disk, self.folder)
        except BaseException:
            self._remove_files()
            raise

    # life

    def xml(self) -> str:
        """Return the XML to define it with."""
        devices = "\n    ".join([*(disk.xml() for disk in self.disks.values()), self._devices])
        return _DOMAIN.format(name=self.name, uuid=self.uuid, memory=self._memory, boot=self._boot, devices=devices)

    def define(self) -> None:
        """Make it known to libvirt, shut off."""
        path = self.folder / "define.xml"
        path.write_text(self.xml(), encoding="utf-8")
        virsh("define", path)

    def start(self, *, paused: bool = True) -> None:
        """Start it, paused unless it has a guest that shall run."""
        virsh("start", self.name, *(["--paused"] if paused else []))

    def destroy(self) -> None:
        """Cut its power. QEMU closes its images properly, so bitmaps survive."""
        virsh("destroy", self.name)

    def power_cycle(self, *, paused: bool = True) -> None:
        """Cut the power and start again."""
        self.destroy()
        self.start(paused=paused)

    def kill(self) -> None:
        """Kill its QEMU with -9, as a crash would: bitmaps in its images stay marked as in use."""
        os.kill(self.qemu_pid, signal.SIGKILL)
        until(f"libvirt noticed the death of {self.name}", lambda: self.state == "shut off")

    @property
    def qemu_pid(self) -> int:
        """Return the process id of its QEMU."""
        return int(pathlib.Path(f"/run/libvirt/qemu/{self.name}.pid").read_text(encoding="ascii"))

    @property
    def state(self) -> str:
        """Return what ``virsh domstate`` says: ``paused``, ``running``, ``shut off``."""
        return virsh("domstate", self.name).strip()

    def exists(self) -> bool:
        """Whether libvirt knows it."""
        return self.name in virsh_names("list", "--all", "--name")

    def close(self) -> None:
        """End its job, destroy and undefine it with its checkpoints, and delete its files."""
        try:
            if self.exists():
                virsh("domjobabort", self.name, check=False, timeout=60)
                virsh("destroy", self.name, check=False)
            if self.exists():
                virsh("undefine", self.name, "--checkpoints-metadata", "--snapshots-metadata", "--nvram")
        finally:
            self._remove_files()

    def _remove_files(self) -> None:
        for disk in self.disks.values():
            disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    # disks

    def attach(self, disk: Disk, *, live_only: bool = False) -> Attached:
        """Hot-plug a disk (and keep it over a power cycle, unless ``live_only``)."""
        attached = Attached(disk, self.folder)
        self.disks[disk.target] = attached
        path = self.folder / f"attach-{disk.target}.xml"
        path.write_text(attached.xml(), encoding="utf-8")
        virsh("attach-device", self.name, path, "--live", *([] if live_only else ["--config"]))
        return attached

    def detach(self, target: str) -> Attached:
        """Unplug a disk; its image stays. A guest would have to agree; without one, a reset carries out the request."""
        alias = self._alias(target)
        virsh("detach-disk", self.name, target, "--config", check=False)
        virsh("detach-device-alias", self.name, alias, "--live")  # returns at once; detach-disk would wait for a guest
        hmp(self.name, "system_reset")
        until(f"{target} of {self.name} is unplugged", lambda: self.disk_element(target) is None)
        attached = self.disks.pop(target)
        attached.close()
        return attached

    def resize(self, target: str, size: int) -> None:
        """Change the size of a live disk to ``size`` bytes."""
        virsh("blockresize", self.name, target, f"{size}B")

    def live_xml(self) -> ElementTree.Element:
        """Return the live XML, parsed."""
        return ElementTree.fromstring(virsh("dumpxml", self.name))

    def disk_element(self, target: str) -> ElementTree.Element | None:
        """Return a disk's element in the live XML, ``None`` when there is no such disk."""
        for element in self.live_xml().iterfind("devices/disk"):
            at = element.find("target")
            if at is not None and at.get("dev") == target:
                return element
        return None

    # writing

    def qemu_io(self, target: str, *commands: str) -> None:
        """Run qemu-io commands on a live disk; raise when one fails, which only QEMU's log says."""
        device = self._qdev(target)
        log = pathlib.Path(f"/var/log/libvirt/qemu/{self.name}.log")
        for together in _batches(commands):
            before = log.stat().st_size
            answer = hmp(self.name, *(f'qemu-io -d {device} "{command}"' for command in together))
            if _talkative(together[0]):
                until(f"qemu-io reports on {together[0]!r}", lambda: log.stat().st_size > before, 10)  # noqa: B023
                answer += _failure(log, before)
            if answer:
                raise LabError(f"{self.name} {target}: qemu-io {'; '.join(together)}: {answer}")

    def _alias(self, target: str) -> str:
        if self.disks[target].disk.effective_bus == "virtio":  # libvirt numbers them by the letter of their target
            return f"virtio-disk{ord(target[-1]) - ord('a')}"
        element = self.disk_element(target)
        alias = None if element is None else element.find("alias")
        if alias is None:
            raise LabError(f"{self.name} has no live disk {target}")
        return alias.get("name", "")

    def _qdev(self, target: str) -> str:
        virtio = "/virtio-backend" if self.disks[target].disk.effective_bus == "virtio" else ""
        return f"/machine/peripheral/{self._alias(target)}{virtio}"

    def write(self, target: str, offset: int, length: int, pattern: int = 0x5A) -> None:
        """Write ``length`` bytes of one value through the live block layer, and flush."""
        self.qemu_io(target, f"write -P {pattern:#x} {offset} {length}", "flush")

    def zero(self, target: str, offset: int, length: int, *, unmap: bool = False) -> None:
        """Write zeroes efficiently (``unmap``: the image may give the space back), and flush."""
        self.qemu_io(target, f"write -z {'-u ' if unmap else ''}{offset} {length}", "flush")

    def discard(self, target: str, offset: int, length: int) -> None:
        """Trim a range as a guest's fstrim would, and flush."""
        self.qemu_io(target, f"discard {offset} {length}", "flush")

    def flush(self, target: str) -> None:
        """Bring what QEMU holds back into the image file."""
        self.qemu_io(target, "flush")

    # reading, independently of what is tested

    def live_source(self, target: str) -> pathlib.Path:
        """Return the file or device that holds the live content now (a snapshot or a transient disk moves it)."""
        if self.disks[target].disk.kind == "nbd":
            return self.disks[target].image
        element = self.disk_element(target)
        source = None if element is None else element.find("source")
        if source is None:
            raise LabError(f"{self.name} {target} has no source")
        if source.get("pool"):
            return pathlib.Path(virsh("vol-path", source.get("volume", ""), "--pool", source.get("pool", "")).strip())
        return pathlib.Path(source.get("file") or source.get("dev") or "")

    def frozen_copy(self, target: str, name: str = "") -> pathlib.Path:
        """Return a raw copy of what is on the disk at this moment, taken beside libvirt and QEMU's block jobs.

        The domain has to be paused, so that "this moment" is one. The copy goes with the domain's folder.
        """
        if self.state != "paused":
            raise LabError(f"{self.name} is {self.state}: pause it, or the copy is of no single moment")
        self.flush(target)
        copy = self.folder / f"frozen-{name or uuid.uuid4().hex[:8]}-{target}.raw"
        call(
            "qemu-img",
            "convert",
            "-U",
            "-f",
            self.disks[target].disk.format,
            "-O",
            "raw",
            self.live_source(target),
            copy,
        )
        return copy

    # what libvirt knows

    def checkpoints(self) -> list[str]:
        """Return the names of its checkpoints, parents first."""
        return virsh_names("checkpoint-list", self.name, "--name", "--topological")

    def make_checkpoint(self, name: str, *targets: str) -> None:
        """Create a checkpoint by libvirt alone, on these disks."""
        disks = "".join(f"<disk name='{target}' checkpoint='bitmap'/>" for target in targets)
        path = self.folder / f"checkpoint-{uuid.uuid4().hex}.xml"
        path.write_text(
            f"<domaincheckpoint><name>{name}</name><disks>{disks}</disks></domaincheckpoint>", encoding="utf-8"
        )
        virsh("checkpoint-create", self.name, path)

    def dirty_bytes(self, checkpoint: str, target: str) -> int:
        """Return what libvirt counts as changed on a disk since the checkpoint."""
        root = ElementTree.fromstring(virsh("checkpoint-dumpxml", self.name, checkpoint, "--size", "--no-domain"))
        sizes = {disk.get("name"): disk.get("size", "0") for disk in root.iterfind("disks/disk")}
        return int(sizes[target])

    def backup_xml(self) -> str:
        """Return the XML of the active backup job, empty when there is none."""
        return virsh("backup-dumpxml", self.name, check=False)

    def has_job(self) -> bool:
        """Whether a backup job is active."""
        return bool(self.backup_xml().strip())


class Domains:
    """Makes domains and closes them all, in reverse order: what a test or a demo holds for its duration."""

    def __init__(self) -> None:
        self._made: list[LabDomain] = []

    def describe(self, *disks: Disk, name: str = "", **options: t.Any) -> LabDomain:
        """Return a domain that libvirt does not know yet; closed like the others."""
        domain = LabDomain(name or f"lab-{uuid.uuid4().hex[:8]}", *disks, **options)
        self._made.append(domain)
        return domain

    def __call__(self, *disks: Disk, name: str = "", start: bool = True, **options: t.Any) -> LabDomain:
        """Define a domain with these disks (one default disk when none is given) and start it paused."""
        domain = self.describe(*(disks or (Disk(),)), name=name, **options)
        domain.define()
        if start:
            domain.start()
        return domain

    def close(self) -> None:
        """Close every domain, even when one refuses; raise the first refusal afterwards."""
        errors: list[Exception] = []
        while self._made:
            try:
                self._made.pop().close()
            except (LabError, OSError, subprocess.SubprocessError) as error:
                errors.append(error)
        if errors:
            raise errors[0]
