"""YAML as people mean it: only true and false are truth values, and nothing is said twice.

YAML 1.1, which PyYAML reads, takes `off`, `no` and `yes` for truth values as well: `policy: off` would be none of the
policies, and a category `no` of a constraints file no text. YAML 1.2 has them as text, and forbids a key that comes
twice in a mapping; PyYAML takes the last one, and a model would be gone without a word. Owns the reading; refuses to
know what is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

BOOL: Final = "tag:yaml.org,2002:bool"


class YamlError(ValueError):
    """What is wrong and in which line, without the name of the file."""


class _Loader(yaml.SafeLoader):
    """Of its own, so that nobody else's is changed."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                first = lines.get((key.tag, key.value))
                if first is not None:
                    raise YamlError(f"line {line}: {key.value} stands twice, first in line {first}")
                lines[key.tag, key.value] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read(text: str) -> Any:
    """The document as plain values. Raises YamlError.

    >>> read("{policy: off, examples: true, n: 1}")
    {'policy': 'off', 'examples': True, 'n': 1}
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{where}not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise YamlError("not YAML that can be read: nested too deep") from error


def load(path: Path) -> Any:
    """What the file says. Raises YamlError."""
    try:
        return read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"cannot be read as text (UTF-8): {error}") from error
