# SPDX-License-Identifier: Apache-2.0

"""The option ``[gpu_filter]request_mix``, of nova.conf and placement.conf."""

import functools
import math

from oslo_config import cfg
from oslo_config import types

from nova_gpu_filter import exception

_DIGITS = 6
"""Of a number of devices, at most."""

option = cfg.Opt(
    "request_mix",
    type=types.Dict(value_type=types.Float(min=0)),
    default={"1": 0.4, "2": 0.2, "4": 0.2, "8": 0.2},
    help="""
The request sizes to keep hosts ready for: pairs of a number of devices and a
weight, for example ``1:0.4,2:0.2,4:0.2,8:0.2``.

Device sets that are equally well linked are ordered by what they leave:
the fragmentation of a host is the number of its free devices that requests of
these sizes could not use, averaged with these weights. A size with weight 0,
or one that is not listed, is never kept free for. Weights need not sum to 1.
Give the shares of the sizes among the requests of your cloud.

nova-scheduler and, where it runs the extension, the Placement API read it,
each from its own configuration file: give both the same value.

Related options:

* ``[gpu_filter]pool_matcher`` in nova.conf must be ``topology`` for the choice
  of devices.
* ``[filter_scheduler]gpu_fragmentation_weight_multiplier`` weighs hosts by
  the same measure.
""",
)


def read(conf):
    """Read ``[gpu_filter]request_mix``.

    :returns: ((devices, weight), ...) by number of devices; weights sum to 1.
    :raises BadRequestMix: a size is no positive number, or no weight is
        above 0.
    """
    pairs = conf.gpu_filter.request_mix.items()
    # oslo.config does not look into a dictionary that a program has set.
    return _read(tuple(sorted((str(key), str(one)) for key, one in pairs)))


@functools.lru_cache(maxsize=8)
def _read(pairs):
    mix = {}
    for size, weight in pairs:
        if not size.isdecimal() or len(size) > _DIGITS or int(size) < 1:
            raise exception.BadRequestMix(
                problem=f"{size[:40]!r} is no number of devices"
            )
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        # Python reads "nan" and "inf" as numbers, too.
        if not 0 <= number < math.inf:
            raise exception.BadRequestMix(
                problem=f"{weight[:40]!r} is no weight"
            )
        if number:
            mix[int(size)] = number
    total = sum(mix.values())
    if not total:
        raise exception.BadRequestMix(problem="no weight is above 0")
    if math.isinf(total):
        raise exception.BadRequestMix(problem="the sum of the weights is none")
    return tuple((size, mix[size] / total) for size in sorted(mix))
