#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_backup_info
short_description: Show what a backup of a libvirt domain would meet
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Shows a domain's disks and what each can do (be backed up, carry a checkpoint, and why not), its checkpoints with
    the dirty bytes and the usability of each disk's bitmap, and the active backup job if there is one.
  - Without O(domain) lists the domains of the hypervisor.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.attributes.info_module
  - virt.backup.libvirt
options:
  domain:
    description:
      - Name or UUID of a domain. When omitted, the domains are listed instead.
    type: str
    aliases: [guest]
  secure:
    description:
      - Whether RV(xml) holds the secrets of the domain, such as a VNC password. Use C(no_log) on the task then.
    type: bool
    default: false
  status_file:
    description:
      - The O(virt.backup.nbd_extract#module:status_file) of a copy, on the host where this module runs. What it says is
        returned as RV(progress).
    type: str
    default: ""
seealso:
  - module: virt.backup.virt_backup
  - module: virt.backup.nbd_extract
  - module: virt.backup.virt_checkpoint_info
"""

EXAMPLES = r"""
- name: See what a backup of a domain would meet
  virt.backup.virt_backup_info:
    domain: web
  register: web

- name: Show the disks that cannot be incremental, with the reason
  ansible.builtin.debug:
    msg: "{{ web.disks | rejectattr('checkpoint') | items2dict('name', 'checkpoint_reason') }}"

- name: See how far a copy is that another task started
  virt.backup.virt_backup_info:
    domain: web
    status_file: /run/virt-backup/web.json
  register: copying

- name: List the domains of a hypervisor
  virt.backup.virt_backup_info:
  register: hypervisor
"""

RETURN = r"""
domains:
  description: The domains of the hypervisor, by name.
  returned: when O(domain) is omitted
  type: list
  elements: dict
  sample:
    - name: web
      uuid: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
      state: running
      persistent: true
domain:
  description: The domain.
  returned: when O(domain) is given
  type: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
      sample: web
    uuid:
      description: Its UUID.
      returned: success
      type: str
      sample: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
    state:
      description: Its state.
      returned: success
      type: str
      sample: running
    persistent:
      description: Whether its definition outlives its QEMU.
      returned: success
      type: bool
      sample: true
    agent_channel:
      description: Whether it has a channel for the guest agent.
      returned: success
      type: bool
      sample: true
    agent_connected:
      description: Whether the guest agent is connected, so that the guest can be frozen.
      returned: success
      type: bool
      sample: true
    nvram:
      description: Path of its NVRAM, empty when it has none.
      returned: success
      type: str
      sample: ""
    tpm:
      description: The kind of its TPM, such as V(emulator) or V(passthrough), empty when it has none.
      returned: success
      type: str
      sample: ""
state_files:
  description:
    - What the domain keeps in files of its own beside its disks, and what of it a restore point cannot hold.
    - Of an emulated TPM this is what outlives the power. C(swtpm) writes it as a new file that replaces the old one, so
      whoever reads the file reads one state and never parts of two, unless the domain's XML puts the state into a
      single file (C(<source type='file'>)), which is written in place, as QEMU writes the NVRAM.
  returned: when O(domain) is given
  type: list
  elements: dict
  contains:
    part:
      description: V(nvram) or V(tpm).
      returned: success
      type: str
      sample: tpm
    name:
      description: The file's name in a restore point, empty when there is a reason.
      returned: success
      type: str
      sample: tpm2-00.permall
    path:
      description: Its path on the hypervisor, empty when there is a reason.
      returned: success
      type: str
      sample: /var/lib/libvirt/swtpm/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/tpm2/tpm2-00.permall
    reason:
      description: What cannot be held and why, empty for a file that can.
      returned: success
      type: str
      sample: ""
    required:
      description: Whether the running domain must have it, so that a backup should not begin before it is put right.
      returned: success
      type: bool
      sample: false
xml:
  description: The domain's XML as C(virsh define) takes it.
  returned: when O(domain) is given
  type: str
  sample: "<domain type='kvm'>...</domain>"
xml_is:
  description:
    - V(definition) when RV(xml) is the persistent definition, V(running) when it is the domain as it runs, because
      disks were attached or detached without changing the definition, or because there is no persistent one.
  returned: when O(domain) is given
  type: str
  sample: definition
disks:
  description: The disks in the order of the XML.
  returned: when O(domain) is given
  type: list
  elements: dict
  contains:
    name:
      description: Target name.
      returned: success
      type: str
      sample: vda
    device:
      description: Kind of device.
      returned: success
      type: str
      sample: disk
    bus:
      description: Bus of the target.
      returned: success
      type: str
      sample: virtio
    type:
      description: Kind of source, such as V(file), V(block) or V(network).
      returned: success
      type: str
      sample: file
    source:
      description: Path of the source, C(protocol://host:port/name) of a network disk, empty when there is no medium.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web.qcow2
    format:
      description: Format of the active image.
      returned: success
      type: str
      sample: qcow2
    serial:
      description: Serial number, empty when it has none.
      returned: success
      type: str
      sample: ""
    inode:
      description: Inode of a source that is a local file, else 0. Tells two files apart that take turns under one path.
      returned: success
      type: int
      sample: 131074
    virtual_size:
      description: Size that the guest sees, in bytes; 0 where libvirt cannot tell.
      returned: success
      type: int
      sample: 10737418240
    readonly:
      description: Whether the domain cannot write it.
      returned: success
      type: bool
      sample: false
    transient:
      description: Whether its changes end with the domain.
      returned: success
      type: bool
      sample: false
    backup:
      description: Whether it can be backed up.
      returned: success
      type: bool
      sample: true
    backup_reason:
      description: Why not, empty when it can.
      returned: success
      type: str
      sample: ""
    by_default:
      description: Whether it takes part when a backup names no disks.
      returned: success
      type: bool
      sample: true
    by_default_reason:
      description: Why not, empty when it does.
      returned: success
      type: str
      sample: ""
    checkpoint:
      description: Whether it can carry a dirty bitmap, without which every backup of it is full.
      returned: success
      type: bool
      sample: true
    checkpoint_reason:
      description: Why not, empty when it can.
      returned: success
      type: str
      sample: ""
checkpoints:
  description: The checkpoints as M(virt.backup.virt_checkpoint_info) returns them with
    O(virt.backup.virt_checkpoint_info#module:size=true), without their XML. Of a domain that is off, without sizes.
  returned: when O(domain) is given
  type: list
  elements: dict
  sample: []
job:
  description: The active backup job, null when there is none.
  returned: when O(domain) is given
  type: dict
  contains:
    mode:
      description: V(pull) or V(push).
      returned: success
      type: str
      sample: pull
    server:
      description: Where it is served, null in push mode.
      returned: success
      type: dict
      sample:
        transport: unix
        socket: /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
        tls: false
    whose:
      description: What the job can be recognised by, in words.
      returned: success
      type: str
      sample: the pull job that serves at /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    disks:
      description: The participating disks with level, base, export and path of scratch file or target.
      returned: success
      type: list
      elements: dict
      sample:
        - name: vda
          level: incremental
          incremental: nightly-1
          exportname: vda
          exportbitmap: backup-vda
          path: /var/lib/virt-backup/scratch/vda.qcow2
versions:
  description: Versions of the daemon, of QEMU and of the library that the Python binding uses.
  returned: success
  type: dict
  sample:
    libvirt: 9.0.0
    qemu: 7.2.22
    libvirt_python: 9.0.0
progress:
  description: How far the copy is that writes O(status_file), null when that file does not exist (yet).
  returned: when O(status_file) is given
  type: dict
  contains:
    updated:
      description: The UTC time when this was written. It is written each second while a copy runs.
      returned: success
      type: str
      sample: "2026-11-23T02:15:07+00:00"
    images:
      description:
        - For each image its C(dest), C(state) (V(copying), V(done), V(unchanged) or V(failed)), C(bytes_done) (the
          place on the disk up to which all is done), C(bytes_total) (the disk's size), C(bytes_copied) (what was stored
          as data) and C(rate) (bytes copied per second, over the last ten seconds).
      returned: success
      type: list
      elements: dict
      sample:
        - dest: /backup/web/tuesday/vda.qcow2
          state: copying
          bytes_done: 4294967296
          bytes_total: 10737418240
          bytes_copied: 104857600
          rate: 52428800
    total:
      description: The sums over all images.
      returned: success
      type: dict
      sample:
        bytes_done: 4294967296
        bytes_total: 10737418240
        bytes_copied: 104857600
        rate: 52428800
features:
  description: What the hypervisor announces.
  returned: success
  type: dict
  contains:
    incremental_backup:
      description: Whether libvirt and QEMU together support incremental backups.
      returned: success
      type: bool
      sample: true
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.info import backup_info


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(
        argument_spec={
            **libvirt_spec(),
            "domain": {"type": "str", "aliases": ["guest"]},
            "secure": {"type": "bool", "default": False},
            "status_file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    run_module(
        module,
        lambda: backup_info(
            options["uri"], options["domain"] or "", secure=options["secure"], status_file=options["status_file"]
        ),
    )


if __name__ == "__main__":
    main()
