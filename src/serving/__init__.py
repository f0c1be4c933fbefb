# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server around a detector: pictures in, boxes out. It reads and writes no files."""
