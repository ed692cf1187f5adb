-- One call of the breaker: read the document, run the machine, store what changed, publish it.
--
-- KEYS[1]  breaker:<name>, the only authority
-- ARGV     operation, now (empty: the time of Redis), jitter, job type, tenant, name, channel, thirteen settings, then the operation's own
-- Beside the document it keeps for people `failure:<name>:<code>` (the run in progress) and, in the hash `breakers`, every name with
-- its failures in total. A forgettable breaker (`document.py`) is not kept. Reply: {now, total, document ('' if there is none), answer, a probe's lease in ms}.

local IDLE_MS = 604800000
local RESET_MS = 3600000
local SETTINGS = {
  'failure_threshold', 'cooldown_ms', 'failure_window_ms', 'trip_confirm_ms', 'distinct_jobs', 'ramp', 'max_cooldown_ms', 'probe_lease_ms',
  'probe_max_ms', 'rate', 'calls', 'window_ms', 'slow_ms',
}
local operation, job_type, tenant, name, channel = ARGV[1], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local more = 7 + #SETTINGS
local function arg(position) return ARGV[more + position] end

now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
jitter = tonumber(ARGV[3])
config = {}
for position, setting in ipairs(SETTINGS) do config[setting] = tonumber(ARGV[7 + position]) end

-- The values of `failure:<name>:<code>`: the run in progress; while the breaker is open, the failures that opened it.
local function failure_counts()
  local shown, first = {}, {}
  if doc then
    for _, one in ipairs(doc.run) do
      first[one.code] = first[one.code] or one.number
      shown[one.code] = one.number - first[one.code] + 1
    end
    if doc.reasonCode ~= '' then shown[doc.reasonCode] = doc.reasonCount end
  end
  return shown
end

local function mirror(before)
  local after = failure_counts()
  for code in pairs(before) do
    if not after[code] then redis.call('DEL', 'failure:' .. name .. ':' .. code) end
  end
  for code, number in pairs(after) do
    if before[code] ~= number then
      redis.call('SET', 'failure:' .. name .. ':' .. code, int(number), 'PX', int(config.failure_window_ms))
    end
  end
end

-- How long a closed breaker is kept after the last write.
local function retention_ms()
  local window_ms = config.rate > 0 and config.window_ms or config.failure_window_ms
  if tenant ~= 'default' then return math.max(window_ms, config.failure_window_ms, doc.stableAt - now) end
  return operation == 'command' and RESET_MS or IDLE_MS
end

-- A name whose document has expired.
if operation == 'forget' then
  if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HDEL', 'breakers', name) end
  return {now, 0, '', 'done', ''}
end

if operation == 'probe' then
  -- Nobody ever sees the key, but the write also goes to the append-only file, so it fails if the disk is full.
  redis.call('SET', KEYS[1], '')
  redis.call('DEL', KEYS[1])
  return {now, 0, '', 'done', ''}
end

local stored = redis.call('GET', KEYS[1])
doc = stored and from_json(stored) or nil
local before = failure_counts()
local is_known = doc ~= nil
local orders = operation == 'command' and arg(1) ~= 'reset' and arg(1) ~= 'auto' and arg(1) ~= 'probe'
local reports = operation == 'settle' and tenant ~= 'default'
if not is_known and (operation == 'admit' or orders or reports) then new_document(job_type, tenant) end

local answer, lease, failures = 'unknown', '', 0
if doc then
  if operation == 'admit' then
    answer, lease = admit({
      job = arg(1), token = arg(2), worker = arg(3), released = arg(4) == '1', longest_ms = tonumber(arg(5) or 0),
      usual_ms = tonumber(arg(6) or 0),
    })
  elseif operation == 'settle' then
    local permit = {epoch = tonumber(arg(1)), token = arg(2), job = arg(3)}
    local outcome = {kind = arg(4), counts = arg(5) == '1', code = arg(6), message = arg(7), retry_after_ms = tonumber(arg(8))}
    if outcome.kind ~= 'success' and outcome.kind ~= 'cancelled' then failures = 1 end
    local took_ms, earlier, usual_ms = tonumber(arg(11) or 0), unpacked_calls(arg(12) or ''), tonumber(arg(13) or 0)
    answer = settle(permit, outcome, tonumber(arg(9)), tonumber(arg(10) or 0), took_ms, earlier, usual_ms)
  elseif operation == 'reserve' then
    answer = int(reserve(tonumber(arg(1)), tonumber(arg(2) or 0)))
  elseif operation == 'renew' then
    answer = renew({epoch = tonumber(arg(1)), token = arg(2), longest_ms = tonumber(arg(3))})
  elseif operation == 'command' then
    answer = command({action = arg(1), duration_ms = tonumber(arg(2)), by = arg(3), why = arg(4)})
  else
    advance_clock()
    answer = 'done'
  end
end

local total = 0
local forgets = changed and is_forgettable()
if forgets then
  changed = is_known
  if is_known then redis.call('HDEL', 'breakers', name) end
elseif changed or failures > 0 then
  total = redis.call('HINCRBY', 'breakers', name, failures)
elseif doc then
  total = tonumber(redis.call('HGET', 'breakers', name) or 0)
end
local json = doc and to_json() or ''
if changed then
  if forgets then
    redis.call('DEL', KEYS[1])
  elseif doc.state == 'CLOSED' then
    redis.call('SET', KEYS[1], json, 'PX', int(retention_ms()))
  else
    redis.call('SET', KEYS[1], json)
  end
  mirror(before)
  redis.call('PUBLISH', channel, '{"failures":' .. int(total) .. ',' .. string.sub(json, 2))
end
return {now, total, json, answer, lease}
