"""Reports against docs/report.schema.json, which is the contract."""

import json
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, List

from jsonschema import Draft202012Validator  # type: ignore[import]
from jsonschema import ValidationError

SCHEMA = Path(__file__).resolve().parents[3] / 'docs' / 'report.schema.json'

# So many faults are told; so much of each, for it may quote the report.
_FAULTS = 20
_LENGTH = 200


@lru_cache(maxsize=None)
def _validator() -> Any:
    """The schema, which is checked itself, and compiled once."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _fault(error: ValidationError) -> str:
    """Where something is wrong, and what: $.vmas[3].perms: ..."""
    # a field with the schema false, which allows nothing
    what = error.message if error.validator else 'must not be there'
    if len(what) > _LENGTH:
        # what it says is at its end, what it says it of before that
        what = f'{what[:_LENGTH // 2]}... {what[-_LENGTH // 2:]}'
    return f'{error.json_path}: {what}'


def faults(report: object) -> List[str]:
    """What a report has that the schema does not allow, in words."""
    return [_fault(error) for error
            in islice(_validator().iter_errors(report), _FAULTS)]


def check(report: object) -> None:
    """Raise AssertionError if a report is not as the schema has it."""
    found = faults(report)
    if found:
        raise AssertionError('\n'.join(
            ['not a report by docs/report.schema.json:', *found]))
