# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the use case of nbd_extract on the parameters in a JSON file: what is measured, without Ansible's start."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest


def main() -> None:
    """Extract."""
    parameters = json.loads(Path(sys.argv[1]).read_text())
    images = tuple(ImageRequest(**image) for image in parameters.pop("images"))
    extract(ExtractRequest(images=images, **parameters), check=False)


if __name__ == "__main__":
    main()
