# SPDX-License-Identifier: Apache-2.0

"""What Nova makes of its options, restated without Nova."""
