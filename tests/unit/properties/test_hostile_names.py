# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, paths and addresses from anywhere: what is taken leads nowhere else, what is not is refused in one sentence."""

from __future__ import annotations

import os
import typing as t
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.filter.choose_disks import choose_disks
from ansible_collections.virt.backup.plugins.filter.choose_domains import choose_domains
from ansible_collections.virt.backup.plugins.filter.extract_images import extract_images
from ansible_collections.virt.backup.plugins.filter.job_disks import job_disks
from ansible_collections.virt.backup.plugins.filter.merge_disks import merge_disks
from ansible_collections.virt.backup.plugins.filter.plan_lines import plan_lines
from ansible_collections.virt.backup.plugins.filter.protection import protection
from ansible_collections.virt.backup.plugins.filter.result_lines import result_lines
from ansible_collections.virt.backup.plugins.module_utils._decide import names as rules
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._model.text import is_printable, quoted, shown
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as extract
from ansible_collections.virt.backup.plugins.module_utils._run import repository
from ansible_collections.virt.backup.plugins.module_utils._run import restore_point_input as given_by_modules
from ansible_collections.virt.backup.plugins.module_utils._store import layout
from ansible_collections.virt.backup.plugins.module_utils._store.by_name import link_name
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import UUID, raw_disk
from ansible_collections.virt.backup.tests.unit.properties import hostile

Check = t.Callable[[str, str], object]


def _is_line(text: str) -> bool:
    return all(unicodedata.category(one) not in ("Cc", "Cs", "Zl", "Zp") for one in text)


def _is_file_name(text: str) -> bool:
    return (
        _is_line(text) and text not in ("", ".", "..") and not set(text) & set("/\0 '\"$`;&|<>{}\\") and text[0] != "-"
    )


CHECKS: dict[str, tuple[Check, t.Callable[[str], bool]]] = {
    "printable": (rules.check_printable, _is_line),
    "given": (lambda name, value: rules.check_given(name, value, "a name"), lambda text: _is_line(text) and text != ""),
    "checkpoint": (rules.check_checkpoint_name, lambda text: "/" not in text and text[0] != "."),
    "absolute": (rules.check_absolute, lambda text: os.path.normpath(text) == text and text[0] == "/"),
    "socket": (rules.check_socket, lambda text: len(os.fsencode(text)) < 108 and text[0] == "/"),
    "address": (rules.check_listen_address, lambda text: text.isascii() and not set(text) & set("/ ;%$")),
    "path": (layout.checked_path, lambda text: text[0] == "/" and ".." not in text.split("/") and _is_line(text)),
    "UUID": (layout.checked_uuid, lambda text: len(text) == 36 and _is_file_name(text)),
    "id": (layout.checked_id, _is_file_name),
    "disk": (layout.checked_disk_name, _is_file_name),
    "file": (layout.checked_file_name, _is_file_name),
    "mode": (lambda _name, value: repository._mode(value), lambda text: int(text, 8) & 0o700 == 0o700),
    "mode of an image": (
        lambda _name, value: extract._mode(value),
        lambda text: 0 <= int(text.replace("o", ""), 8) < 0o10000,
    ),
    "owner": (lambda _name, value: extract._owner(value), lambda text: text == "" or _is_line(text)),
    "group": (lambda _name, value: extract._group(value), lambda text: text == "" or _is_line(text)),
    "dest": (extract._check_dest, lambda text: text[0] == "/" and _is_line(text)),
}


@pytest.mark.parametrize("check", CHECKS)
@given(text=hostile.names | hostile.names.map(lambda name: f"/{name}") | st.text("0123456789abcdefT-Z/.", max_size=40))
def test_a_name_is_harmless_or_refused(check: str, text: str) -> None:
    call, is_harmless = CHECKS[check]
    refused = hostile.refusal(lambda: call("parameter", text))
    if refused is None:
        assert is_harmless(text), repr(text)
    else:
        assert isinstance(refused, InputError)
        # Nothing of a value is left out, however long: who wrote it has it before him.
        assert hostile.is_clear(refused) or len(text) > 500


@given(
    scheme=st.sampled_from(("nbd", "nbds", "nbd+unix", "nbd+vsock", "http", "file", "NBD", "")),
    host=hostile.names,
    path=hostile.names,
    socket=hostile.names,
)
@example("nbd+unix", "", "a%0Ab", "/x")
@example("nbd+unix", "", "a", "/x%00y")
@example("nbd+unix", "", "a", "/x%0Ay")
@example("nbd", "[", "", "")
@example("nbd", "a:99999999", "", "")
def test_a_uri_names_an_export_or_is_refused(scheme: str, host: str, path: str, socket: str) -> None:
    found: list[str] = []
    uri = f"{scheme}://{host}/{path}?socket={socket}"
    refused = hostile.refusal(lambda: found.append(extract.export_name(0, uri)))
    if refused is None:
        assert _is_line(found[0])
        again = hostile.refusal(lambda: extract.check_socket(0, uri))
        assert again is None or hostile.is_clear(again) or len(uri) > 500
        assert isinstance(extract.export_key(uri), str)
    else:
        assert hostile.is_clear(refused) or len(uri) > 500


@given(backing=hostile.names)
def test_a_backing_name_that_is_a_protocol_to_qemu_is_refused(
    backing: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """There is no such file either, so nothing of this is ever taken; and nothing is opened to find out."""
    image = ImageRequest(
        "nbd://h/x", str(tmp_path_factory.getbasetemp() / "new.qcow2"), backing_file=backing, bitmap="b"
    )
    refused = hostile.refusal(lambda: extract.check_backing(0, image, None))
    if backing:
        assert refused is not None
        assert hostile.is_clear(refused) or len(backing) > 500


@given(changes=st.dictionaries(st.sampled_from(sorted(raw_disk())), hostile.values, max_size=3))
def test_a_disk_that_another_module_never_returned(changes: dict[str, t.Any]) -> None:
    """What is taken can be written, and read again."""
    refused = hostile.refusal(lambda: given_by_modules.domain_disks([{**raw_disk(), **changes}]))
    assert refused is None or isinstance(refused, InputError)


@given(name=hostile.names)
def test_a_link_has_a_plain_name(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = link_name(str(tmp_path_factory.getbasetemp()), name, UUID)
    assert "/" not in found
    assert found not in ("", ".", "..")
    assert _is_line(found)
    assert len(os.fsencode(found)) < 256


@given(text=hostile.names)
def test_what_is_shown_is_one_line(text: str) -> None:
    assert is_printable(shown(text))
    assert shown(text) == text or not is_printable(text)
    assert is_printable(quoted(text))
    assert len(quoted(text)) < 300
    assert _is_line(str(BackupError(text)))


# filters


@given(names=st.lists(hostile.names, min_size=1, max_size=4, unique=True), pattern=hostile.names, out=hostile.names)
def test_domains_are_chosen_by_any_name(names: list[str], pattern: str, out: str) -> None:
    domains = [{"name": name, "uuid": UUID} for name in names]
    everything = choose_domains(domains, "hv", ["*"])
    assert [unit["domain"] for unit in everything["units"]] == names
    assert len({unit["name"] for unit in everything["units"]}) == len(names)
    choose_domains(domains, "hv", pattern, out)
    for name in names:
        if name == name.strip() and name:
            chosen = choose_domains(domains, "hv", [name])
            assert name in [unit["domain"] for unit in chosen["units"]]
            assert name not in [unit["domain"] for unit in choose_domains(domains, "hv", ["*"], [name])["units"]]


@given(name=hostile.names, other=hostile.names, include=hostile.names, exclude=hostile.names)
def test_filters_take_any_name(name: str, other: str, include: str, exclude: str) -> None:
    disks = [
        {"name": one, "backup": True, "backup_reason": "", "by_default": True, "by_default_reason": ""}
        for one in dict.fromkeys((name, other))
    ]
    chosen = choose_disks(disks, include, exclude)
    assert {disk["name"] for disk in (*chosen["take"], *chosen["skipped"])} == {name, other}
    plan = [
        {"name": name, "level": "full", "reason": other, "incremental": "", "image": other, "backing_file": include}
    ]
    job = [{"name": name, "level": "full", "reason": "", "uri": include, "exportbitmap": exclude}]
    assert [disk["name"] for disk in job_disks(plan)] == [name]
    merged = merge_disks(plan, job)
    assert [image["uri"] for image in extract_images(merged, other)] == [include]
    assert len(plan_lines(plan, name, [], [{"name": other, "reason": include}])) == 2
    result = {"domain": name, "protected": True, "reason": other, "disks": plan, "skipped": [], "changed": True}
    hosts: dict[str, dict[str, t.Any]] = {
        name: {"virt_backup_begun": True, "virt_backup_hypervisor": "hv", "backup_result": result},
        "hv": {"virt_backup_problem": other, "virt_backup_chosen": {"unmatched": [include]}},
    }
    if name != "hv":
        summary = protection(hosts, ["hv"], [name])
        assert [entry["name"] for entry in summary["protected"]] == [name]
        assert len(result_lines(summary["results"])) >= 2
