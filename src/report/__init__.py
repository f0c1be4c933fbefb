# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one page with what was asked for, what happened and what came of it."""
