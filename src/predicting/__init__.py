# SPDX-License-Identifier: Apache-2.0
"""Pictures and videos through a detector: what is found, drawn and written in several formats."""
