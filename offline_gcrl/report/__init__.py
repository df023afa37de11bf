"""The report of a run: one page, tables, figures, and numbers for ``dvc metrics``.

``results`` reads the outputs of the evaluation. ``findings`` reads those of the probes. ``verdict`` recommends an
agent in sentences. ``content`` has one function per section of the page, and ``sections/`` one template per section.
``tables`` writes the numbers as Markdown and CSV. ``drawing`` embeds figures in the page. ``writing`` writes all files.
"""
