# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real hypervisors on one machine, as namespaces: made by us, ended by us, with nothing left behind.

============== ==============================================================================
``node``       a set of namespaces with folders, host name and network of its own
``pid1``       what runs as process 1 in there: mounts, services, and the end of all of it
``hypervisor`` a node with libvirtd, and sshd when asked for
``hosts``      several hypervisors on a bridge, and a controller that reaches them over SSH
``enter``      run one command inside a new hypervisor: ``tests/lab/enter -- pytest ...``
``domains``    domains without a guest system, their disks, and what is in them at a moment
``guest``      the small real guest: Linux, ext4, and the guest agent
``modules``    run a module of the collection as Ansible would
============== ==============================================================================

Nothing here needs more than the standard library, root, and the Debian packages in ``tests/packages.txt``.
"""
