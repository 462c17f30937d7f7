# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with what the operator gave the host tool to read."""

from nova_gpu_filter.exception import BadInput as BadInput
from nova_gpu_filter.exception import FileUnreadable as FileUnreadable
