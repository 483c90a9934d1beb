"""The ledger in memory keeps the contract that the one on disk keeps, so tests may use it in its place."""

import pytest

from tests.support.ledger_contract import LedgerContract
from tests.support.memory_ledger import MemoryLedger


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> MemoryLedger:
        return MemoryLedger()
