"""YAML as people mean it: only true and false are truth values.

YAML 1.1, which PyYAML reads, takes `off`, `no` and `yes` for truth values as well: `policy: off` would be none of the
policies, and a category `no` of a constraints file no text. YAML 1.2 has them as text. Owns the reading; refuses to
know what is read.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

BOOL: Final = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """Of its own, so that nobody else's is changed."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read(text: str) -> Any:
    """The document as plain values. Raises yaml.YAMLError.

    >>> read("{policy: off, examples: true, n: 1}")
    {'policy': 'off', 'examples': True, 'n': 1}
    """
    return yaml.load(text, _Loader)
