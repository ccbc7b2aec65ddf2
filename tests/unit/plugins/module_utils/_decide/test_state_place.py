# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the NVRAM and the state of a TPM are, and what of them can't be held."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide import state_place
from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"

# Kind, TPM, and where its state is.
PLACES = [
    ("2.0", Tpm(), f"/var/lib/libvirt/swtpm/{UUID}/tpm2"),
    ("1.2", Tpm(version="1.2"), f"/var/lib/libvirt/swtpm/{UUID}/tpm1.2"),
    ("a version of the future", Tpm(version="3.0"), f"/var/lib/libvirt/swtpm/{UUID}/tpm2"),
    ("a directory of its own", Tpm(source_type="dir", source="/srv/t"), "/srv/t"),
    ("a file of its own", Tpm(source_type="file", source="/srv/t.state"), "/srv/t.state"),
]


@pytest.mark.parametrize(("kind", "tpm", "place"), PLACES)
def test_the_place_of_a_tpm(kind: str, tpm: Tpm, place: str) -> None:
    assert state_place.tpm_place(tpm, UUID) == place, kind


@pytest.mark.parametrize(
    ("name", "lasting"),
    [
        ("tpm2-00.permall", True),
        ("tpm-00.permall", True),
        ("TMP2-00.permall", False),
        ("tpm2-00.volatilestate", False),
        (".lock", False),
        ("tpm2-00.permall\n", False),
        ("../tpm2-00.permall", False),
    ],
)
def test_only_what_outlives_the_power_is_taken(name: str, lasting: bool) -> None:
    assert state_place.is_lasting(name) is lasting


@pytest.mark.parametrize(
    ("tpm", "words"),
    [
        (Tpm(), ""),
        (Tpm("passthrough"), "the host's own chip (passthrough)"),
        (Tpm("external"), "emulated outside of libvirt (external)"),
    ],
)
def test_a_tpm_without_a_file_says_why(tpm: Tpm, words: str) -> None:
    reason = state_place.why_no_tpm(tpm)
    assert words in reason
    assert bool(reason) is bool(words)


def test_an_encrypted_tpm_names_its_secret() -> None:
    assert state_place.why_not_all_of_tpm(Tpm()) == ""
    assert "libvirt's secret 6dd3e4a5, which is not in the restore point" in state_place.why_not_all_of_tpm(
        Tpm(secret="6dd3e4a5")
    )


def test_an_nvram_that_is_no_file_says_so() -> None:
    assert state_place.why_no_nvram(Nvram("/srv/web.fd")) == ""
    assert "a source of type block (/dev/v/n)" in state_place.why_no_nvram(Nvram("/dev/v/n", "block"))
