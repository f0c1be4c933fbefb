# SPDX-License-Identifier: Apache-2.0
"""Published weights by name: which there are, where they are, and how they become a checkpoint."""
