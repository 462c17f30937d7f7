# SPDX-License-Identifier: Apache-2.0

"""Results of checks, and several of them in one."""

from collections.abc import Iterable

from oslo_upgradecheck import upgradecheck

Code = upgradecheck.Code
Result = upgradecheck.Result


def succeed(details: str | None = None) -> Result:
    """Nothing to do; the details, if any, are worth knowing."""
    return Result(Code.SUCCESS, details)


def warn(details: str) -> Result:
    """Something works less well than it could, or may be meant."""
    return Result(Code.WARNING, details)


def fail(details: str) -> Result:
    """Something does not work, or a service will not start."""
    return Result(Code.FAILURE, details)


def does_not_apply(reason: str) -> Result:
    """Nothing was checked, for this reason."""
    return succeed(f"Does not apply: {reason}")


def combine(
    problems: Iterable[Result], otherwise: str | None = None
) -> Result:
    """Make one result of many: the worst code, all details.

    :param otherwise: details where there are none.
    """
    problems = list(problems)
    details = [found.details for found in problems if found.details]
    return Result(
        max((found.code for found in problems), default=Code.SUCCESS),
        " ".join(details) or otherwise,
    )
