"""The metrics that the code knows: name, kind, labels and meaning, read out of each crate's metrics.rs.

A metric is a constant there; its kind and labels are those of the macros (`counter!`, `gauge!`, `histogram!`) of the
same crate that name the constant.
"""
import glob
import os
import re
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONSTANT = re.compile(r'((?:^[ \t]*///.*\n)+)^[ \t]*pub(?:\(crate\))? const (\w+): &str =\s*"(aktvator_\w+)";', re.M)
MACRO = re.compile(r"\b(counter|gauge|histogram)!\(")
# What a histogram's series are called.
SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Metric:
    """`kind` is counter, gauge or histogram; `labels` in the order of the code; `about` is its comment."""

    name: str
    kind: str
    labels: tuple
    about: str
    crate: str


def arguments(text, start):
    """What stands between a macro's parentheses."""
    depth, at = 1, start
    while depth and at < len(text):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return text[start:at - 1]


def uses(folder):
    """Constant, kind and labels of every macro in a crate."""
    for path in glob.glob(os.path.join(folder, "src", "**", "*.rs"), recursive=True):
        with open(path) as file:
            text = file.read()
        for found in MACRO.finditer(text):
            inside = arguments(text, found.end())
            constant = re.match(r"\s*(?:\w+::)*([A-Z][A-Z0-9_]*)\b", inside)
            if constant:
                yield constant[1], found[1], tuple(re.findall(r'"(\w+)"\s*=>', inside))


def metrics():
    """All of them, by crate and in the order of its file.

    Raises ValueError where a constant is measured nowhere, or as two kinds.
    """
    found, faults = [], []
    crates = glob.glob(os.path.join(ROOT, "*", "src", "metrics.rs"))
    for path in sorted(crates + glob.glob(os.path.join(ROOT, "crates", "*", "src", "metrics.rs"))):
        folder = os.path.dirname(os.path.dirname(path))
        with open(path) as file:
            constants = CONSTANT.findall(file.read())
        seen = list(uses(folder))
        for comment, constant, name in constants:
            kinds = {kind for used, kind, _ in seen if used == constant}
            if len(kinds) != 1:
                faults.append(f"{name} is measured as {sorted(kinds) or 'nothing'}")
                continue
            labels = dict.fromkeys(label for used, _, all_ in seen if used == constant for label in all_)
            about = " ".join(line.strip().removeprefix("///").strip() for line in comment.strip().splitlines())
            found.append(Metric(name, kinds.pop(), tuple(labels), about, os.path.basename(folder)))
    if faults:
        raise ValueError("; ".join(faults))
    return found
