# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the virt_* modules share: modules run in a forked child, and looks at what they did.

A fork costs milliseconds where a new interpreter costs half a second, and a test can patch what the module will see.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible.module_utils import _internal
from ansible.module_utils.testing import patch_module_args
from lab.domains import LabDomain
from lab.tools import call, virsh

SOCKETS = pathlib.Path("/run/virt-backup")
SCRATCH = pathlib.Path("/var/lib/virt-backup/scratch")
KIB64 = 65536

Result = dict[str, t.Any]

# modules


def attempt(module: str, *, check: bool = False, **options: t.Any) -> Result:
    """Run a module, with ``--diff``, and return its result, failed or not."""
    return result_in(printed_by_child(work_of(module, check=check, **options)))


def work_of(module: str, *, check: bool = False, **options: t.Any) -> t.Callable[[], None]:
    """Return what runs a module; it prints the result and ends the process, so it belongs into a child."""
    loaded = importlib.import_module(f"ansible_collections.virt.backup.plugins.modules.{module}")
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True, "_ansible_module_name": module}

    def work() -> None:
        with patch_module_args(arguments):
            # A filter that any test has imported makes the process a controller, which shows warnings and returns none.
            _internal.is_controller = False
            loaded.main()

    return work


def result_in(printed: str) -> Result:
    """Return the result that a module printed."""
    result: Result = json.loads(printed.strip().splitlines()[-1])
    result.setdefault("failed", False)
    result["warnings"] = [_words(warning) for warning in result.get("warnings", ())]
    return result


def _words(warning: t.Any) -> str:
    """Return the text of a warning, which newer ansible-core wraps on its way to the controller."""
    return str(warning["event"]["msg"]) if isinstance(warning, dict) else str(warning)


def printed_by_child(work: t.Callable[[], None]) -> str:
    """Return what ``work`` prints in a forked child; whatever it does to the process ends with that."""
    pid, reading = start_child(work)
    with open(reading, encoding="utf-8") as pipe:
        printed = pipe.read()
    os.waitpid(pid, 0)
    return printed


def start_child(work: t.Callable[[], None]) -> tuple[int, int]:
    """Fork a child that does ``work``; return its process id and the descriptor of what it prints."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 1
    try:
        os.close(reading)
        sys.stdout = open(writing, "w", encoding="utf-8")  # noqa: SIM115
        with contextlib.suppress(SystemExit):
            work()
        sys.stdout.flush()
        status = 0
    finally:
        os._exit(status)


def run(module: str, *, check: bool = False, **options: t.Any) -> Result:
    """Run a module that has to succeed."""
    result = attempt(module, check=check, **options)
    assert not result["failed"], f"{module}: {result['msg']}"
    return result


def refusal(module: str, *, check: bool = False, **options: t.Any) -> str:
    """Run a module that has to fail in words, and return them."""
    result = attempt(module, check=check, **options)
    assert result["failed"], f"{module} succeeded: {result}"
    sentence: str = result["msg"]
    assert "Traceback" not in f"{sentence}{result.get('exception', '')}", result
    assert "\n" not in sentence
    return sentence


def backup(domain: LabDomain, *, check: bool = False, **options: t.Any) -> Result:
    """Start a backup job."""
    return run("virt_backup", check=check, domain=domain.name, **options)


def end(domain: LabDomain, *, check: bool = False, **options: t.Any) -> Result:
    """End a backup job."""
    return run("virt_backup", check=check, domain=domain.name, state="stopped", **options)


def taken(domain: LabDomain, checkpoint: str, **options: t.Any) -> Result:
    """Take a backup that begins and ends: what a test needs as a base."""
    result = backup(domain, checkpoint={"name": checkpoint}, **options)
    end(domain)
    return result


def checkpoints_of(domain: LabDomain) -> dict[str, Result]:
    """Return what virt_checkpoint_info measures, by name."""
    found = run("virt_checkpoint_info", domain=domain.name, size=True)["checkpoints"]
    return {checkpoint["name"]: checkpoint for checkpoint in found}


# results


def levels(result: Result) -> dict[str, tuple[str, str]]:
    """Return level and base checkpoint of each disk of a job."""
    return {disk["name"]: (disk["level"], disk["incremental"]) for disk in result["disks"]}


def reason(result: Result, disk: str) -> str:
    """Return why a disk has its level, or why it was left out."""
    entries: list[Result] = [*result["disks"], *result["left_out"]]
    return str({entry["name"]: entry["reason"] for entry in entries}[disk])


def disk_of(result: Result, name: str) -> Result:
    """Return one disk's entry."""
    entry: Result = next(disk for disk in result["disks"] if disk["name"] == name)
    return entry


FULL = ("full", "")


def incremental(checkpoint: str) -> tuple[str, str]:
    """Return what :func:`levels` says of a disk that is incremental from that checkpoint."""
    return ("incremental", checkpoint)


# looks that ask nothing of the code under test


def dirty_map(result: Result, disk: str) -> list[tuple[int, int]]:
    """Return the dirty ranges (offset, length) that nbdinfo reads from a disk's export."""
    entry = disk_of(result, disk)
    context = f"--map=qemu:dirty-bitmap:{entry['exportbitmap']}"
    extents = json.loads(call("nbdinfo", "--json", context, entry["uri"]))
    return [(extent["offset"], extent["length"]) for extent in extents if extent["type"] == 1]


def export_equals(result: Result, disk: str, frozen: pathlib.Path) -> bool:
    """Whether the export of a disk reads like the copy that was taken of it, by qemu-img."""
    argv = ["qemu-img", "compare", "-f", "raw", "-F", "raw", disk_of(result, disk)["uri"], str(frozen)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=120).returncode == 0


def nothing_left(domain: LabDomain, *checkpoints: str) -> bool:
    """Whether a failed attempt left nothing: these checkpoints only, no job, no socket, no scratch file."""
    found = [*SOCKETS.iterdir(), *SCRATCH.iterdir()]
    assert not domain.has_job()
    assert domain.checkpoints() == list(checkpoints)
    assert not found, found
    return True


def qmp(domain: LabDomain, command: str, **arguments: t.Any) -> t.Any:
    """Run a QMP command in a domain's QEMU."""
    document = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(virsh("qemu-monitor-command", domain.name, document))["return"]


def bitmaps_of(domain: LabDomain, disk: str) -> list[str]:
    """Return the names of the bitmaps that QEMU has on a disk."""
    return [bitmap["name"] for bitmap in _node_of(domain, disk).get("dirty-bitmaps", ())]


def lose_bitmap(domain: LabDomain, disk: str, checkpoint: str) -> None:
    """Remove a bitmap behind libvirt's back, as a careless tool would."""
    qmp(domain, "block-dirty-bitmap-remove", node=_node_of(domain, disk)["node-name"], name=checkpoint)


def _node_of(domain: LabDomain, disk: str) -> Result:
    source = str(domain.live_source(disk))
    nodes: list[Result] = qmp(domain, "query-named-block-nodes")
    return next(node for node in nodes if node["drv"] == "qcow2" and node["file"] == source)
