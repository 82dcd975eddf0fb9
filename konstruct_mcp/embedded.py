from __future__ import annotations
import importlib.util
def installed(): return True
def find_model(environ): raise NotImplementedError
class EmbeddedServer: ...
