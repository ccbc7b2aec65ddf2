#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_restore
short_description: Define a libvirt domain again from a restore point
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Defines a domain from the XML that a restore point holds, and starts it if asked; as itself (the same name, UUID,
    MAC addresses, NVRAM and TPM), or as a copy under another name beside the original.
  - The content of its disks is put in place before, by M(virt.backup.restore_disks) or otherwise. This module is told
    where each disk is now. Run it in check mode first, and nothing is restored in vain.
  - Everything is compared with the host first - machine type, processor, emulator, firmware, networks, bridges,
    storage pools, host devices, the names, UUIDs and paths that other domains have. What does not fit is told in one
    error that names all of it, and nothing is changed.
  - When a later step fails, what was done is taken back - files, definition, a started domain. An NVRAM or TPM state
    that was there before is there again.
  - Runs on the hypervisor.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
attributes:
  check_mode:
    support: partial
    details:
      - What libvirt itself would say about the definition is only known when it is defined. Disks in O(disks) need not
        be there yet.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - The metadata of the domain holds a mark of the restore. The same restore again is unchanged, whatever the
        machine has written since, and also when its definition was changed by others, about which it warns; with
        O(overwrite=true) such a definition is replaced.
options:
  restore_point:
    description:
      - Path of the restore point's directory, as M(virt.backup.restore_point_info) returns it. Its definition and state
        files are compared with their digests.
      - One of O(restore_point), O(repository) and O(xml) is required.
    type: path
  repository:
    description:
      - Absolute path of the repository on this host, to look for the restore point there.
    type: path
  domain_uuid:
    description:
      - With O(repository), UUID of the domain. Exactly one of O(domain_uuid) and O(domain_name) is required then.
    type: str
    default: ""
  domain_name:
    description:
      - With O(repository), name of the domain, as its newest restore point has it.
    type: str
    default: ""
  before:
    description:
      - With O(repository), a time in ISO 8601, in UTC unless it says otherwise. The restore point is the newest whose
        run began before it.
    type: str
    default: ""
  xml:
    description:
      - The content of C(domain.xml), where the repository is on another host.
    type: str
  state_files:
    description:
      - With O(xml), the files of the restore point that hold the NVRAM and the state of an emulated TPM, as they were
        copied to this host.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name in the restore point, V(nvram), V(tpm.state) or like V(tpm2-00.permall).
        type: str
        required: true
      path:
        description: Where the file is on this host.
        type: path
        required: true
  id:
    description:
      - With O(repository), id of the restore point, or V(latest), which it is without O(id) and O(before), too.
      - With O(xml), the id of the restore point, for the mark in the domain's metadata.
    type: str
    default: ""
  as:
    description:
      - Name for a copy. Without it the domain comes back as itself.
      - The copy gets a UUID and MAC addresses of its own, which follow from the original, the host and the name, so
        that the same copy is the same domain each time. Its NVRAM and TPM state are copied to paths of their own.
        Ports, sockets and log files that two domains can't share are changed, as RV(notes) tells.
      - Disks that are not in O(disks), and devices of the host, are the original's, and count as missing.
    type: str
    default: ""
  disks:
    description:
      - Where the disks are whose content was restored.
      - A disk that is not listed stays where the definition has it, if that is there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Target name of the disk, such as V(vda).
        type: str
        required: true
      source:
        description:
          - An absolute path; with O(disks[].type=volume) V(pool/volume); with O(disks[].type=network) a URI like
            V(nbd://host:10809/vda) or V(nbd+unix:///vda?socket=/run/vda.sock).
        type: str
        required: true
      type:
        description: What O(disks[].source) is.
        type: str
        choices: [file, block, volume, network]
        default: file
      format:
        description: Format of the image.
        type: str
        choices: [qcow2, raw]
        default: qcow2
      moves_to:
        description:
          - Where M(virt.backup.virt_disk_copy) is going to move the disk while the domain runs. There, too, the domain
            is unchanged.
        type: str
        default: ""
  missing_disks:
    description:
      - What happens with a disk that is neither in O(disks) nor where the definition has it. V(remove) leaves it out of
        the domain, with a warning.
      - A medium that is missing is always taken out of its CD or floppy drive, with a warning.
    type: str
    choices: [fail, remove]
    default: fail
  networks:
    description:
      - Networks of libvirt that have another name on this host, old name to new name.
    type: dict
    default: {}
  bridges:
    description:
      - Bridges of the host, old name to new name.
    type: dict
    default: {}
  interfaces:
    description:
      - Interfaces of the host that network cards are directly on (macvtap), old name to new name.
    type: dict
    default: {}
  network:
    description:
      - Moves every network card to this network of libvirt, whatever it was on. An isolated network keeps a copy away
        from the original.
    type: str
    default: ""
  network_cards:
    description:
      - V(disconnect) leaves the cards without a link, as if their cables were pulled. V(remove) leaves them out.
    type: str
    choices: [keep, disconnect, remove]
    default: keep
  missing_networks:
    description:
      - What happens with a network card whose network, bridge or interface this host does not have. V(remove) leaves it
        out of the domain, with a warning.
    type: str
    choices: [fail, remove]
    default: fail
  pools:
    description:
      - Storage pools of disks and media that are volumes, old name to new name.
    type: dict
    default: {}
  missing_devices:
    description:
      - What happens with a device that this host does not have - a passed-through PCI or USB device, a shared
        directory, the host's TPM. V(remove) leaves it out of the domain, with a warning.
    type: str
    choices: [fail, remove]
    default: fail
  machine:
    description:
      - Machine type, in the place of the stored one, such as V(q35) or V(pc-q35-7.2).
      - Another one than the guest knows can change its devices; Windows may want to be activated again.
    type: str
    default: ""
  cpu:
    description:
      - Processor model in the place of the stored one; V(default) is the one that QEMU has without any.
    type: str
    choices: [keep, host-model, host-passthrough, maximum, default]
    default: keep
  virt_type:
    description:
      - Type of virtualisation in the place of the stored one. V(qemu) emulates, and runs on a host without KVM.
    type: str
    choices: [kvm, qemu]
  loader:
    description:
      - Path of the firmware in the place of the stored one. One that the stored definition lets libvirt choose is
        chosen anew where the old path is not there.
    type: str
    default: ""
  state:
    description:
      - V(restored) defines the domain and starts nothing. V(paused) starts it with its processors stopped, V(running)
        lets them run.
      - V(absent) ends and removes the copy that O(as) names, with its NVRAM and TPM, if it bears the mark of a restore.
        Its disks stay. An original is never removed. Of the NVRAM of a O(transient) copy that has ended by itself, this
        removes what is left.
      - A domain that an error of a disk has paused goes on with V(running), if the error is gone.
    type: str
    choices: [restored, paused, running, absent]
    default: restored
  error_policy:
    description:
      - What the domain that is started does when a read or write of one of O(disks) fails. V(stop) lets it stand still
        until it is resumed, which tries again, so that its guest hears of no error. It holds as long as the domain
        runs; the definition, and with it the next start, is as it was stored.
    type: str
    choices: [keep, stop]
    default: keep
  again:
    description:
      - Restore the definition, NVRAM and TPM state of a domain that was restored already. It needs O(overwrite), too.
    type: bool
    default: false
  overwrite:
    description:
      - Replace the definition of a domain that has the same UUID, is off and is defined otherwise, and an NVRAM and TPM
        state that are there and differ. Never one of a running domain, nor one of another domain.
    type: bool
    default: false
  isolated:
    description:
      - Cut every tie of a copy to the world outside of it, for a drill - its network cards, unless O(network) takes
        them, passed-through devices, shared directories and memory, disks that are not in O(disks) and could be written
        to, connections and logs of serial ports and channels, what the definition adds to QEMU's command line. Displays
        listen on the host alone. RV(notes) tells what was cut.
      - O(network) must be a network without a forward mode then, on which no other domain of the host is.
      - Needs O(as).
    type: bool
    default: false
  transient:
    description:
      - Let libvirt forget the copy when it ends, however it ends. Needs O(as), and O(state=paused) or
        O(state=running).
    type: bool
    default: false
  memory_limit:
    description:
      - The most memory that all isolated copies of this host may have together, such as V(16G). Empty is no limit.
      - Needs O(isolated=true).
    type: str
    default: ""
  memory_wait:
    description:
      - Seconds to wait until other copies have left enough of O(memory_limit).
    type: int
    default: 0
notes:
  - The generation id of a machine that has one (C(genid)) is made anew, as its guest is to know that it came back.
  - Checkpoints that libvirt has of the domain stay. A restored disk has none of their bitmaps, and is another file than
    its last image was taken of, so that its next backup is full; the other disks go on with increments.
  - Whether a domain starts with its host is no part of its definition, and is not restored.
seealso:
  - module: virt.backup.restore_disks
  - module: virt.backup.restore_point_info
"""

EXAMPLES = r"""
- name: Bring a machine back as itself, on this or on another hypervisor
  virt.backup.virt_restore:
    restore_point: /srv/backup/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a
    disks:
      - name: vda
        source: /var/lib/libvirt/images/web.qcow2
    networks:
      lan: default
    state: running

- name: Bring up a copy of yesterday beside the original, without its network
  virt.backup.virt_restore:
    repository: /srv/backup
    domain_name: web
    before: "2026-11-23T00:00:00Z"
    as: web-drill
    disks:
      - name: vda
        source: /var/lib/libvirt/images/web-drill.qcow2
    missing_disks: remove
    missing_devices: remove
    isolated: true
    transient: true
    state: running

- name: Where the repository is on another host
  virt.backup.virt_restore:
    xml: "{{ definition.content | b64decode }}"
    state_files:
      - name: nvram
        path: /run/virt-backup/nvram
    id: 20261123T021500Z-7f3a
    disks:
      - name: vda
        type: volume
        source: default/web.qcow2
"""

RETURN = r"""
domain:
  description: The domain. In check mode, as it would be.
  returned: success
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
      description: Its state, in libvirt's words.
      returned: success
      type: str
      sample: running
restore_point:
  description: The id of the restore point, empty where nobody said it.
  returned: success
  type: str
  sample: 20261123T021500Z-7f3a
reason:
  description: Why it was restored, or why there was nothing to do.
  returned: success
  type: str
  sample: the domain was not defined
restored_before:
  description:
    - Whether this very restore was made before. RV(disks) then tells where its disks are now.
  returned: success
  type: bool
  sample: false
notes:
  description: What was adapted to this host, or for a copy, a sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - the emulator /usr/libexec/qemu-kvm is not on this host, /usr/bin/qemu-system-x86_64 is used
waited_seconds:
  description: How long it waited for O(memory_limit).
  returned: success
  type: float
  sample: 0.0
xml:
  description: The definition, without passwords; of a domain that was restored now, as it was handed to libvirt.
  returned: success
  type: str
  sample: "<domain type='kvm'>...</domain>"
disks:
  description: The disks and drives of the domain.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Target name.
      returned: success
      type: str
      sample: vda
    device:
      description: What the guest sees, C(disk), C(cdrom) or C(floppy).
      returned: success
      type: str
      sample: disk
    type:
      description: Type of the source.
      returned: success
      type: str
      sample: file
    source:
      description: Where its content is, empty for a drive without a medium.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web.qcow2
    format:
      description: Format of the image.
      returned: success
      type: str
      sample: qcow2
    restored:
      description: Whether it is one of O(disks).
      returned: success
      type: bool
      sample: true
macs:
  description: MAC addresses of its network cards.
  returned: success
  type: list
  elements: str
  sample: ["52:54:00:6b:3c:58"]
nvram:
  description: Path of its NVRAM, empty without one.
  returned: success
  type: str
  sample: /var/lib/libvirt/qemu/nvram/web_VARS.fd
tpm:
  description: Directory or file of the state of its emulated TPM, empty without one.
  returned: success
  type: str
  sample: ""
problems:
  description: What is in the way, a sentence each.
  returned: when the domain can't be restored on this host
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import DomainRequest
from ansible_collections.virt.backup.plugins.module_utils._run.domain_restore import restore_domain

FILE_SPEC = {"name": {"type": "str", "required": True}, "path": {"type": "path", "required": True}}
DISK_SPEC = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "type": {"type": "str", "choices": ["file", "block", "volume", "network"], "default": "file"},
    "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
    "moves_to": {"type": "str", "default": ""},
}
MISSING = {"type": "str", "choices": ["fail", "remove"], "default": "fail"}


def request_from(options: dict[str, t.Any]) -> DomainRequest:
    """Build the request from the module's options."""
    given = {name: "" if value is None else value for name, value in options.items()}
    same: dict[str, t.Any] = {
        name: {str(old): str(new) for old, new in value.items()} if isinstance(value, dict) else value
        for name, value in given.items()
        if name not in ("as", "disks", "state_files")
    }
    return DomainRequest(
        **same,
        new_name=options["as"],
        disks=tuple(NewDisk(**disk) for disk in options["disks"]),
        state_files=tuple((file["name"], file["path"]) for file in options["state_files"]),
    )


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(
        argument_spec={
            **libvirt_spec(),
            "restore_point": {"type": "path"},
            "repository": {"type": "path"},
            "domain_uuid": {"type": "str", "default": ""},
            "domain_name": {"type": "str", "default": ""},
            "before": {"type": "str", "default": ""},
            "xml": {"type": "str"},
            "state_files": {"type": "list", "elements": "dict", "options": FILE_SPEC, "default": []},
            "id": {"type": "str", "default": ""},
            "as": {"type": "str", "default": ""},
            "disks": {"type": "list", "elements": "dict", "options": DISK_SPEC, "default": []},
            "networks": {"type": "dict", "default": {}},
            "bridges": {"type": "dict", "default": {}},
            "interfaces": {"type": "dict", "default": {}},
            "pools": {"type": "dict", "default": {}},
            "network": {"type": "str", "default": ""},
            "network_cards": {"type": "str", "choices": ["keep", "disconnect", "remove"], "default": "keep"},
            "missing_disks": MISSING,
            "missing_networks": MISSING,
            "missing_devices": MISSING,
            "machine": {"type": "str", "default": ""},
            "cpu": {
                "type": "str",
                "choices": ["keep", "host-model", "host-passthrough", "maximum", "default"],
                "default": "keep",
            },
            "virt_type": {"type": "str", "choices": ["kvm", "qemu"]},
            "loader": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["restored", "paused", "running", "absent"], "default": "restored"},
            "error_policy": {"type": "str", "choices": ["keep", "stop"], "default": "keep"},
            "overwrite": {"type": "bool", "default": False},
            "isolated": {"type": "bool", "default": False},
            "transient": {"type": "bool", "default": False},
            "memory_limit": {"type": "str", "default": ""},
            "memory_wait": {"type": "int", "default": 0},
            "again": {"type": "bool", "default": False},
        },
        required_one_of=[("restore_point", "repository", "xml")],
        mutually_exclusive=[("restore_point", "repository", "xml")],
        supports_check_mode=True,
    )
    run_module(module, lambda: restore_domain(request_from(module.params), check=module.check_mode))


if __name__ == "__main__":
    main()
