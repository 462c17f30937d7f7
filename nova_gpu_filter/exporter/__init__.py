# SPDX-License-Identifier: Apache-2.0

"""Metrics of a cloud for Prometheus: read, translated, kept for a while."""
