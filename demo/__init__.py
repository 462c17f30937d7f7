# SPDX-License-Identifier: Apache-2.0

"""The story of a GPU server, told on a cloud that lives in one process."""
