"""Pictures of reports, before Graphviz."""

import json
import subprocess
from typing import Tuple

from rmapviz_lib import dot, report

from .report import Report


def complaints(graph: str) -> Tuple[int, str]:
    """Status of dot, and what it says."""
    done = subprocess.run(['dot', '-Tsvg', '-o', '/dev/null'], check=False,
                          text=True, input=graph, stderr=subprocess.PIPE)
    return done.returncode, done.stderr


def complaints_of(made: Report) -> Tuple[int, str]:
    """The same of the picture of a report."""
    return complaints(dot.Graph(report.parse(json.dumps(made), 'it')).text())
