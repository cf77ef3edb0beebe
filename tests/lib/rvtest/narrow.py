"""A plugin of pytest: fewer kernels for a file of tests, chosen late.

What kernels there can be tests for, such as those whose debug information is
to be had, may take long to find out, and be of no interest: so a file's
function NARROW is asked only if some of its tests are left after -k.  It gets
the kernels of these, and returns those to stay with.
"""

from types import ModuleType
from typing import Dict, List, Set

import pytest


def _series(item: pytest.Item) -> str:
    """The kernel that a test is for, if there is a choice."""
    callspec = getattr(item, 'callspec', None)
    if not callspec or not hasattr(getattr(item, 'module', None), 'NARROW'):
        return ''
    return str(callspec.params.get('series', ''))


@pytest.hookimpl(trylast=True)      # type: ignore[misc]
def pytest_collection_modifyitems(config: pytest.Config,
                                  items: List[pytest.Item]) -> None:
    """Leave out what is for other kernels."""
    asked: Dict[ModuleType, Dict[str, None]] = {}
    for item in items:
        if _series(item):
            asked.setdefault(getattr(item, 'module'), {})[_series(item)] = None
    chosen: Dict[ModuleType, Set[str]] = {
        module: set(getattr(module, 'NARROW')(list(series)))
        for module, series in asked.items()}
    kept = [item for item in items if not _series(item)
            or _series(item) in chosen[getattr(item, 'module')]]
    config.hook.pytest_deselected(
        items=[item for item in items if item not in kept])
    items[:] = kept
