"""How a process starts and ends in little time, although it imports torch.

An import of torch leaves several hundred thousand objects that live as long as the process. Python's garbage collector
would look at all of them again and again, during the imports and when the process ends: 0.7 of the 2.3 seconds of a
process that only imports torch.
"""

import gc

from distillkit.process.interruption import listen


def begin() -> None:
    """The first call of a process: hear signals, and collect no garbage while modules are imported."""
    listen()
    gc.disable()


def set_imports_apart() -> None:
    """After the imports, and before the end: collect garbage again, but never look at what is there by now."""
    gc.freeze()
    gc.enable()
