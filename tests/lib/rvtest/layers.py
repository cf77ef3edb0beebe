"""What the module's files take from one another, read from their sources."""

import re
from graphlib import CycleError, TopologicalSorter
from typing import Dict, List, Set

_DEFINITION = re.compile(
    r'^(?!static\b)[a-z][\w \t*]*?\b(\w+)'
    r'(?:\([^;{}]*\)\s*\{|\[[^\]\n]*\] = \{)', re.MULTILINE)


def definitions(source: str) -> Set[str]:
    """Functions and tables that a source without comments has for others."""
    return set(_DEFINITION.findall(source))


def uses(files: Dict[str, str]) -> Dict[str, Set[str]]:
    """Which file uses what other files define: their names, without comments.

    Headers count for nothing: to declare a function is not to call it.
    """
    sources = {name: text for name, text in files.items()
               if name.endswith('.c')}
    home = {word: name for name, text in sources.items()
            for word in definitions(text)}
    return {name: {home[word] for word in re.findall(r'\w+', text)
                   if word in home} - {name}
            for name, text in sources.items()}


def includes(files: Dict[str, str]) -> Dict[str, Set[str]]:
    """Which file includes which others of ours, itself."""
    return {name: set(re.findall(r'^#include "(.*)"', text, re.MULTILINE))
            for name, text in files.items()}


def circle(graph: Dict[str, Set[str]]) -> List[str]:
    """The files of a circle, the first one repeated; empty without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
