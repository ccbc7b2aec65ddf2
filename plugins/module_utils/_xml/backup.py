# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Backup XML <-> model (https://libvirt.org/formatbackup.html)."""

from __future__ import annotations

import typing as t
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.text import quoted
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import child, element, number_of, parse, serialise

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

_PATH_ATTRIBUTE = {"file": "file", "block": "dev"}


def build_backup(job: BackupJob) -> str:
    """Return the XML of a job.

    Participating disks are written out fully and excluded ones as name and ``backup='no'`` only: the one form that
    the schemas of libvirt 7.0, 9.0 and 11.3 all accept, and that 9.0 does not fail on afterwards for want of a
    generated file name.
    """
    root = element("domainbackup", mode=job.mode)
    if job.server is not None:
        root.append(_server(job.server))
    disks = child(root, "disks")
    for disk in job.disks:
        disks.append(_disk(disk, job.mode))
    return serialise(root)


def _server(server: Server) -> Element:
    attributes = {"transport": server.transport}
    if server.transport == "unix":
        attributes["socket"] = server.socket
    else:
        attributes["name"] = server.name
        attributes["port"] = str(server.port)
    if server.tls:
        attributes["tls"] = "yes"
    return element("server", **attributes)


def _disk(disk: JobDisk, mode: str) -> Element:
    if not disk.participates:
        return element("disk", name=disk.name, backup="no")
    node = element("disk", name=disk.name, backup="yes", type=disk.storage, backupmode=disk.level.value)
    if disk.level is Level.INCREMENTAL:
        node.set("incremental", disk.incremental)
    if disk.exportname:
        node.set("exportname", disk.exportname)
    if disk.exportbitmap and disk.level is Level.INCREMENTAL:
        node.set("exportbitmap", disk.exportbitmap)
    child(node, "driver", type=disk.driver)
    child(node, "scratch" if mode == "pull" else "target", **{_PATH_ATTRIBUTE[disk.storage]: disk.path})
    return node


def parse_backup(xml: str) -> BackupJob:
    """Read the XML of a job, as generated here or as ``virDomainBackupGetXMLDesc`` resolved it.

    :raises BackupError: it is no XML, or says what no job of libvirt can.
    """
    root = parse(xml)
    top = (root.findtext("incremental") or "").strip()
    server = root.find("server")
    return BackupJob(
        mode=root.get("mode", "push"),
        server=None if server is None else _parse_server(server),
        disks=tuple(_parse_disk(node, top) for node in root.iterfind("disks/disk")),
    )


def _parse_server(node: Element) -> Server:
    return Server(
        transport=node.get("transport", "tcp"),
        socket=node.get("socket", ""),
        name=node.get("name", ""),
        port=number_of("The port of the backup job", node.get("port", "0")),
        tls=node.get("tls") == "yes",
    )


def _parse_disk(node: Element, top: str) -> JobDisk:
    name = node.get("name", "")
    if node.get("backup", "yes") == "no":
        return JobDisk(name, participates=False)
    base = node.get("incremental", top)
    mode = node.get("backupmode", "incremental" if base else "full")
    if mode not in [level.value for level in Level]:
        raise BackupError(f"The backupmode of a disk in the backup job is {quoted(mode)}, which is none.")
    level = Level(mode)
    storage = node.get("type", "file")
    path = node.find("scratch") if node.find("scratch") is not None else node.find("target")
    driver = node.find("driver")
    return JobDisk(
        name=name,
        level=level,
        incremental=base if level is Level.INCREMENTAL else "",
        exportname=node.get("exportname", ""),
        exportbitmap=node.get("exportbitmap", ""),
        storage=storage,
        path="" if path is None else path.get(_PATH_ATTRIBUTE.get(storage, "file"), ""),
        driver="qcow2" if driver is None else driver.get("type", "qcow2"),
    )


def export_uri(server: Server, exportname: str) -> str:
    """Return the NBD URI of one export (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)."""
    name = urllib.parse.quote(exportname, safe="")
    secure = "s" if server.tls else ""
    if server.transport == "unix":
        return f"nbd{secure}+unix:///{name}?socket={urllib.parse.quote(server.socket)}"
    host = f"[{server.name}]" if ":" in server.name else server.name
    return f"nbd{secure}://{host}:{server.port}/{name}"
