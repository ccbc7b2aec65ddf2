# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the use case of restore_disks on the parameters in a JSON file, without Ansible's start."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._run.restore_disks import restore
from ansible_collections.virt.backup.plugins.module_utils._run.restore_report import DiskRequest, RestoreRequest
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import PointRequest


def main() -> None:
    """Restore."""
    parameters = json.loads(Path(sys.argv[1]).read_text())
    point = PointRequest(**parameters.pop("point"))
    disks = tuple(DiskRequest(**disk) for disk in parameters.pop("disks"))
    restore(RestoreRequest(point=point, disks=disks, **parameters), check=False)


if __name__ == "__main__":
    main()
