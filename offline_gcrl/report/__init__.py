"""What a person looks at after a run: one page, tables, figures, and numbers for ``dvc metrics``.

``results`` reads what the evaluation left, ``verdict`` says what it means in plain words, ``content`` gathers
what the page tells, a function a section, and ``sections/`` words it; ``tables`` writes the same as Markdown
and CSV; ``drawing`` turns figures into pictures within the page.
"""
