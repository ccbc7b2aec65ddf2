# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the README shows is run as it stands there: its playbook protects, its five lines restore."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import typing as t

import pytest
from demo import backups
from demo.readme import DOMAIN, IMAGES, REPOSITORY, block, restore_lines
from lab.disks import KIB, MIB, Disk, create_image
from lab.domains import Domains
from lab.tools import same_content


@pytest.fixture
def image() -> t.Iterator[pathlib.Path]:
    """Return the image that the README restores to; what the README's playbook makes is removed as well."""
    path = IMAGES / "web.qcow2"
    create_image(Disk(size=16 * MIB), path)
    backups.prepare()
    yield path
    path.unlink()
    for made in (REPOSITORY, backups.FOLDER):
        shutil.rmtree(made)


def test_the_restore_is_five_lines() -> None:
    assert len(block("restore")) == 5


def test_the_playbook_protects_and_the_five_lines_restore(domains: Domains, image: pathlib.Path) -> None:
    domain = domains(Disk("vda", image=image), name=DOMAIN)
    moments = []
    for number in (1, 2):
        domain.write("vda", number * MIB, 256 * KIB, pattern=number)
        frozen = domain.frozen_copy("vda", name=str(number))
        moments.append((backups.back_up(), frozen))
    assert [backups.rows(point)[0].level for point, _frozen in moments] == ["full", "incremental"]
    for point, frozen in moments:
        subprocess.run(["sh", "-e"], input="\n".join(restore_lines(point)), check=True, text=True)
        assert domain.state == "running"
        assert same_content(image, frozen) == ""
