# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What each target does is in tests/ci; everything generated lies in build/.
PYTHON := /usr/bin/python3
STEPS ?=
BENCH ?=
export KEEP_GOING

.PHONY: help setup test test-quick stage demo bench faults soak lock clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## Install what the tests need (packages of Debian, build/venv); nothing when it is there
	@$(PYTHON) tests/ci/setup.py

test: setup  ## Run every check, fastest first (STEPS="ruff unit": these; KEEP_GOING=1: all)
	@$(PYTHON) tests/ci/run.py full $(STEPS)

test-quick: setup  ## Run the inner loop: linters, types, architecture, unit tests (under 20 s)
	@$(PYTHON) tests/ci/run.py quick $(STEPS)

stage: setup  ## Copy the checkout to build/stage, for ansible-test and ansible-lint by hand
	@$(PYTHON) tests/ci/stage.py

demo: setup  ## Back up, change and restore a real guest on this machine
	@tests/demo/run

bench: setup  ## Measure against nbdcopy and qemu-img (BENCH="--quick": once; docs/benchmarks.md tells more)
	@tests/benchmarks/run $(BENCH)

faults: setup  ## Break and kill things around every step of a backup, and write docs/reliability.md
	@$(PYTHON) tests/ci/faults.py

soak: setup  ## Back up three domains that live and suffer at random (TIME=10m or BACKUPS=100; SEED=1 repeats a run)
	@$(PYTHON) tests/ci/soak.py --time=$(TIME) --backups=$(BACKUPS) --seed=$(SEED)

lock: setup  ## Write tests/ci/requirements.txt from requirements.in
	@$(PYTHON) tests/ci/lock.py

clean:  ## Remove everything generated
	rm -rf build .ansible .mypy_cache .ruff_cache .pytest_cache tests/output
