# SPDX-License-Identifier: Apache-2.0

"""Nova's own suites, run from the installed Nova, with our filter in place."""
