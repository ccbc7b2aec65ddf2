# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the tests on real libvirt. They run inside the lab: ``tests/lab/enter -- build/venv/bin/pytest ...``."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import typing as t
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from integration import own_process
from lab import modules
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.guest import Guest
from lab.tools import virsh_names


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{own_process.NAME}: the test's body runs in a forked child")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test's body in a child where its file asks for that."""
    if pyfuncitem.get_closest_marker(own_process.NAME) is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    own_process.run(
        lambda: pyfuncitem.obj(**arguments),
        lambda: str(pyfuncitem.repr_failure(pytest.ExceptionInfo.from_current())),
    )
    return True


@pytest.fixture(scope="session", autouse=True)
def lab_host() -> t.Iterator[str]:
    """Insist on being inside the lab, and on leaving its hypervisor as empty as it was."""
    host = os.environ.get("VIRT_BACKUP_LAB", "")
    assert host, "run me inside the lab: tests/lab/enter -- build/venv/bin/pytest tests/integration"
    yield host
    assert virsh_names("list", "--all", "--name") == []
    assert [str(path) for path in IMAGES.iterdir()] == []
    assert [str(path) for path in pathlib.Path("/run/virt-backup").iterdir()] == []
    assert [str(path) for path in pathlib.Path("/var/lib/virt-backup/scratch").iterdir()] == []


@pytest.fixture
def domains() -> t.Iterator[Domains]:
    """Make domains: ``domain = domains(Disk("vda"), Disk("vdb", format="raw"))``; all are closed after the test."""
    made = Domains()
    yield made
    made.close()


@pytest.fixture
def guest() -> t.Iterator[Guest]:
    """Return a running guest whose agent answers; its disk ``vda`` (256 MiB) is empty. Needs ``enter --guest``."""
    with Guest(f"guest-{uuid.uuid4().hex[:8]}", Disk("vda", size=256 * MIB)) as running:
        running.define()
        running.start()
        running.wait_for_agent()
        yield running


@pytest.fixture
def workdir(request: pytest.FixtureRequest) -> t.Iterator[pathlib.Path]:
    """Return a folder that QEMU's user can reach (pytest's own are closed to it), deleted after the test."""
    path = IMAGES / f"work-{request.node.name.translate(str.maketrans('[]/ ', '----'))[:60]}"
    path.mkdir(parents=True)
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run_module() -> t.Callable[..., modules.Result]:
    """Run a module and return its result, failed or not: ``run_module("virt_backup", {...}, check=True)``."""
    return modules.run_module


@pytest.fixture
def run_ok() -> t.Callable[..., modules.Result]:
    """Run a module that has to succeed."""
    return modules.run_ok


@pytest.fixture
def run_failed() -> t.Callable[..., modules.Result]:
    """Run a module that has to fail with a sentence."""
    return modules.run_failed
