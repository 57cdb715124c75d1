"""Translation of the pipeline's messages for the Python API, which has arguments instead of params.yaml and stages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from distillkit.base.errors import DistillkitError
from distillkit.process.progress import in_words
from distillkit.sources.fetch import DataSpec

OF_DATA = "|".join(field.name for field in fields(DataSpec))
RULES = [  # applied in this order
    (r"evaluation\.runs in params\.yaml", "runs"),
    (r"write into the recipe in params\.yaml: (\w+): ", r"give \1="),
    (r"params\.yaml: (?:(?:data|experts|evaluation\.training|evaluation|recipes\.[\w-]+)\.)?", ""),
    (r" in params\.yaml", ""),
    (r", or init's --[\w-]+", ""),
    (r"^--dataset\b", "source"),
    (r"\bsay --overwrite", "give overwrite=True"),
    (r"--network package\.module:function, or the network in Python", "network="),
    (r"data\.source\.revision", "the revision: owner/name@revision"),
    (r"data\.source\.(\w+)", r"source={..., '\1': ...}"),
    (r"check data\.source", "check the dataset"),
    (rf"\bset data\.({OF_DATA})\b", r"give \1="),
    (rf"\bdata\.({OF_DATA})\b", r"\1"),
    (r"\b(lower|but) training\.(\w+)", r"\1 \2"),
    (r"\bexperts\.(lr|epochs)\b", r"\1 of the experts"),
    (r"run (?:its|the) (?:\w+ )?stage\b(?: again| first| that writes it)?", "make it again"),
    (r"^(\w+) is missing; add it", r"\1 is missing; give \1="),
    (r"\bexpected a valid integer", "expected a whole number"),
    (r"\bexpected a valid number", "expected a number"),
    (r"run the same command again( to go on)?", r"make the same call again\1"),
]
COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in RULES]


def in_python(text: str) -> str:
    """A message of the pipeline in words of the Python API."""
    for pattern, replacement in COMPILED:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def python_words() -> Iterator[None]:
    """A block whose errors and lines name arguments instead of entries in params.yaml."""
    try:
        with in_words(in_python):
            yield
    except DistillkitError as error:
        error.args = (in_python(str(error)), *error.args[1:])
        raise error.with_traceback(None) from None
