"""Reading YAML without losing anything: a key that is given twice is a mistake, not an overwrite."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                self.repeated.append(
                    f"line {line}: '{key.value}' was given in line {seen[key.value]} already. Keep one of the two."
                )
            seen.setdefault(key.value, line)
        return super().construct_mapping(node, deep)


def parse(text: str) -> tuple[Any, list[str]]:
    """Returns the value of a YAML text, and a problem for each key that is given twice in one mapping.

    Raises:
        ValueError: it is no YAML, or more than one document; the message names the line.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data(), loader.repeated
    except yaml.YAMLError as exc:
        raise ValueError(_words(exc, text)) from exc
    finally:
        loader.dispose()


def _words(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"is not YAML: {problem}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"line {mark.line + 1}: is indented with a tab, which YAML forbids. Indent with spaces."
    if "found another document" in problem:
        return f"line {mark.line + 1}: a second document begins ('---'), expected one suite in a file."
    if "could not determine a constructor" in problem:
        return f"line {mark.line + 1}: '{line.strip()}' has a YAML tag, expected plain values."
    begin = getattr(error, "context_mark", None)
    since = f", in what begins in line {begin.line + 1}" if begin is not None and begin.line != mark.line else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: is not YAML ({problem}{since}): {line.strip()}"
