# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pip is told on a machine reaches uv and ansible-test, too."""

from __future__ import annotations

from pathlib import Path

import pipconfig

LISTING = r""":env:.cert='/etc/ssl/ours.crt'
:env:.disable-pip-version-check='1'
global.cert='/etc/ssl/old.crt'
global.extra-index-url='https://a.example/simple\nhttps://b.example/simple'
global.find-links='/srv/wheels /srv/more'
install.index-url='https://index.example/simple'
download.timeout='1'
"""
SETTINGS = {
    "cert": "/etc/ssl/ours.crt",
    "extra-index-url": "https://a.example/simple https://b.example/simple",
    "find-links": "/srv/wheels /srv/more",
    "index-url": "https://index.example/simple",
}


def test_a_variable_wins_over_a_file() -> None:
    assert pipconfig.parse_settings(LISTING) == SETTINGS


def test_nothing_set() -> None:
    assert pipconfig.parse_settings("") == {}


def test_uv_gets_its_own_names() -> None:
    assert pipconfig.as_uv_environment(SETTINGS) == {
        "SSL_CERT_FILE": "/etc/ssl/ours.crt",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_FIND_LINKS": "/srv/wheels,/srv/more",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_the_file_is_private_and_holds_each_value_on_its_line(tmp_path: Path) -> None:
    target = tmp_path / "pip/pip.conf"
    pipconfig.write_file(SETTINGS, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert "find-links = /srv/wheels\n\t/srv/more\n" in target.read_text()
