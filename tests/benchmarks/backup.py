# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Back up a running domain as the role does, without Ansible around it: backup.py DOMAIN FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._run.backup_start import start_backup
from ansible_collections.virt.backup.plugins.module_utils._run.backup_stop import stop_backup
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest


def main() -> None:
    """Back up all disks."""
    domain, folder = sys.argv[1], Path(sys.argv[2])
    server = Server(socket=f"/run/virt-backup/{domain}.sock")
    request = BackupRequest("qemu:///system", domain, server=server, scratch_dir="/var/lib/virt-backup/scratch")
    disks = start_backup(request, check=False).result["disks"]
    try:
        images = tuple(ImageRequest(disk["uri"], str(folder / f"{disk['name']}.qcow2")) for disk in disks)
        extract(ExtractRequest(images=images, checksum="none"), check=False)
    finally:
        stop_backup(request, check=False)


if __name__ == "__main__":
    main()
