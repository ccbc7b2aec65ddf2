#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nbd_extract
short_description: Copy NBD exports into image files, whole or only what changed
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Reads disks from an NBD server, such as the one that M(virt.backup.virt_backup) started, and writes one image file
    for each of them.
  - Without O(images[].bitmap) the image holds the whole disk. With it, the image holds what the dirty bitmap marks
    and nothing else,
    on top of O(images[].backing_file).
  - Works against every NBD server, not only libvirt's.
  - All images of a call are copied at the same time.
  - An image is written beside its O(images[].dest) under a temporary name, synced, and renamed when all images of the
    call are complete,
    so under the final name there is never a part of an image.
  - Of an increment, a random sample of what the bitmap calls clean is compared with O(images[].backing_file), so that a
    bitmap that missed changes, or another disk under the same name, does not go unnoticed. O(clean_samples) says more.
  - Beside each image a record is kept, C(vda.json) for C(vda.qcow2), which tells what the image was read from and its
    digest, and the list of digests that this one is made of, C(vda.digests), by which a single flipped bit can be
    found.
extends_documentation_fragment:
  - virt.backup.attributes
attributes:
  check_mode:
    support: full
    details:
      - Connects to the servers and asks what would be read. Reads and writes nothing.
  diff_mode:
    support: full
    details:
      - Shows the records of the images before and after.
  idempotent:
    support: full
    details:
      - An existing O(images[].dest) is unchanged if its record says the same O(images[].source_id), export and kind.
        Any other existing O(images[].dest) is an error without O(force).
  platform:
    platforms: posix
requirements:
  - libnbd with its Python bindings, 1.14 or newer (C(python3-libnbd))
  - C(qemu-img) (only with O(images[].backing_file) or O(encryption))
  - C(qemu-nbd) (only with O(encryption), or with O(images[].bitmap) unless O(clean_samples=0))
  - C(libzstd.so.1) (only with O(compression=zstd))
options:
  images:
    description:
      - The images to make.
    type: list
    elements: dict
    required: true
    suboptions:
      uri:
        description:
          - The NBD URI of the export, with the schemes V(nbd), V(nbds), V(nbd+unix), V(nbds+unix), V(nbd+vsock) and
            V(nbds+vsock).
          - RV(virt.backup.virt_backup#module:disks[].uri) is such a URI.
        type: str
        required: true
      dest:
        description:
          - The absolute path of the image. Its directory must exist.
          - Or a block device, or the NBD URI of an export that can be written. These are overwritten in place, need
            O(images[].format=raw) and, unless their O(images[].record) says that they hold just this image, O(force).
          - What is written in place can't be atomic. When the call fails, its content is undefined, and the error
            says so.
          - A block device is opened exclusively; one that is mounted or otherwise in use is refused, and so is one
            that is smaller than the disk. What lies beyond the end of the disk stays as it is.
        type: str
        required: true
      format:
        description:
          - The format of the image. Both are sparse.
        type: str
        choices: [qcow2, raw]
        default: qcow2
      bitmap:
        description:
          - The bare name of the dirty bitmap that the server exports, as in
            RV(virt.backup.virt_backup#module:disks[].exportbitmap).
          - The image then holds the dirty ranges, rounded out to clusters of O(images[].cluster_size). Ranges
            that became zero or were discarded are stored as zero.
          - It is an error if the server does not offer that bitmap.
          - Requires O(images[].backing_file) and O(images[].format=qcow2).
        type: str
        default: ""
      backing_file:
        description:
          - The image that holds what did not change. It must exist.
          - It is stored in the image as it is given here. A relative path counts from the directory of
            O(images[].dest).
        type: str
        default: ""
      backing_format:
        description:
          - The format of O(images[].backing_file).
        type: str
        choices: [qcow2, raw]
        default: qcow2
      source_id:
        description:
          - A name for the moment that is read, such as the name of the checkpoint that was made with the backup.
          - It is recorded beside the image. Only with it can a second run find that the image is already there.
        type: str
        default: ""
      record:
        description:
          - The absolute path of the record of a O(images[].dest) that is a block device or an NBD URI, which has no
            place beside it. The directory must exist.
          - Only with it, and with O(images[].source_id), can a second run find that the image is already there. It
            tells what was written last by this module, not whether somebody else wrote since.
          - The record of a file is always beside it, and it is an error to give this for one.
        type: str
        default: ""
      cluster_size:
        description:
          - The size in bytes of the clusters of a qcow2 image, V(65536), V(131072), V(262144), V(524288) or V(1048576).
          - Larger clusters need less metadata, which helps with very large disks, and make increments larger. With
            O(compression) they compress better, and a guest that later runs on the image reads more than it asks for.
          - Images of one chain may differ in it. Encrypted images have clusters of 64 KiB.
        type: int
        default: 65536
  connections:
    description:
      - The most connections with which one image is read. One or two more describe the disk.
      - Many images in one call get fewer each, so that there are never more than 64 connections.
      - A server that does not allow several is read with one.
    type: int
    default: 4
  compression:
    description:
      - How the data in qcow2 images is compressed.
      - V(zstd) needs QEMU 5.1 or newer to read the image.
      - Only V(none) goes together with O(encryption), as QEMU stores compressed data unencrypted.
    type: str
    choices: [none, zstd, zlib]
    default: none
  encryption:
    description:
      - Encrypts the images at rest, by LUKS inside of qcow2. QEMU writes them, through C(qemu-nbd).
      - Exactly one of O(encryption.secret_file) and O(encryption.secret) gives the secret. It reaches QEMU's programs
        in memory that only they share, and is in no argument list, environment, result or record.
      - All images of a chain have the same secret. An increment on top of an image that is not encrypted, or that
        another secret opens, is an error.
      - Which parts of the disk are in an image and which are zero, and the size of the disk, can be seen without
        the secret.
    type: dict
    suboptions:
      secret_file:
        description:
          - The absolute path of a file on the host that runs the module. It must not be open to every user.
          - The secret is its whole content, byte by byte, with a newline at the end if there is one, just as QEMU's own
            programs read it.
        type: str
        default: ""
      secret:
        description:
          - The secret itself, text in UTF-8.
        type: str
        default: ""
      iter_time:
        description:
          - How long one guess at the secret takes on this host, in milliseconds of CPU time. Opening each image of a
            chain takes as long.
          - A secret of 32 random bytes or more needs no such protection, and V(10) then keeps long chains quick to
            open.
        type: int
        default: 2000
  direct:
    description:
      - Whether the images are written past the page cache (C(O_DIRECT)), so that the copy does not drive out what the
        host keeps there for others.
      - For files and block devices. The file system must allow it; some, such as ZFS, tmpfs and Btrfs with
        checksums, may allow it and cache all the same.
      - Goes together neither with O(encryption), as QEMU writes these images, nor with an NBD URI as O(images[].dest).
      - With O(compression), compressed data passes through the page cache, which is told to let go of it on the way.
      - What the NBD server reads is its own matter. For libvirt's domains, the C(cache) of the disk decides.
    type: bool
    default: false
  checksum:
    description:
      - Whether digests of the disk's content are made on the way. V(none) leaves no list of digests beside the image,
        and neither does O(encryption), because digests of plain clusters tell too much of them.
    type: str
    choices: [sha256, none]
    default: sha256
  rate_limit:
    description:
      - The most bytes per second that the whole call reads. V(0) is no limit.
    type: int
    default: 0
  timeout:
    description:
      - The longest time in seconds during which a server may send nothing while it owes an answer.
    type: int
    default: 60
  clean_samples:
    description:
      - How many clean ranges of 64 KiB of each increment are read from the server, and from the chain of images below
        the increment, to be compared. They are drawn at random among those that the chain holds data for, and as many
        among all others.
      - When one differs, or the chain can't be read, no image of the call is made, and RV(mismatches) names what is
        wrong. The disk was changed without its bitmap, it is another disk, or the image below is damaged. A full image
        is right in any case.
      - Of wrong data that makes up a part C(f) of what is clean, C(n) samples miss all with a chance of C((1-f)^n). The
        default finds one part in ten but for one time in 850, and one part in a hundred about every second time.
      - V(0) compares nothing. An encrypted chain takes O(encryption.iter_time) for each of its images to be opened.
    type: int
    default: 64
  status_file:
    description:
      - The absolute path of a JSON file that tells how far the copies are. Replaced at most once a second, and at the
        end.
      - M(virt.backup.virt_backup_info) reads it, and describes it in RV(virt.backup.virt_backup_info#module:progress).
      - Its key C(updated) is a UTC time and serves as a sign of life.
      - Its directory must exist. That it can't be written later on does not end the copy.
    type: str
    default: ""
  force:
    description:
      - Whether to extract again, and to replace an existing O(images[].dest). It is replaced when the new image is
        complete.
    type: bool
    default: false
  owner:
    description:
      - The user, by name or number, who owns the images and records.
    type: str
    default: ""
  group:
    description:
      - The group, by name or number, of the images and records.
    type: str
    default: ""
  mode:
    description:
      - The mode of the images and records, as an octal string.
    type: raw
    default: "0600"
seealso:
  - module: virt.backup.virt_backup
"""

EXAMPLES = r"""
- name: Copy a whole disk
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: /backup/web/monday/vda.qcow2
        source_id: monday
    compression: zstd

- name: Copy what changed since then, on top of it
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: /backup/web/tuesday/vda.qcow2
        bitmap: backup-vda
        backing_file: ../monday/vda.qcow2
        source_id: tuesday
    status_file: /run/virt-backup/web.json

- name: Copy a whole disk into an encrypted image
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: /backup/web/thursday/vda.qcow2
        source_id: thursday
    encryption:
      secret_file: /etc/virt-backup/secret

- name: Copy all disks of a running job at the same time, as the role does
  virt.backup.nbd_extract:
    images: "{{ disks | virt.backup.extract_images('wednesday') }}"
    rate_limit: 104857600

- name: Copy a whole disk on a host that needs its page cache for others
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: /backup/web/friday/vda.qcow2
        source_id: friday
    direct: true

- name: Overwrite a logical volume with a disk
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: /dev/vg/web
        format: raw
    force: true

- name: Overwrite an export of another machine, whose certificate is verified
  virt.backup.nbd_extract:
    images:
      - uri: nbd+unix:///vda?socket=/run/virt-backup/web.sock
        dest: nbds://spare.example.org/web?tls-certificates=/etc/pki/virt-backup
        format: raw
        source_id: saturday
        record: /var/lib/virt-backup/spare-web.json
    force: true
"""

RETURN = r"""
images:
  description:
    - What was made or was there already, in the order of O(images).
    - In check mode the numbers are what would be read at most, and what can't be known is C(0) or empty.
  returned: success
  type: list
  elements: dict
  contains:
    dest:
      description: The path of the image.
      type: str
      returned: success
      sample: /backup/web/tuesday/vda.qcow2
    changed:
      description: Whether this image was made, or its owner, group or mode changed.
      type: bool
      returned: success
      sample: true
    level:
      description: Whether the image is V(full) or V(incremental).
      type: str
      returned: success
      sample: incremental
    format:
      description: The format of the image.
      type: str
      returned: success
      sample: qcow2
    encryption:
      description: V(luks) with O(encryption), else V(none).
      type: str
      returned: success
      sample: none
    atomic:
      description:
        - Whether the image got its name only when it was complete.
        - It is V(false) for a block device or an NBD export, whose old content is gone from the first write on.
      type: bool
      returned: success
      sample: true
    durable:
      description:
        - Whether the image outlives a loss of power from now on, as far as its file system, device or server says.
        - It is V(false), with a warning, for an NBD export whose server has no flush and so promises nothing.
      type: bool
      returned: success
      sample: true
    source_id:
      description: The O(images[].source_id) of the image.
      type: str
      returned: success
      sample: tuesday
    size:
      description: The size of the disk in bytes.
      type: int
      returned: success
      sample: 10737418240
    bytes_copied:
      description: How many bytes of the disk the image holds as data.
      type: int
      returned: success
      sample: 209715200
    bytes_zeroed:
      description:
        - How many bytes of the disk were found to be zero.
        - An incremental image stores them as zero, a full one leaves them out.
      type: int
      returned: success
      sample: 1048576
    bytes_stored:
      description: How many bytes the file takes on its file system, C(0) for what is written in place.
      type: int
      returned: success
      sample: 209981440
    extents:
      description: How many separate ranges the server named, after rounding to clusters.
      type: int
      returned: success
      sample: 1915
    seconds:
      description: The time from connecting to the end of the last sync.
      type: float
      returned: success
      sample: 1.204
    clean_compared:
      description: How many clean ranges of 64 KiB were compared with the chain below, and were the same.
      type: int
      returned: success
      sample: 128
    digest:
      description: The digest of the content, empty with O(checksum=none).
      type: str
      returned: success
      sample: "sha256:6dcd4ce23d88e2ee9568ba546c007c63d9131c1b4c5f5c4f5c4f5c4f5c4f5c4f"
mismatches:
  description:
    - The increments that must not be made, because the disk is not what its bitmap and the image below it say.
    - M(virt.backup.restore_point) takes them, and makes the next image of these disks full.
  returned: when a comparison found something (see O(clean_samples)), and the module failed because of it
  type: list
  elements: dict
  contains:
    dest:
      description: The image that was not made.
      type: str
      returned: always
      sample: /backup/web/tuesday/vda.qcow2
    export:
      description: The name of the export that was read.
      type: str
      returned: always
      sample: vda
    backing_file:
      description: The path of the image below.
      type: str
      returned: always
      sample: /backup/web/monday/vda.qcow2
    problem:
      description: What is wrong with it as a base.
      type: str
      returned: always
      sample: 12 of 64 clean ranges that were compared differ from it, the first one at offset 1048576
    offset:
      description: Where the first range that differs begins, in bytes of the disk. C(0) if the chain can't be read.
      type: int
      returned: always
      sample: 1048576
    length:
      description: How long that range is. C(0) if the chain can't be read.
      type: int
      returned: always
      sample: 65536
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import LUKS, NONE
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest


def argument_spec() -> dict[str, t.Any]:
    """Return the parameters, as documented above."""
    image = {
        "uri": {"type": "str", "required": True},
        "dest": {"type": "str", "required": True},
        "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
        "bitmap": {"type": "str", "default": ""},
        "backing_file": {"type": "str", "default": ""},
        "backing_format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
        "source_id": {"type": "str", "default": ""},
        "record": {"type": "str", "default": ""},
        "cluster_size": {"type": "int", "default": 65536},
    }
    encryption = {
        "secret_file": {"type": "str", "default": ""},
        "secret": {"type": "str", "default": "", "no_log": True},
        "iter_time": {"type": "int", "default": 2000},
    }
    return {
        "images": {"type": "list", "elements": "dict", "required": True, "options": image},
        "connections": {"type": "int", "default": 4},
        "compression": {"type": "str", "choices": ["none", "zstd", "zlib"], "default": "none"},
        "encryption": {"type": "dict", "options": encryption},
        "direct": {"type": "bool", "default": False},
        "checksum": {"type": "str", "choices": ["sha256", "none"], "default": "sha256"},
        "rate_limit": {"type": "int", "default": 0},
        "timeout": {"type": "int", "default": 60},
        "clean_samples": {"type": "int", "default": 64},
        "status_file": {"type": "str", "default": ""},
        "force": {"type": "bool", "default": False},
        "owner": {"type": "str", "default": ""},
        "group": {"type": "str", "default": ""},
        "mode": {"type": "raw", "default": "0600"},
    }


def main() -> t.NoReturn:
    """Run the module."""
    respawn_if_missing("nbd", "python3-libnbd")
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = dict(module.params)
    given = params.pop("encryption")
    encryption = EncryptionRequest(**given) if given else None
    kind = LUKS if encryption else NONE
    images = tuple(ImageRequest(**image, encryption=kind) for image in params.pop("images"))
    request = ExtractRequest(images=images, encryption=encryption, **params)
    run_module(module, lambda: extract(request, check=module.check_mode))


if __name__ == "__main__":
    main()
