# SPDX-License-Identifier: Apache-2.0
"""The network: pure tensor code that knows no files, no config object and no device names."""
