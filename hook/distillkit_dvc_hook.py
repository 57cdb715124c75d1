"""Tells distillkit when DVC's own modules have been imported, so that plain ``dvc`` knows ``hf://`` and forks stages.

Installed beside the package and imported by a ``.pth`` file at every start of Python: it imports nothing but ``sys``,
and never raises. What it sets off is in ``distillkit/hub/dvc/plugin.py``.
"""

import sys

WATCHED = frozenset(("dvc_objects.fs", "dvc.config_schema", "dvc.repo.push", "dvc.stage.run"))


class Watcher:
    """Finds modules as the others do, and has ``dvc_plugin`` look at the few it watches once they have run."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in WATCHED:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    watch(spec.loader, name)
                return spec
        return None


def watch(loader, name):
    run = loader.exec_module

    def exec_module(module):
        run(module)
        if module.__name__ == name:
            try:
                from distillkit.hub.dvc.plugin import after_import

                after_import(module)
            except Exception:  # DVC without hf:// is better than no DVC
                pass

    loader.exec_module = exec_module


if Watcher not in sys.meta_path:
    sys.meta_path.insert(0, Watcher)
