"""Claims of several packages in one table: ``distillkit table``. May import base, data, report, package and hub."""
