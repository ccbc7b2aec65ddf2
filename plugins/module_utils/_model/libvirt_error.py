# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""libvirt's error numbers, and what to do about an error: by its number, or by words of its text."""

from __future__ import annotations

# virErrorNumber, by value: the module's constants depend on the version of the client.
NO_DOMAIN = 42
NO_SUPPORT = 3
INVALID_ARG = 8
OPERATION_FAILED = 9
OPERATION_INVALID = 55
CONFIG_UNSUPPORTED = 67
OPERATION_TIMEOUT = 68
OPERATION_UNSUPPORTED = 84
AGENT_UNRESPONSIVE = 86
CPU_INCOMPATIBLE = 91
XML_INVALID_SCHEMA = 92
NO_CHECKPOINT = 103
NO_BACKUP_JOB = 104
CHECKPOINT_INCONSISTENT = 109

_REMEDIES: dict[int, str] = {
    NO_SUPPORT: "Use the uri of a driver that can, such as qemu:///system.",
    INVALID_ARG: "Check the value that libvirt names.",
    OPERATION_TIMEOUT: "Another job holds the domain; wait until it has ended, virt_backup_info shows a backup job.",
    AGENT_UNRESPONSIVE: "Check that qemu-guest-agent runs in the guest, or set quiesce to never.",
    XML_INVALID_SCHEMA: "Nothing has happened; the XML is in the result of check mode.",
    CHECKPOINT_INCONSISTENT: "Set backupmode of that disk to auto or full.",
}

# What QEMU and libvirt say (never translated by QEMU), and what to do; the first row that has all its words wins.
_TEXT_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Failed to bind socket", "Permission denied"),
        "QEMU may not create a socket there; the role virt.backup.hypervisor sets owner, AppArmor and SELinux.",
    ),
    (("Address already in use",), "Another server uses that port; choose another server.port, or a UNIX socket."),
    (
        ("Unable to access credentials",),
        "Put the certificates where backup_tls_x509_cert_dir in qemu.conf says, or leave server.tls out.",
    ),
    (
        ("TLS directory not configured",),
        "Set backup_tls_x509_cert_dir in qemu.conf, or leave server.tls out.",
    ),
    (
        ("Bitmap already exists",),
        "An image holds a bitmap that libvirt has forgotten; choose another name for the checkpoint.",
    ),
    (
        ("has a blockjob assigned",),
        "A copy, commit or pull works on that disk; wait for its end, or leave the disk out with backup: false.",
    ),
    *(
        ((words,), "Check that the directory exists and that the user QEMU runs as may enter and write it.")
        for words in ("failed to create image file", "Could not open", "Permission denied")
    ),
)


def remedy(code: int, text: str) -> str:
    """Return what to do about an error of libvirt, empty where nobody knows."""
    for words, sentence in _TEXT_REMEDIES:
        if all(word in text for word in words):
            return sentence
    return _REMEDIES.get(code, "")
