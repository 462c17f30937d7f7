# SPDX-License-Identifier: Apache-2.0

"""Are the VFs of a host, and their vGPU types, as ``vgpu.yaml`` declares?"""

from collections.abc import Iterator

from nova_gpu_filter import exception
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Finding
from nova_gpu_filter.host.checks.findings import Severity
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import planning
from nova_gpu_filter.host.vgpu import state

_CHECK = "vgpu"


def check(context: Context) -> Iterator[Finding]:
    """Compare the file with the host; quiet where there is no file."""
    text = context.tree.read(declaration.PATH)
    if text is None:
        return
    try:
        rows = declaration.parse(declaration.PATH, text)
    except exception.BadInput as error:
        yield Finding(
            Severity.ERROR,
            _CHECK,
            f"nothing of this file is applied: {error}",
            evidence=(Evidence(declaration.PATH, text),),
            cures=(f"# correct {declaration.PATH}",),
        )
        return
    for plan in planning.plan(rows, state.read(context.tree)):
        yield _make_finding(plan)


def _make_finding(plan: planning.Plan) -> Finding:
    device = None if plan.address is None else str(plan.address)
    evidence = (Evidence(declaration.PATH, f"{plan.name}: {plan.wanted}"),)
    if plan.refusal is not None:
        return Finding(
            Severity.ERROR,
            _CHECK,
            f"{plan.wanted} are declared for {plan.name}, and cannot be had:"
            f" {plan.refusal}",
            device=device,
            evidence=evidence,
            cures=(f"# correct {declaration.PATH}, or what is in the way",),
        )
    if plan.is_done:
        return Finding(
            Severity.OK,
            _CHECK,
            f"it has {plan.wanted}, as declared",
            device=device,
            evidence=evidence,
        )
    return Finding(
        Severity.WARNING,
        _CHECK,
        f"{plan.wanted} are declared, and the device is not so:"
        f" '{plan.steps[0]}' is to be done",
        device=device,
        evidence=evidence,
        cures=("nova-gpu-host vgpu apply",),
    )
