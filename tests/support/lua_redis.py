"""The part of Redis that the breaker's script needs, in a Lua of this process: ten times as fast as a whole imitation of Redis.

Real servers run the script in `tests/contract`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from lupa.lua51 import LuaError, LuaRuntime
from redis.exceptions import ResponseError

COMMANDS: Final = """
local store, hashes, published = {}, {}, {}
redis = {}
function redis.call(name, key, ...)
  local first, second = ...
  if name == 'GET' then return store[key] or false end
  if name == 'SET' then store[key] = tostring(first) return {ok = 'OK'} end
  if name == 'DEL' then store[key] = nil return 1 end
  if name == 'EXISTS' then return store[key] and 1 or 0 end
  if name == 'PUBLISH' then published[key] = first return 1 end
  if name == 'TIME' then return {'1700000000', '0'} end
  local hash = hashes[key] or {}
  hashes[key] = hash
  if name == 'HGET' then return hash[first] or false end
  if name == 'HDEL' then hash[first] = nil return 1 end
  if name == 'HINCRBY' then
    hash[first] = string.format('%.0f', tonumber(hash[first] or 0) + second)
    return tonumber(hash[first])
  end
  error('unknown command ' .. name)
end
"""


class LuaRedis:
    """Stands in for `redis.Redis`: GET, SET, EVAL, EVALSHA and SCRIPT LOAD."""

    def __init__(self) -> None:
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._lua.execute(COMMANDS)
        globals_ = self._lua.globals()
        globals_[b"cjson"] = self._lua.table_from({b"decode": self._decode})
        self._call, self._load, self._globals = globals_[b"redis"][b"call"], globals_[b"loadstring"], globals_
        self._scripts: dict[str, Any] = {}

    def get(self, key: str) -> bytes | None:
        """The value of a string."""
        return self._call(b"GET", key.encode()) or None

    def set(self, key: str, value: str | bytes) -> None:
        """Store a string."""
        self._call(b"SET", key.encode(), _bytes(value))

    def script_load(self, text: str) -> str:
        """Compile it; returns its hash."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if sha not in self._scripts:
            loaded = self._load(text.encode())
            if isinstance(loaded, tuple):
                raise ResponseError(loaded[1].decode())
            self._scripts[sha] = loaded
        return sha

    def evalsha(self, sha: str, _: int, key: str, *words: str | int | bytes) -> list[Any]:
        """Run it on one key."""
        self._globals[b"KEYS"] = self._lua.table_from([key.encode()])
        self._globals[b"ARGV"] = self._lua.table_from([_bytes(word) for word in words])
        try:
            reply = self._scripts[sha]()
        except LuaError as error:
            raise ResponseError(str(error)) from error
        return [int(one) if isinstance(one, float) else one for one in reply.values()]

    def eval(self, text: str, number: int, key: str, *words: str | int | bytes) -> list[Any]:
        """The same of its text."""
        return self.evalsha(self.script_load(text), number, key, *words)

    def _decode(self, text: bytes) -> Any:
        value = json.loads(text)
        if isinstance(value, dict):
            return self._lua.table_from({_bytes(name): _lua_value(one) for name, one in value.items()})
        return self._lua.table_from([]) if isinstance(value, list) else value


def _bytes(word: str | float | bytes) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _lua_value(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
