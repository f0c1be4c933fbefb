# SPDX-License-Identifier: Apache-2.0
"""Configuration and devices: what the entry scripts need around the network."""
