# SPDX-License-Identifier: Apache-2.0

"""The header of answers that the extension has composed."""

NAME = "X-GPU-Candidates"
VALUE = "composed"
