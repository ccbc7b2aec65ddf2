# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of every kind for every parameter: no line ends in one, and XML's characters are just characters."""

from __future__ import annotations

import pathlib
import typing as t

import libvirt
import pytest
from lab.disks import Disk
from lab.domains import Domains
from lab.tools import call

from ansible_collections.virt.backup.tests.integration import bad_input
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.bad_input import (
    IDENTITY,
    USUAL,
    disk,
    filled,
    image,
    increment,
    look,
    push,
    refused,
    tcp,
    unix,
)

names = bad_input.names
connection = bad_input.connection

# Every text that a module takes, as module and the way to it; a newline fits into none of them.
TEXTS = [
    ("virt_backup", {"uri": "*"}, "uri"),
    ("virt_backup", {"domain": "*"}, "domain"),
    ("virt_backup", {"incremental": "*"}, "incremental"),
    ("virt_backup", {"scratch_dir": "/*"}, "scratch_dir"),
    ("virt_backup", push(target_dir="/*"), "target_dir"),
    ("virt_backup", disk("*"), "disks[0].name"),
    ("virt_backup", disk(incremental="*"), "disks[0].incremental"),
    ("virt_backup", disk(exportname="*"), "disks[0].exportname"),
    ("virt_backup", disk(exportbitmap="*"), "disks[0].exportbitmap"),
    ("virt_backup", disk(scratch="/*"), "disks[0].scratch"),
    ("virt_backup", push(**disk(target="/*")), "disks[0].target"),
    ("virt_backup", push(**disk(target="/a", backing_file="*")), "disks[0].backing_file"),
    ("virt_backup", unix(socket="/*"), "server.socket"),
    ("virt_backup", tcp(name="*", port=1), "server.name"),
    ("virt_backup", {"checkpoint": {"name": "*"}}, "checkpoint.name"),
    ("virt_backup", {"checkpoint": {"name": "new", "description": "*"}}, "checkpoint.description"),
    ("virt_backup", {"checkpoint": {"name": "new", "disks": [{"name": "*"}]}}, "checkpoint.disks[0].name"),
    ("virt_backup", {"state": "stopped", "domain": "*"}, "domain"),
    ("virt_checkpoint", {"uri": "*"}, "uri"),
    ("virt_checkpoint", {"domain": "*"}, "domain"),
    ("virt_checkpoint", {"name": "*"}, "name"),
    ("virt_checkpoint", {"description": "*"}, "description"),
    ("virt_checkpoint", disk("*"), "disks[0].name"),
    ("virt_checkpoint_info", {"uri": "*"}, "uri"),
    ("virt_checkpoint_info", {"domain": "*"}, "domain"),
    ("virt_checkpoint_info", {"name": "*"}, "name"),
    ("virt_backup_info", {"uri": "*"}, "uri"),
    ("virt_backup_info", {"domain": "*"}, "domain"),
    ("virt_backup_info", {"status_file": "/*"}, "status_file"),
    ("nbd_extract", image(uri="nbd+unix:///d?socket=/*"), "images[0].uri"),
    ("nbd_extract", image(dest="/*"), "images[0].dest"),
    ("nbd_extract", increment(bitmap="*"), "images[0].bitmap"),
    ("nbd_extract", increment(backing_file="*"), "images[0].backing_file"),
    ("nbd_extract", image(source_id="*"), "images[0].source_id"),
    ("nbd_extract", {**image(), "status_file": "/*"}, "status_file"),
    ("nbd_extract", {**image(), "owner": "*"}, "owner"),
    ("nbd_extract", {**image(), "group": "*"}, "group"),
    ("restore_point", {"repository": "/*"}, "repository"),
    ("restore_point", {"domain_uuid": "*"}, "domain_uuid"),
    ("restore_point", {"domain_name": "*"}, "domain_name"),
    ("restore_point", {"run": "*"}, "run"),
    ("restore_point", {"socket": "/*"}, "socket"),
    ("restore_point", {"status_file": "/*"}, "status_file"),
    ("restore_point", {"id": "*", "token": "a"}, "id"),
    ("restore_point", {"disks": [{**IDENTITY, "name": "*"}]}, "disks"),
    ("restore_point", {"disks": [{**IDENTITY, "source": "*"}]}, "disks.source"),
    ("restore_point_info", {"repository": "/*"}, "repository"),
    ("restore_point_info", {"domain_uuid": "*"}, "domain_uuid"),
    ("restore_point_info", {"domain_name": "*"}, "domain_name"),
    ("restore_point_verify", {"repository": "/*", "domain_name": "web"}, "repository"),
    ("restore_point_verify", {"domain_uuid": "*"}, "domain_uuid"),
    ("restore_point_verify", {"domain_name": "*"}, "domain_name"),
    ("restore_point_verify", {"domain_uuid": "{uuid}", "id": "*"}, "id"),
    ("backup_repository", {"path": "/*"}, "path"),
    ("backup_repository", {"path": "{work}/empty", "owner": "*"}, "owner"),
]


def with_text(thing: t.Any, text: str) -> t.Any:
    """Return options with the star in them replaced."""
    if isinstance(thing, dict):
        return {key: with_text(value, text) for key, value in thing.items()}
    if isinstance(thing, list):
        return [with_text(value, text) for value in thing]
    return thing.replace("*", text) if isinstance(thing, str) else thing


# A line separator of Unicode is one to XML's readers too, and to whoever prints the lines of a text.
LINES = [(*row, text) for row in TEXTS for text in ("a\nb", "a\u2028b")]


@pytest.mark.parametrize(
    ("module", "options", "parameter", "text"), LINES, ids=[f"{row[0]}: {row[2]}: {row[3]!a}" for row in LINES]
)
def test_no_text_takes_control_characters(
    module: str,
    options: dict[str, t.Any],
    parameter: str,
    text: str,
    names: dict[str, str],
    connection: libvirt.virConnect,
) -> None:
    usual = USUAL[module]
    sentence = refused(module, filled(with_text({**usual, **options}, text), names), connection)
    assert sentence.startswith(parameter)
    assert repr(text)[1:-1] in sentence


METACHARACTERS = "<a> & \"b\" 'c' ü 日本 %s $x ;"

# Where any printable text has its place, XML's characters are just characters.
PLAIN = [
    ("virt_backup", disk(exportname="*")),
    ("virt_backup", {**disk(exportbitmap="*"), "incremental": "ck1"}),
    ("virt_backup", disk(scratch="{work}/scratch/*.qcow2")),
    ("virt_backup", unix(socket="/run/virt-backup/*.sock")),
    ("virt_backup", push(**disk(target="{work}/scratch/*.qcow2"))),
    ("virt_backup", {"checkpoint": {"name": "new", "description": "*"}}),
    ("virt_checkpoint", {"description": "*"}),
    ("nbd_extract", image(dest="{work}/dest/*.qcow2", source_id="*")),
    ("restore_point", {"domain_name": "*", "run": "*"}),
]


@pytest.mark.parametrize(("module", "options"), PLAIN, ids=[f"{row[0]}: {'/'.join(row[1])}" for row in PLAIN])
def test_metacharacters_are_taken_for_what_they_are(
    module: str, options: dict[str, t.Any], names: dict[str, str], connection: libvirt.virConnect
) -> None:
    before = look(connection)
    usual = USUAL[module]
    result = kit.attempt(module, check=True, **filled(with_text({**usual, **options}, METACHARACTERS), names))
    assert not result["failed"], result["msg"]
    assert result["changed"]
    assert look(connection) == before


def test_metacharacters_work_in_a_real_job(domains: Domains, workdir: pathlib.Path) -> None:
    """What libvirt hands back is read as what was sent, so the second call finds the job of the first."""
    domain = domains(Disk("vda"))
    domain.make_checkpoint("ck1", "vda")
    (workdir / METACHARACTERS).mkdir()
    options = {
        **disk(
            exportname=f"{METACHARACTERS}/e?#", exportbitmap=METACHARACTERS, scratch=str(workdir / METACHARACTERS / "s")
        ),
        **unix(socket=str(workdir / METACHARACTERS / "s.sock")),
        "incremental": "ck1",
        "checkpoint": {"name": "new", "description": METACHARACTERS},
    }
    (workdir / METACHARACTERS).chmod(0o777)
    job = kit.backup(domain, **options)
    (entry,) = job["disks"]
    assert (entry["level"], entry["exportname"]) == ("incremental", f"{METACHARACTERS}/e?#")
    call("nbdinfo", f"--map=qemu:dirty-bitmap:{entry['exportbitmap']}", entry["uri"])
    again = kit.backup(domain, **options)
    assert not again["changed"]
    assert again["disks"] == job["disks"]
    assert kit.end(domain, server=options["server"])["changed"]
    checkpoint = {"domain": domain.name, "name": "new", "description": METACHARACTERS}
    assert not kit.run("virt_checkpoint", **checkpoint)["changed"]
    (found,) = kit.run("virt_checkpoint_info", domain=domain.name, name="new")["checkpoints"]
    assert found["description"] == METACHARACTERS
    kit.run("virt_checkpoint", domain=domain.name, name="new", state="absent", metadata_only=True)
    assert kit.run("virt_checkpoint", domain=domain.name, name="new", redefine_xml=found["xml"])["changed"]
    assert kit.run("virt_checkpoint", domain=domain.name, name="new", state="absent")["changed"]


def test_every_module_has_its_texts() -> None:
    assert {module for module, _options, _parameter in TEXTS} == set(USUAL)
