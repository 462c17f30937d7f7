# SPDX-License-Identifier: Apache-2.0

"""What Nova means by what it is told, restated without Nova."""
