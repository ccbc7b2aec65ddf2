# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The AppArmor rule of the role ``hypervisor``, compiled into a domain's profile by the parser that a host uses.

No kernel is asked: the parser says what the rule means for each domain, as a regular expression.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import typing as t

import jinja2
import pytest
import yaml
from demo.readme import ROOT
from lab.tools import call

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import default_socket
from ansible_collections.virt.backup.tests.integration import without_hypervisor

lab_host = without_hypervisor.lab_host

OWN = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
OTHER = "0c2b5a2f-6a1f-4b58-9d0c-7b1f6a1e7d11"
TEMPLATE = pathlib.Path("/etc/apparmor.d/libvirt/TEMPLATE.qemu")


def load(path: str) -> t.Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def filled(text: str, **variables: t.Any) -> str:
    return jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(**variables)


def role_socket(uuid: str) -> str:
    """Return where the role ``backup`` lets the job of a domain be served."""
    variables = {"__backup_info": {"domain": {"uuid": uuid}}, "__backup_run": "0badcafe"}
    directory = load("roles/backup/defaults/main.yml")["backup_socket_dir"]
    return filled(load("roles/backup/vars/main.yml")["__backup_socket"], backup_socket_dir=directory, **variables)


@pytest.fixture
def allowed(tmp_path: pathlib.Path) -> re.Pattern[str]:
    """Return what the rule allows in the socket directory to the domain ``OWN``."""
    top = tmp_path / "apparmor.d"
    shutil.copytree("/etc/apparmor.d", top)
    (task,) = [
        task for task in load("roles/hypervisor/tasks/apparmor_rule.yml") if "ansible.builtin.blockinfile" in task
    ]
    directory = load("roles/hypervisor/defaults/main.yml")["hypervisor_socket_dir"]
    rule = filled(task["ansible.builtin.blockinfile"]["block"], hypervisor_socket_dir=directory)
    for place in ("local/abstractions/libvirt-qemu", "abstractions/libvirt-qemu.d/virt-backup"):
        (top / place).parent.mkdir(exist_ok=True)
        (top / place).write_text(rule, encoding="utf-8")
    profile = top / "libvirt" / f"libvirt-{OWN}"
    profile.write_text(TEMPLATE.read_text(encoding="utf-8").replace("LIBVIRT_TEMPLATE", profile.name), encoding="utf-8")
    printed = call("sh", "-c", f"apparmor_parser -Q -K -b {top} -D rule-exprs {profile} 2>&1")
    found = {
        line.rpartition(" -> ")[2].strip() for line in printed.splitlines() if line.startswith("aare: /run/virt-b")
    }
    (expression,) = found
    return re.compile(expression)


@pytest.mark.parametrize("socket", [default_socket, role_socket])
def test_a_domain_reaches_its_own_sockets_and_no_others(
    socket: t.Callable[[str], str], allowed: re.Pattern[str]
) -> None:
    assert allowed.fullmatch(socket(OWN))
    assert not allowed.fullmatch(socket(OTHER))
    assert not allowed.fullmatch(socket(f"{OWN}/../libvirt-{OTHER}"))
    assert not allowed.fullmatch(socket(OWN).replace(OWN, f"{OWN}0"))
