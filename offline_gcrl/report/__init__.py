"""What a person looks at after a run: one page, tables, figures, and numbers for ``dvc metrics``.

``results`` reads what the evaluation left, ``verdict`` says what it means in plain words, ``tables`` and
``page`` write it down; ``drawing`` turns figures into pictures within the page.
"""
