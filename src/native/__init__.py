# SPDX-License-Identifier: Apache-2.0
"""Operators of our own for the CPU, written in C++ and compiled on the machine that runs them."""
