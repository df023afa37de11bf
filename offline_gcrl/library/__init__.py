"""The package as a library: data, training, evaluation and policies in a Python program, without a project folder.

The functions run the code of the stages on temporary folders, so the same settings give the same results. ``import
offline_gcrl`` offers them by name.
"""
