# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor: a node with libvirtd and virtlogd of its own, and sshd when asked for.

The paths inside are the normal ones, so ``qemu:///system`` is this daemon and nothing else. QEMU runs as libvirt-qemu,
as on a real host, so that a missing permission is a real one.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import uuid

from lab.node import TESTS, Node, Service, Spec

ETC = "/etc"
PRIVATE = (
    ETC,
    "/run",
    "/srv",
    "/var/cache/libvirt",
    "/var/lib/libvirt",
    "/var/lib/virt-backup",
    "/var/log/libvirt",
)

CACHE = TESTS.parent / "build" / "lab" / "capabilities"
"""What libvirtd found out about the QEMU binaries, kept between hypervisors: asking them takes seconds under TCG."""

# Several daemons share one kernel: they must not move each other's cgroups, and there is no security driver to share.
# Without a mount namespace of its own QEMU sees the devices and file systems that a test adds later.
QEMU_CONF = """\
security_driver = "none"
cgroup_controllers = []
namespaces = []
"""

SSHD_CONF = """\
Port 22
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PidFile none
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""

VIRTLOGD = Service("virtlogd", ("virtlogd",), "/var/log/libvirt/virtlogd.log", "/run/libvirt/virtlogd-sock")
LIBVIRTD = Service("libvirtd", ("libvirtd",), "/var/log/libvirt/libvirtd.log", "/run/libvirt/libvirt-sock")
SSHD = Service(
    "sshd", ("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/lab_sshd_config"), "/var/log/libvirt/sshd.log", "tcp:22"
)


class Hypervisor(Node):
    """One hypervisor; ``authorized_key`` (a public key's text) makes it reachable over SSH as root."""

    def __init__(
        self,
        name: str = "hv",
        *,
        folder: pathlib.Path | None = None,
        detached: bool = False,
        authorized_key: str = "",
        interface: str = "",
        address: str = "",
    ) -> None:
        super().__init__(name, folder=folder, detached=detached)
        self._authorized_key = authorized_key
        self._interface, self._address = interface, address

    def spec(self) -> Spec:
        """Return the folders and daemons of a hypervisor."""
        services = (VIRTLOGD, LIBVIRTD) + ((SSHD,) if self._authorized_key else ())
        return Spec(self.name, str(self.folder), PRIVATE, services, self._interface, self._address)

    def prepare(self, spec: Spec) -> None:
        """Fill the private folders as the packages and the role ``hypervisor`` would have."""
        shutil.copytree(ETC, spec.mount_source(ETC), symlinks=True, ignore=_special, dirs_exist_ok=True)
        super().prepare(spec)
        _own_everything_as_in(pathlib.Path(ETC), spec.mount_source(ETC))
        # Without this every look at its own name would be a DNS query, and a time-out of five seconds.
        with (spec.mount_source(ETC) / "hosts").open("a", encoding="utf-8") as hosts:
            hosts.write(f"\n127.0.1.1 {self.name}\n")
        self._libvirt(spec)
        self._directories(spec)
        if self._authorized_key:
            prepare_sshd(spec.mount_source(ETC), self._authorized_key)

    def _libvirt(self, spec: Spec) -> None:
        etc = spec.mount_source(ETC) / "libvirt"
        (etc / "qemu.conf").write_text(QEMU_CONF, encoding="utf-8")
        with (etc / "libvirtd.conf").open("a", encoding="utf-8") as conf:
            conf.write(f'\nhost_uuid = "{uuid.uuid4()}"\n')
        # The default network would want dnsmasq and a bridge.
        shutil.rmtree(etc / "qemu", ignore_errors=True)
        cache = spec.mount_source("/var/cache/libvirt") / "qemu" / "capabilities"
        if CACHE.is_dir():
            shutil.copytree(CACHE, cache)
            _chown_tree(cache.parent, "libvirt-qemu", "kvm")

    def _directories(self, spec: Spec) -> None:
        """Make what QEMU has to reach, with the owners and modes of a real host."""
        for inside in ("/var/lib/libvirt/images", "/var/lib/libvirt/boot", "/srv/images"):
            _directory(_in_node(spec, inside), "root", "root", 0o755)
        _directory(_in_node(spec, "/run/virt-backup"), "root", "libvirt-qemu", 0o770)
        _directory(_in_node(spec, "/var/lib/virt-backup/scratch"), "root", "libvirt-qemu", 0o770)
        _directory(_in_node(spec, "/run/sshd"), "root", "root", 0o755)
        _directory(_in_node(spec, "/run/lock"), "root", "root", 0o755)  # where libvirtd locks a console that is read

    def start(self) -> None:
        """Start, and return when libvirtd has initialised all it has."""
        super().start()
        try:
            self.run(["virsh", "--connect", "qemu:///system", "domcapabilities", "--virttype", "qemu"], timeout=60)
            self._keep_capabilities()
        except BaseException:
            self.stop()
            raise

    def _keep_capabilities(self) -> None:
        if CACHE.is_dir():
            return
        partial = CACHE.with_name(f"capabilities-{os.getpid()}")
        shutil.copytree(self.spec().mount_source("/var/cache/libvirt") / "qemu" / "capabilities", partial)
        try:
            partial.rename(CACHE)
        except OSError:  # another hypervisor was first
            shutil.rmtree(partial)


def prepare_sshd(etc: pathlib.Path, authorized_key: str) -> None:
    """Write what sshd needs below a node's own /etc: a host key, and whom to let in as root."""
    key = etc / "ssh" / "lab_host_key"
    key.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (etc / "ssh" / "lab_sshd_config").write_text(SSHD_CONF, encoding="utf-8")
    (etc / "ssh" / "lab_authorized_keys").write_text(authorized_key, encoding="utf-8")
    # sshd refuses every login to an account whose password field says "locked"; a star only means "no password".
    shadow = (etc / "shadow").read_text(encoding="utf-8").splitlines()
    lines = ["root:*:" + line.split(":", 2)[2] if line.startswith("root:") else line for line in shadow]
    (etc / "shadow").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _special(folder: str, names: list[str]) -> set[str]:
    """Name what is no file, folder or link, and so can't be copied."""
    paths = {name: pathlib.Path(folder, name) for name in names}
    return {n for n, p in paths.items() if not (p.is_symlink() or p.is_file() or p.is_dir())}


def _own_everything_as_in(original: pathlib.Path, copy: pathlib.Path) -> None:
    """Give the copy the owners of the original, which copytree leaves out."""
    for path in copy.rglob("*"):
        try:
            status = (original / path.relative_to(copy)).lstat()
        except FileNotFoundError:
            continue
        if (status.st_uid, status.st_gid) != (0, 0):
            os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _in_node(spec: Spec, inside: str) -> pathlib.Path:
    """Return where a path of the node is, seen from outside."""
    private = max((path for path in spec.private if inside.startswith(path + "/")), key=len)
    return spec.mount_source(private) / inside[len(private) + 1 :]


def _directory(path: pathlib.Path, owner: str, group: str, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner, group)
    path.chmod(mode)


def _chown_tree(top: pathlib.Path, owner: str, group: str) -> None:
    for path in (top, *top.rglob("*")):
        shutil.chown(path, owner, group)
