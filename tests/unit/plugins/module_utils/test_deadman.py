# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard of a job does at each look, on a libvirt of our own; the real one is in the integration tests."""

from __future__ import annotations

import pathlib
import threading
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _deadman
from ansible_collections.virt.backup.plugins.module_utils._deadman import (
    PAUSED_GUEST,
    RESUMED,
    Gauge,
    Look,
    Note,
    Order,
)

OURS, FOREIGN = "/run/ours.sock", "/run/foreign.sock"
RUNNING, STUCK, SUSPENDED = [1, 1], [3, 5], [3, 1]
LOW = "Scratch space ran low."


class Refusal(Exception):
    """An error of libvirt."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def get_error_code(self) -> int:
        return self.code


class Domain:
    """A domain whose job serves at ``serves``, empty without one; it writes down what is asked of it."""

    def __init__(self, serves: str, state: list[int]) -> None:
        self.serves, self.now = serves, state
        self.log: list[str] = []

    def backupGetXMLDesc(self, _flags: int) -> str:  # noqa: N802  libvirt's name
        if not self.serves:
            raise Refusal(104)
        return f"<domainbackup><server transport='unix' socket='{self.serves}'/></domainbackup>"

    def state(self, _flags: int) -> list[int]:
        return self.now

    def abortJob(self) -> None:  # noqa: N802  libvirt's name
        self.log.append("abort")

    def resume(self) -> None:
        self.log.append("resume")


class Libvirt:
    """The module ``libvirt`` as far as a look needs it."""

    VIR_ERR_NO_DOMAIN_BACKUP, VIR_ERR_OPERATION_INVALID, VIR_ERR_NO_DOMAIN = 104, 55, 42
    libvirtError = Refusal  # noqa: N815  libvirt's name

    def __init__(self, domain: Domain | None) -> None:
        self._domain = domain

    def open(self, _uri: str) -> Libvirt:
        return self

    def lookupByUUIDString(self, _uuid: str) -> Domain:  # noqa: N802  libvirt's name
        if self._domain is None:
            raise Refusal(42)
        return self._domain


# Whose job is active, the guest's state, what the guard was told, what it does, what the note says.
LOOKS: list[tuple[str, list[int], dict[str, t.Any], list[str], str]] = [
    (OURS, RUNNING, {}, [], ""),
    (OURS, RUNNING, {"end": True}, ["abort"], ""),
    (OURS, RUNNING, {"end": True, "why": LOW}, ["abort"], LOW),
    (OURS, STUCK, {}, ["abort"], PAUSED_GUEST),
    (OURS, STUCK, {"end": True, "why": LOW}, ["abort"], LOW),
    (OURS, STUCK, {"was_paused": True}, [], ""),
    (OURS, STUCK, {"was_paused": True, "end": True}, ["abort"], ""),
    (OURS, SUSPENDED, {}, [], ""),
    (FOREIGN, RUNNING, {"end": True, "begun": True}, [], ""),
    (FOREIGN, STUCK, {"end": True, "begun": True}, [], ""),
    ("", RUNNING, {"end": True, "begun": True}, [], ""),
    ("", STUCK, {"begun": True}, ["resume"], RESUMED),
    ("", STUCK, {"begun": True, "was_paused": True}, [], ""),
    ("", STUCK, {}, [], ""),
    ("", SUSPENDED, {"begun": True, "end": True}, [], ""),
]


@pytest.mark.parametrize(("serves", "state", "told", "does", "note"), LOOKS)
def test_a_look(
    tmp_path: pathlib.Path, serves: str, state: list[int], told: dict[str, t.Any], does: list[str], note: str
) -> None:
    path, domain = tmp_path / "note", Domain(serves, state)
    order = Order("", "", OURS, "", 60, [], str(path), (), told.get("was_paused", False))
    options = {name: told[name] for name in ("why", "begun") if name in told}
    look = Look(order, Libvirt(domain), Note(str(path)), end=told.get("end", False), **options)
    look.run()
    assert look.job is (serves == OURS)
    assert domain.log == does
    assert (path.read_text(encoding="utf-8").strip() if path.exists() else "") == note


def test_a_domain_that_is_gone_has_no_job() -> None:
    look = Look(Order("", "", OURS, "", 60, []), Libvirt(None), Note(""), end=True)
    look.run()
    assert look.job is False


def test_the_note_is_there_before_the_job_ends(tmp_path: pathlib.Path) -> None:
    note, domain = tmp_path / "note", Domain(OURS, RUNNING)
    seen: list[bool] = []
    domain.abortJob = lambda: seen.append(note.exists())  # type: ignore[method-assign]
    Look(Order("", "", OURS, "", 60, []), Libvirt(domain), Note(str(note)), end=True, why=LOW).run()
    assert seen == [True]


def test_a_note_grows_by_what_is_new(tmp_path: pathlib.Path) -> None:
    note = Note(str(tmp_path / "note"))
    for sentence in (LOW, LOW, RESUMED):
        note.say(sentence)
    assert (tmp_path / "note").read_text(encoding="utf-8") == f"{LOW} {RESUMED}\n"
    assert (tmp_path / "note").stat().st_mode & 0o777 == 0o600
    Note("/nowhere/note").say(LOW)


def test_a_link_in_the_place_of_a_note_is_not_followed(tmp_path: pathlib.Path) -> None:
    """QEMU's user may write where the notes are."""
    precious = tmp_path / "precious"
    precious.write_text("precious", encoding="ascii")
    for name in ("note", "note.new"):
        (tmp_path / name).symlink_to(precious)
    Note(str(tmp_path / "note")).say(LOW)
    assert precious.read_text(encoding="ascii") == "precious"
    assert not (tmp_path / "note").is_symlink()


def test_the_gauge_tells_where_there_is_too_little(tmp_path: pathlib.Path) -> None:
    alarm = threading.Event()
    gauge = Gauge([("/nowhere", 1 << 62), (str(tmp_path), 1), (str(tmp_path), 1 << 62)], alarm)
    gauge.start()
    assert alarm.wait(20)
    gauge.join(20)
    assert gauge.low.startswith(f"Scratch space in '{tmp_path}' ran low (")
    assert gauge.low.endswith(" MiB left, 4398046511104.0 MiB wanted): the job was ended to protect the guest.")


def test_without_marks_nothing_is_watched() -> None:
    gauge = Gauge((), threading.Event())
    gauge.start()
    gauge.join(20)
    assert (gauge.is_alive(), gauge.low) == (False, "")


def test_it_imports_nothing_of_ours() -> None:
    text = pathlib.Path(str(_deadman.__file__)).read_text(encoding="utf-8")
    assert "ansible" not in text
