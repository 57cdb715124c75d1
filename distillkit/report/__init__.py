"""Results side by side: tables, plots, previews, the HTML page. May import base, process, data, training and
evaluation.
"""
