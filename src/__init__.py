# SPDX-License-Identifier: Apache-2.0

from .base.moved import admit_old_names

admit_old_names(__name__)
