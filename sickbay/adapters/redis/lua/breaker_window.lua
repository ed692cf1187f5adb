-- The policy `rate`: `sickbay/breaker/window.py`, line by line.

local BUCKETS = 10
local MAX_WINDOW_MS = 3600000
local SLOW_CALLS = 'SLOW_CALLS'

local function is_bad(outcome, took_ms, config)
  if outcome.kind == 'cancelled' then return false end
  return outcome.counts or (config.slow_ms > 0 and config.slow_ms <= took_ms)
end

-- All runs of these lists of buckets, in those of the window that ends now.
local function merged(lists, config)
  local width = math.max(1, (config.window_ms - config.window_ms % BUCKETS) / BUCKETS)
  local found, calls = {}, {}
  for _, list in ipairs(lists) do
    for _, bucket in ipairs(list) do
      local at = math.min(bucket.start, now)
      local start = at - at % width
      if now - start < config.window_ms then
        if not found[start] then
          found[start] = {start = start, good = 0, bad = 0}
          calls[#calls + 1] = found[start]
        end
        found[start].good = found[start].good + bucket.good
        found[start].bad = found[start].bad + bucket.bad
      end
    end
  end
  table.sort(calls, function(one, other) return one.start < other.start end)
  return calls
end

local function recent(calls, config)
  if config.rate > 0 then return merged({calls}, config) end
  local kept = {}
  for _, bucket in ipairs(calls) do
    if now - bucket.start < MAX_WINDOW_MS then kept[#kept + 1] = bucket end
  end
  return kept
end

local function is_same(calls, others)
  if #calls ~= #others then return false end
  for position, bucket in ipairs(calls) do
    if bucket.start ~= others[position].start then return false end
  end
  return true
end

local function totals(calls)
  local good, bad = 0, 0
  for _, bucket in ipairs(calls) do good, bad = good + bucket.good, bad + bucket.bad end
  return good + bad, bad
end

local function is_reached(calls, config)
  local runs, bad = totals(calls)
  return runs >= config.calls and 1000 * bad >= config.rate * runs
end

-- What a process has not reported yet: `start good bad start good bad ...`.
local function unpacked_calls(text)
  local calls = {}
  for start, good, bad in string.gmatch(text, '(%d+) (%d+) (%d+)') do
    calls[#calls + 1] = {start = tonumber(start), good = tonumber(good), bad = tonumber(bad)}
  end
  return calls
end
