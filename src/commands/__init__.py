# SPDX-License-Identifier: Apache-2.0
"""The commands of the program ``faster-rcnn``, and of the scripts at the repository's root."""
