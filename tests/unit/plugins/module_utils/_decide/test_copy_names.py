# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of a copy."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.copy_names import path_of_copy


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/n/web_VARS.fd", "/n/drill_VARS.fd"),
        ("/n/web.fd", "/n/drill.fd"),
        ("/srv/web/web-vars", "/srv/drill/drill-vars"),
        ("/n/webmail_VARS.fd", "/n/webmail_VARS-drill.fd"),
        ("/n/1web.fd", "/n/1web-drill.fd"),
        ("/n/vars", "/n/vars-drill"),
        ("/n/U-1/state", "/n/U-2/state"),
        ("/n/.hidden", "/n/.hidden-drill"),
    ],
)
def test_the_path_of_a_copy(path: str, wanted: str) -> None:
    assert path_of_copy(path, "web", "drill", "U-1", "U-2") == wanted


def test_a_name_inside_the_new_name_is_replaced_once() -> None:
    assert path_of_copy("/n/web_VARS.fd", "web", "web-copy") == "/n/web-copy_VARS.fd"
