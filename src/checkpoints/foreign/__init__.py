# SPDX-License-Identifier: Apache-2.0
"""Other programs' checkpoints: reading them, recognising them, and what goes where."""
