# SPDX-License-Identifier: Apache-2.0
"""Libraries that run exported model files, behind one interface."""
