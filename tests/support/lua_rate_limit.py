"""The script of token buckets in a Lua of this process, with the part of Redis that it needs. Real servers run it in `tests/contract`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lupa.lua51 import LuaRuntime

from sickbay.adapters.redis.rate_limiter import PREFIX
from sickbay.adapters.redis.script import Word, source

_REDIS = """
store, kept = {}, {}
redis = {}
function redis.call(name, ...)
  local args = {...}
  if name == 'TIME' then return {'1700000000', '0'} end
  if name == 'SET' then store[args[1]] = args[2] kept[args[1]] = args[4] return {ok = 'OK'} end
  assert(name == 'MGET', name)
  local found = {}
  for place, key in ipairs(args) do found[place] = store[key] or false end
  return found
end
function call(script, keys, words)
  KEYS, ARGV = keys, words
  return script()
end
"""


class LuaBuckets:
    """Runs the script; buckets never expire."""

    def __init__(self) -> None:
        """Without buckets."""
        self._lua = LuaRuntime(encoding=None)
        self._lua.execute(_REDIS.encode())
        self._script = self._lua.globals()[b"loadstring"](source("rate_limit").encode())

    def run(self, keys: Sequence[str], words: Sequence[Word]) -> Sequence[bytes]:
        """The reply."""
        texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        reply = self._lua.globals()[b"call"](
            self._script, self._lua.table_from([key.encode() for key in keys]), self._lua.table_from(texts)
        )
        return [reply[place] for place in range(1, len(reply) + 1)]

    @property
    def levels(self) -> Mapping[str, Sequence[int]]:
        """Debt, time and period of each bucket."""
        return {_name(key): [int(number) for number in value.split()] for key, value in self._lua.globals()[b"store"].items()}

    @property
    def kept_ms(self) -> Mapping[str, int]:
        """For how long each bucket is kept."""
        return {_name(key): int(value) for key, value in self._lua.globals()[b"kept"].items()}


def _name(key: bytes) -> str:
    return key.decode().removeprefix(PREFIX)
