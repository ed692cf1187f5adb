"""The script of rates of runs in a Lua of this process, with the part of Redis that it needs. Real servers run it in `tests/contract`."""

from __future__ import annotations

from collections.abc import Sequence

from lupa.lua51 import LuaRuntime

from sickbay.adapters.redis.script import Word, source
from sickbay.domain.run_rate import RunGrant

_REDIS = """
redis = {}
function redis.call(name, ...)
  local args = {...}
  if name == 'SET' then stored = args[2] return {ok = 'OK'} end
  assert(name == 'GET', name)
  return stored or false
end
function call(script, words)
  KEYS, ARGV = {'key'}, words
  return script()
end
"""


class LuaRunRate:
    """Runs the script on one key, which never expires."""

    def __init__(self) -> None:
        """Without a bucket."""
        self._lua = LuaRuntime(encoding=None)
        self._lua.execute(_REDIS.encode())
        self._script = self._lua.globals()[b"loadstring"](source("run_rate").encode())

    def run(self, words: Sequence[Word]) -> RunGrant:
        """The reply."""
        texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        reply = self._lua.globals()[b"call"](self._script, self._lua.table_from(texts))
        return RunGrant(*(int(reply[place]) for place in (1, 2, 3)))
