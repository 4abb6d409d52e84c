"""What all tests share."""

import re

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take memory addresses out of the names of tests: workers must agree on them."""
    for item in items:
        item._nodeid = re.sub(r" at 0x[0-9a-f]+", "", item._nodeid)
