"""The module that a fork server imports: it imports the modules that workers use, once for all of them.

A fork server can only import modules, not call functions, so this module does its work when it is imported.
"""

from offline_gcrl.support.imports import import_preloaded

import_preloaded()
