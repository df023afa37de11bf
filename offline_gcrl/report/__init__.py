"""The report of a run: one page, tables, figures, and numbers for ``dvc metrics``.

``results`` reads the outputs of the evaluation. ``findings`` reads those of the probes. ``verdict`` recommends an
agent in sentences. ``content`` has one function per section of the page, and ``sections/`` one template per section.
``exports`` defines what a table is, with its forms as Markdown, CSV and LaTeX, and ``tables`` makes those of results.
``drawing`` embeds figures in the page, and ``films`` videos. ``writing`` writes all files.
"""
