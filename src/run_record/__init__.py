# SPDX-License-Identifier: Apache-2.0
"""The record of a training run: its numbers, its environment, its log, and what is told of them."""
