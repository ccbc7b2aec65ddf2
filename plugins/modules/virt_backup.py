#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_backup
short_description: Start and end a backup job of a running libvirt domain
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Starts libvirt's backup job on a running domain. In V(pull) mode QEMU then serves the content of that moment over
    NBD, to be read with M(virt.backup.nbd_extract) or any other NBD client. In V(push) mode QEMU writes it to files
    or block devices itself.
  - The level is decided for each disk by itself. In one job, a disk that was just attached goes full while the others
    stay incremental, and RV(disks[].reason) says why.
  - The XML is checked against the host's own RELAX NG schema before anything happens. A start that fails leaves no
    job and no checkpoint behind.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
options:
  state:
    description:
      - V(started) starts the job, or finds the same job active and changes nothing. Another active job is an error
        that says whose it is.
      - V(stopped) ends our job, which is recognised by its server or its targets, or finds that there is none. It
        waits until libvirt has let go. In push mode it waits for the job's own end, checks the targets, and fails
        when the job did.
    type: str
    choices: [started, stopped]
    default: started
  mode:
    description:
      - Who moves the bytes.
    type: str
    choices: [pull, push]
    default: pull
  incremental:
    description:
      - Name of the checkpoint that disks start from which name none themselves.
    type: str
  backupmode:
    description:
      - V(auto) makes a disk incremental where a usable bitmap of the named checkpoint exists on it, else full.
      - V(full) forces a full backup. V(incremental) demands an incremental one, and fails where it cannot be had.
      - Applies to the disks that set no mode themselves.
    type: str
    choices: [auto, full, incremental]
    default: auto
  disks:
    description:
      - The disks that take part. When omitted, every disk that can be backed up does, except read-only ones.
      - Disks that are not listed stay out, as in libvirt.
    type: list
    elements: dict
    suboptions:
      name:
        description: Target name of the disk, such as V(vda).
        type: str
        required: true
      backup:
        description: Whether the disk takes part.
        type: bool
        default: true
      backupmode:
        description: As O(backupmode), for this disk.
        type: str
        choices: [auto, full, incremental]
      incremental:
        description: As O(incremental), for this disk. Two disks may start from two different checkpoints.
        type: str
      exportname:
        description: Name of the NBD export. Defaults to the name of the disk. Pull mode only.
        type: str
      exportbitmap:
        description: Name of the exported bitmap. Defaults to C(backup-) and the name of the disk. Pull mode only.
        type: str
      type:
        description: Whether O(disks[].scratch) or O(disks[].target) is a file or a block device.
        type: str
        choices: [file, block]
        default: file
      scratch:
        description: Where QEMU keeps the old content of what the guest overwrites during the job. Defaults to a file
          in O(scratch_dir). Pull mode only.
        type: path
      target:
        description: Where QEMU writes the backup. Defaults to a file named after the disk in O(target_dir). Push mode
          only.
        type: path
      driver:
        description:
          - Format of the target. Scratch files are always qcow2.
          - An increment goes into V(raw) only with O(reuse_external), onto a copy of the previous backup.
        type: str
        choices: [qcow2, raw]
        default: qcow2
      backing_file:
        description:
          - The previous backup of this disk, absolute or relative to the target. Required for an incremental push to
            qcow2.
          - libvirt gives such a target the live disk as its backing file. With O(state=stopped) it is rebased onto
            this file, before anyone reads it.
        type: str
      backing_format:
        description: Format of O(disks[].backing_file).
        type: str
        choices: [qcow2, raw]
        default: qcow2
  server:
    description:
      - Where the pull job is served.
    type: dict
    suboptions:
      transport:
        description: V(tcp) is readable by everyone who can reach the port, unless O(server.tls=true) with
          verification on the hypervisor.
        type: str
        choices: [unix, tcp]
        default: unix
      socket:
        description: Path of the UNIX socket, at most 107 bytes. Defaults to C(/run/virt-backup/libvirt-<UUID of the
          domain>.sock). Where AppArmor confines QEMU, the rule of the role P(virt.backup.hypervisor#role) allows a
          domain only names in that directory that begin so, and end in C(.sock).
        type: path
      name:
        description: Host name or address to listen on. Required for V(tcp).
        type: str
      port:
        description: TCP port. Required for V(tcp), since libvirt does not choose one.
        type: int
      tls:
        description: Whether the server demands TLS, with the certificates of C(backup_tls_x509_cert_dir) in
          C(qemu.conf).
        type: bool
        default: false
  scratch_dir:
    description:
      - Directory for scratch files that are not named by themselves. The user that QEMU runs as must be able to enter
        it.
    type: path
    default: /var/lib/virt-backup/scratch
  scratch_min_free:
    description:
      - How much must be free where scratch files go for the job to begin. Either a size such as V(20G), or a percentage
        of the worst case, in which the guest overwrites all of the participating disks during the job. For several
        disks whose scratch goes to one file system it counts for all of them together.
      - V(100%) rules out that the job fills its scratch space. RV(scratch[].worst_case) says how much that is.
      - Also what a block device has to have that is given for scratch. How full a device is cannot be watched, and
        the module warns of one that is smaller than the worst case.
    type: str
    default: 10%
  scratch_low_water:
    description:
      - How much must stay free while the job runs, as a size such as V(2G). With less, the job is ended before the
        guest can meet an error, and RV(ended_early) of O(state=stopped) and the error of M(virt.backup.nbd_extract) say
        why.
      - When omitted, it is 1 GiB, or an eighth of what is free when the job begins if that is less. A guest can write
        1 GiB in the second that passes from a look at the file system to the end of the job; where storage is
        faster than that, more is needed. V(0) watches nothing.
      - The process of O(lease) watches, so there must be a lease.
    type: str
  target_dir:
    description:
      - Directory for targets that are not named by themselves. Push mode only.
    type: path
  lease:
    description:
      - For how long, in seconds, nobody may give a sign of life before the job is ended by itself. V(0) is for ever.
      - A pull job goes on until somebody ends it, and its scratch files grow until their file system is full and the
        guest stops. With a lease, a process that outlives this module (a transient unit where systemd runs) ends the
        job when its run has died.
      - The same process watches scratch space for O(scratch_low_water), and ends the job when an I/O error has paused
        the guest. A guest that an I/O error paused during the job is resumed when the job has ended.
      - Signs of life are every call of this module with the same job, and every change of a file in O(signs_of_life).
      - Only this job is ever ended, recognised by its socket or port. O(state=stopped) disarms the process.
    type: int
    default: 0
  signs_of_life:
    description:
      - Files that are written to for as long as the run lives, such as
        O(virt.backup.nbd_extract#module:status_file). They need not exist yet.
    type: list
    elements: path
    default: []
  checkpoint:
    description:
      - The checkpoint to create in the moment of the backup. When omitted, none is, and no later backup can be
        incremental from this one.
    type: dict
    suboptions:
      name:
        description: Its name. Letters, digits, C(_), C(-) and C(.), not starting with C(.). Never use a name twice.
        type: str
        required: true
      description:
        description: A text to keep with it.
        type: str
      disks:
        description: The disks that get a bitmap. When omitted, the participating ones that can carry one.
        type: list
        elements: dict
        suboptions:
          name:
            description: Target name of the disk.
            type: str
            required: true
          checkpoint:
            description: Whether changes of the disk are recorded.
            type: str
            choices: [bitmap, 'no']
            default: bitmap
  quiesce:
    description:
      - Whether the guest's file systems are frozen while the job begins, through the guest agent.
      - V(try) goes on without when that fails, and warns. V(require) fails.
      - A paused domain cannot freeze; what its guest has not written yet is not in the backup.
      - The guest is thawed right after the begin on every path, by a watchdog process even if the module is killed, and
        after two minutes in any case. When the begin takes longer, the backup does not count as frozen.
    type: str
    choices: [never, try, require]
    default: never
  reuse_external:
    description:
      - Use scratch files or targets that exist already, with the right format and exactly the size of the disk.
        libvirt then neither creates nor removes them. Applies to all disks.
    type: bool
    default: false
  fail_if_incremental_possible:
    description:
      - With O(backupmode=full), fail when a disk could be incremental from the named checkpoint, or from any when
        none is named.
    type: bool
    default: false
  cancel:
    description:
      - With O(state=stopped) and O(mode=push), end the job instead of waiting for it. Its targets hold no backup then.
    type: bool
    default: false
  timeout:
    description:
      - Seconds to wait for the end of the job with O(state=stopped).
    type: int
    default: 60
seealso:
  - module: virt.backup.nbd_extract
  - module: virt.backup.virt_checkpoint
  - module: virt.backup.virt_backup_info
  - name: Red Hat bug 1829829
    description: How the per-disk levels came to be.
    link: https://bugzilla.redhat.com/show_bug.cgi?id=1829829
"""

EXAMPLES = r"""
- name: Serve the disks of a domain as they are now, and remember the moment
  virt.backup.virt_backup:
    domain: web
    checkpoint:
      name: nightly-1
  register: job

- name: The next night, serve what changed; a disk that was added meanwhile is served whole
  virt.backup.virt_backup:
    domain: web
    incremental: nightly-1
    checkpoint:
      name: nightly-2
    quiesce: try
  register: job

- name: Two disks from two different checkpoints, a third one full, the rest not at all
  virt.backup.virt_backup:
    domain: web
    disks:
      - name: vda
        incremental: nightly-2
      - name: vdb
        incremental: nightly-1
      - name: vdc
        backupmode: full

- name: End the job when its bytes have been read
  virt.backup.virt_backup:
    domain: web
    state: stopped

- name: Have QEMU write the backup itself
  virt.backup.virt_backup:
    domain: web
    mode: push
    target_dir: /srv/push/1
    checkpoint:
      name: push-1

- name: Wait until it has
  virt.backup.virt_backup:
    domain: web
    mode: push
    target_dir: /srv/push/1
    state: stopped
    timeout: 3600
"""

RETURN = r"""
disks:
  description: The participating disks.
  returned: with O(state=started)
  type: list
  elements: dict
  contains:
    name:
      description: Target name of the disk.
      returned: success
      type: str
      sample: vda
    level:
      description: V(full) or V(incremental).
      returned: success
      type: str
      sample: incremental
    reason:
      description: Why it is at that level.
      returned: success
      type: str
      sample: 1048576 bytes changed since checkpoint 'nightly-1'
    incremental:
      description: The checkpoint that it starts from, empty when it is full.
      returned: success
      type: str
      sample: nightly-1
    exportname:
      description: Name of the NBD export, empty in push mode.
      returned: success
      type: str
      sample: vda
    exportbitmap:
      description: Name of the exported bitmap, without the prefix C(qemu:dirty-bitmap:); empty when the disk is full
        or in push mode.
      returned: success
      type: str
      sample: backup-vda
    uri:
      description: The complete NBD URI of the export, empty in push mode.
      returned: success
      type: str
      sample: nbd+unix:///vda?socket=/run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    target:
      description: Where QEMU writes the backup, empty in pull mode.
      returned: success
      type: str
      sample: ""
    virtual_size:
      description: Size of the disk in bytes.
      returned: success
      type: int
      sample: 10737418240
    dirty_bytes:
      description: Bytes that changed since the checkpoint, null when the disk is full.
      returned: success
      type: int
      sample: 1048576
left_out:
  description: The disks that do not take part, each with its reason.
  returned: with O(state=started)
  type: list
  elements: dict
  sample:
    - name: sda
      reason: the cdrom drive is empty
server:
  description: Where the job is served, null in push mode.
  returned: with O(state=started)
  type: dict
  sample:
    transport: unix
    socket: /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    tls: false
xml:
  description: The backup XML; in check mode exactly what would be sent.
  returned: with O(state=started)
  type: str
  sample: "<domainbackup mode='pull'>...</domainbackup>"
checkpoint_xml:
  description: The checkpoint XML, empty when no checkpoint is made; in check mode exactly what would be sent.
  returned: with O(state=started)
  type: str
  sample: "<domaincheckpoint>...</domaincheckpoint>"
quiesced:
  description: Whether the guest was frozen while the job began.
  returned: with O(state=started)
  type: bool
  sample: true
freeze_seconds:
  description: How long it was frozen.
  returned: with O(state=started)
  type: float
  sample: 0.412
scratch:
  description: The room that scratch has where it goes, empty in push mode and when the job was active already.
  returned: with O(state=started)
  type: list
  elements: dict
  contains:
    place:
      description: The directory, or the block device.
      returned: success
      type: str
      sample: /var/lib/virt-backup/scratch
    disks:
      description: The disks whose scratch goes there.
      returned: success
      type: list
      elements: str
      sample: [vda, vdb]
    free:
      description: How many bytes are free, or how many the device has.
      returned: success
      type: int
      sample: 107374182400
    worst_case:
      description: How many bytes these disks take there when the guest overwrites all of them during the job.
      returned: success
      type: int
      sample: 21481127936
    low_water:
      description: With how many bytes left the job is ended, V(0) when nothing is watched.
      returned: success
      type: int
      sample: 1073741824
leftovers:
  description: Scratch files of ours that were removed because an earlier job could not; the hypervisor lost power, say.
  returned: with O(state=started)
  type: list
  elements: str
  sample: []
ended:
  description: How the job ended.
  returned: with O(state=stopped)
  type: str
  sample: the job was ended
ended_early:
  description:
    - Why the job was over before anybody asked for its end, because it had been ended to protect the guest, or because
      the guest is off. Otherwise empty.
  returned: with O(state=stopped) and O(mode=pull)
  type: str
  sample: >-
    Scratch space in '/var/lib/virt-backup/scratch' ran low (1020.0 MiB left, 1024.0 MiB wanted): the job was ended to
    protect the guest.
resumed:
  description:
    - Whether the guest was resumed, which an I/O error had paused during the job. A full scratch space does that.
    - A guest that was paused before, or by somebody's wish, is left alone.
  returned: with O(state=stopped) and O(mode=pull)
  type: bool
  sample: false
rebased:
  description: The disks whose targets got O(disks[].backing_file) in place of the live disk.
  returned: with O(state=stopped) and O(mode=push)
  type: list
  elements: str
  sample: [vda]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec, pairs
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import (
    BackupRequest,
    CheckpointRequest,
    DiskRequest,
)
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.backup_start import start_backup
from ansible_collections.virt.backup.plugins.module_utils._run.backup_stop import stop_backup

MODES = [mode.value for mode in BackupMode]

# Options that the request has under the same name and of the same type.
AS_GIVEN = (
    "uri", "domain", "mode", "scratch_dir", "scratch_min_free", "lease", "quiesce", "reuse_external",
    "fail_if_incremental_possible", "cancel", "timeout",
)  # fmt: skip

DISK_SPEC = {
    "name": {"type": "str", "required": True},
    "backup": {"type": "bool", "default": True},
    "backupmode": {"type": "str", "choices": MODES},
    "incremental": {"type": "str"},
    "exportname": {"type": "str"},
    "exportbitmap": {"type": "str"},
    "type": {"type": "str", "choices": ["file", "block"], "default": "file"},
    "scratch": {"type": "path"},
    "target": {"type": "path"},
    "driver": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
    "backing_file": {"type": "str"},
    "backing_format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
}

SERVER_SPEC = {
    "transport": {"type": "str", "choices": ["unix", "tcp"], "default": "unix"},
    "socket": {"type": "path"},
    "name": {"type": "str"},
    "port": {"type": "int"},
    "tls": {"type": "bool", "default": False},
}

CHECKPOINT_SPEC = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str"},
    "disks": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "checkpoint": {"type": "str", "choices": ["bitmap", "no"], "default": "bitmap"},
        },
    },
}


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """Return the module's options."""
    return {
        **libvirt_spec(),
        **domain_spec(),
        "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
        "mode": {"type": "str", "choices": ["pull", "push"], "default": "pull"},
        "incremental": {"type": "str"},
        "backupmode": {"type": "str", "choices": MODES, "default": "auto"},
        "disks": {"type": "list", "elements": "dict", "options": DISK_SPEC},
        "server": {"type": "dict", "options": SERVER_SPEC},
        "scratch_dir": {"type": "path", "default": "/var/lib/virt-backup/scratch"},
        "scratch_min_free": {"type": "str", "default": "10%"},
        "scratch_low_water": {"type": "str"},
        "target_dir": {"type": "path"},
        "lease": {"type": "int", "default": 0},
        "signs_of_life": {"type": "list", "elements": "path", "default": []},
        "checkpoint": {"type": "dict", "options": CHECKPOINT_SPEC},
        "quiesce": {"type": "str", "choices": ["never", "try", "require"], "default": "never"},
        "reuse_external": {"type": "bool", "default": False},
        "fail_if_incremental_possible": {"type": "bool", "default": False},
        "cancel": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 60},
    }


def request_from(options: dict[str, t.Any]) -> BackupRequest:
    """Build the request from the module's options."""
    disks = options["disks"]
    checkpoint = options["checkpoint"]
    server = options["server"]
    return BackupRequest(
        **{name: options[name] for name in AS_GIVEN},
        incremental=options["incremental"] or "",
        target_dir=options["target_dir"] or "",
        scratch_low_water=options["scratch_low_water"] or "",
        signs_of_life=tuple(options["signs_of_life"]),
        backupmode=BackupMode(options["backupmode"]),
        disks=None if disks is None else tuple(_disk(disk) for disk in disks),
        server=None if server is None else _server(server),
        checkpoint=None if checkpoint is None else _checkpoint(checkpoint),
    )


def _disk(disk: dict[str, t.Any]) -> DiskRequest:
    mode = disk["backupmode"]
    texts = ("incremental", "exportname", "exportbitmap", "scratch", "target", "backing_file")
    return DiskRequest(
        name=disk["name"],
        backup=disk["backup"],
        backupmode=None if mode is None else BackupMode(mode),
        storage=disk["type"],
        driver=disk["driver"],
        backing_format=disk["backing_format"],
        **{option: disk[option] or "" for option in texts},
    )


def _server(server: dict[str, t.Any]) -> Server:
    return Server(
        transport=server["transport"],
        socket=server["socket"] or "",
        name=server["name"] or "",
        port=server["port"] or 0,
        tls=server["tls"],
    )


def _checkpoint(checkpoint: dict[str, t.Any]) -> CheckpointRequest:
    return CheckpointRequest(checkpoint["name"], checkpoint["description"] or "", pairs(checkpoint["disks"]))


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    use_case = start_backup if module.params["state"] == "started" else stop_backup
    run_module(module, lambda: use_case(request_from(module.params), check=module.check_mode))


if __name__ == "__main__":
    main()
