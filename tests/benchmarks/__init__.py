# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure nbd_extract against nbdcopy and qemu-img: ``make bench``, and ``docs/benchmarks.md`` for what it found."""
