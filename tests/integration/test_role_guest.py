# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``backup`` when the guest goes off, or scratch space runs low, while it is copied: the run says which it was."""

from __future__ import annotations

import pathlib

import pytest
from integration import playbook
from integration.protection import INCREMENTAL, Protection
from integration.test_role_failures import nothing_of_a_run, unit
from integration.virt_kit import SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import call

# Run whenever a variable is looked up that the copy needs: the job has begun by then, and nothing is copied yet.
STRIKE = "socket=$(echo /run/virt-backup/libvirt-{uuid}-*.sock); if [ -e $socket ]; then {what}; fi >&2; echo 4"
POWER_OFF = "virsh -q -c qemu:///system destroy {name}"
FILL_UP = "head -c 12M /dev/zero > {scratch}/other; while [ ! -e $socket.note ]; do sleep 0.05; done"


@pytest.mark.timeout(600)
def test_what_ended_the_job_is_said_and_the_next_run_is_right(domains: Domains, workdir: pathlib.Path) -> None:
    made = {}
    for name in ("off", "low"):
        domain = domains(Disk("vda", size=12 * MIB))
        domain.write("vda", 0, MIB, pattern=0x01)
        made[name] = Protection(domain, workdir / name)
        made[name].backup()
        domain.write("vda", 0, 8 * MIB, pattern=0x02)
    scratch = workdir / "scratch"
    scratch.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=16m,mode=0777", "none", scratch)
    try:
        scripts = {
            "off": POWER_OFF.format(name=made["off"].domain.name),
            "low": FILL_UP.format(scratch=scratch),
        }
        hosts = {}
        for name, script in scripts.items():
            strike = STRIKE.format(uuid=made[name].domain.uuid, what=script)
            (workdir / f"{name}.sh").write_text(strike, encoding="utf-8")
            struck = f"{{{{ lookup('ansible.builtin.pipe', 'sh {workdir}/{name}.sh') }}}}"
            hosts[name] = unit(made[name], backup_connections=struck)
        hosts["low"] |= {"backup_scratch_dir": str(scratch), "backup_scratch_low_water": "6M"}
        ended = playbook.play(workdir, **hosts)
        for end in ended.values():
            assert end.failed, end.output
            assert not end.result["protected"]
        off, low = made["off"], made["low"]
        reasons = {name: str(end.result["reason"]) for name, end in ended.items()}
        assert reasons["off"].startswith(f"Domain '{off.domain.name}' is off, and no job outlives its QEMU. ")
        assert reasons["low"].startswith(f"Scratch space in '{scratch}' ran low (")
        assert " MiB left, 6.0 MiB wanted): the job was ended to protect the guest. " in reasons["low"]
        assert nothing_of_a_run(low)
        assert [path.name for path in scratch.iterdir()] == ["other"]
        look = off.look()
        assert (look["lock"], len(look["stagings"])) == (None, 1)
        for protection in made.values():
            protection.check_all()

        (scratch / "other").unlink()
        off.domain.start()
        for variables in hosts.values():
            del variables["backup_connections"]
        ended = playbook.play(workdir, **hosts)
        for name, protection in made.items():
            assert ended[name].levels == {"vda": INCREMENTAL}, ended[name].output
            assert ended[name].result["disks"][0]["parent"] == protection.points[0].id
            assert nothing_of_a_run(protection)
        assert [*SOCKETS.iterdir(), *scratch.iterdir()] == []
    finally:
        call("umount", scratch)
