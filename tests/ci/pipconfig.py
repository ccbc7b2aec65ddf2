# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pip is told on this machine, handed on to the tools that don't read it.

uv has variables of its own, and ansible-test drops the variables of the caller, so that there only a file helps.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
from pathlib import Path

# Both tools take a list separated by spaces, but for uv's find-links, which are separated by commas.
_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "proxy": "HTTPS_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def parse_settings(listing: str) -> dict[str, str]:
    r"""Return option and value from the lines of ``pip config list``: a variable wins over any file, as in pip.

    >>> parse_settings("global.timeout='60'\n:env:.timeout='9'\ninstall.user='no'\n")
    {'timeout': '9'}
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, found, value = line.partition("=")
        section, _dot, option = name.rpartition(".")
        if found and section in sections:
            sections[section][option] = " ".join(str(ast.literal_eval(value)).split())
    merged = {**sections["global"], **sections["install"], **sections[":env:"]}
    return {option: value for option, value in merged.items() if option in _UV_NAMES}


def read_settings(pip: Path) -> dict[str, str]:
    """Return this machine's settings of pip that say where packages come from."""
    done = subprocess.run([pip, "config", "list"], check=True, stdout=subprocess.PIPE, text=True)
    return parse_settings(done.stdout)


def as_uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the variables that make uv find what pip would find."""
    variables = {_UV_NAMES[option]: value for option, value in settings.items()}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = variables["UV_FIND_LINKS"].replace(" ", ",")
    # pip takes the newest from all indexes; uv would stop at the first that knows the name.
    return {**variables, "UV_INDEX_STRATEGY": "unsafe-best-match"}


def write_file(settings: dict[str, str], target: Path) -> None:
    """Write the settings as a pip.conf that only its owner reads: an index address may hold a password."""
    config = configparser.RawConfigParser()
    config["global"] = {name: value.replace(" ", "\n") for name, value in settings.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch(mode=0o600)
    with target.open("w", encoding="utf-8") as stream:
        config.write(stream)
