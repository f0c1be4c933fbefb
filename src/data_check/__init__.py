# SPDX-License-Identifier: Apache-2.0
"""A look at a data set before anything is trained on it: what is wrong with it, and advice."""
