# SPDX-License-Identifier: Apache-2.0
"""A detector by the file that holds it: a checkpoint in MindSpore, or an exported model."""
