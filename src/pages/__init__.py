# SPDX-License-Identifier: Apache-2.0
"""HTML pages in one file each, which need no network: template, style, tables that sort, charts."""
