# SPDX-License-Identifier: Apache-2.0

"""Are the VFs of a host, and their vGPU types, as ``vgpu.yaml`` declares?"""

from nova_gpu_filter import exception
from nova_gpu_filter.host.checks.context import Context
from nova_gpu_filter.host.checks.findings import Evidence
from nova_gpu_filter.host.checks.findings import Findings
from nova_gpu_filter.host.checks.findings import Reporter
from nova_gpu_filter.host.vgpu import declaration
from nova_gpu_filter.host.vgpu import planning
from nova_gpu_filter.host.vgpu import state

_CHECK = Reporter("vgpu")


def check(context: Context) -> Findings:
    """Compare the file with the host; quiet where there is no file."""
    text = context.tree.read(declaration.PATH)
    if text is None:
        return
    try:
        rows = declaration.parse(declaration.PATH, text)
    except exception.BadInput as error:
        yield _CHECK.error(
            f"nothing of this file is applied: {error}",
            Evidence(declaration.PATH, text),
            cures=(f"# correct {declaration.PATH}",),
        )
        return
    for plan in planning.plan(rows, state.read(context.tree)):
        shown = Evidence(declaration.PATH, f"{plan.name}: {plan.wanted}")
        if plan.refusal is not None:
            yield _CHECK.error(
                f"{plan.wanted} are declared for {plan.name}, and cannot be"
                f" had: {plan.refusal}",
                shown,
                device=plan.address,
                cures=(
                    f"# correct {declaration.PATH}, or what is in the way",
                ),
            )
        elif plan.is_done:
            yield _CHECK.ok(
                f"it has {plan.wanted}, as declared",
                shown,
                device=plan.address,
            )
        else:
            yield _CHECK.warning(
                f"{plan.wanted} are declared, and the device is not so:"
                f" '{plan.steps[0]}' is to be done",
                shown,
                device=plan.address,
                cures=("nova-gpu-host vgpu apply",),
            )
