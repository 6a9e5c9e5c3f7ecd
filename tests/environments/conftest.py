from __future__ import annotations

from tests.support import work as work
