# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The bridge between a use case and ``AnsibleModule``: the only place that turns outcomes and errors into results."""

from __future__ import annotations

import signal
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.basic import AnsibleModule

    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

# What a lost SSH connection, a killed async job and an impatient operator send.
_ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def run_module(module: AnsibleModule, use_case: Callable[[], Outcome]) -> t.NoReturn:
    """Run ``use_case`` and end the module with its outcome, or with the sentence of the :class:`BackupError` it raised.

    A signal that would end the process becomes such an error, so that what a use case undoes on failure is undone.
    """
    for number in _ENDING_SIGNALS:
        signal.signal(number, _interrupted)
    try:
        _exit(module, use_case())
    except BackupError as error:
        module.fail_json(**error.as_result())
        raise  # never reached: fail_json ends the process, which no type says


def _interrupted(number: int, _frame: object) -> t.NoReturn:
    for other in _ENDING_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise BackupError(f"Interrupted by {signal.Signals(number).name}; what had been begun was undone.")


def _exit(module: AnsibleModule, outcome: Outcome) -> t.NoReturn:
    for warning in outcome.warnings:
        module.warn(warning)
    result = {"changed": outcome.changed, **outcome.result}
    if outcome.before is not None or outcome.after is not None:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**result)
    raise SystemExit
