-- One idempotency key: reserve it, confirm it, or release it.
--
-- KEYS[1]  idempotency:<tenant>:<key>, a hash: digest, job, at, and lease (until when the first request has it; 0 once confirmed)
-- ARGV     operation, now (empty: the time of Redis), lease ms, retention ms, digest, job id
-- Reply    {answer, job id, submitted at}

local operation = ARGV[1]
local now = tonumber(ARGV[2])
local lease_ms, retention_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function int(number) return string.format('%.0f', number) end

local kept = redis.call('HMGET', KEYS[1], 'digest', 'job', 'at', 'lease')
local digest, job, at, lease = kept[1], kept[2], tonumber(kept[3] or 0), tonumber(kept[4] or 0)
local is_taken = digest and at > now - retention_ms

if operation == 'confirm' then
  if is_taken then redis.call('HSET', KEYS[1], 'lease', '0') end
  return {'done', '', ''}
elseif operation == 'release' then
  if is_taken and lease > 0 and job == ARGV[6] then redis.call('DEL', KEYS[1]) end
  return {'done', '', ''}
elseif not is_taken then
  redis.call('HSET', KEYS[1], 'digest', ARGV[5], 'job', ARGV[6], 'at', int(now), 'lease', int(now + lease_ms))
  redis.call('PEXPIRE', KEYS[1], int(retention_ms))
  return {'taken', ARGV[6], int(now)}
elseif digest ~= ARGV[5] then
  return {'reused', '', ''}
elseif lease == 0 then
  return {'duplicate', job, int(at)}
elseif lease > now and lease <= now + 2 * lease_ms then -- a later end was set before the clock was set back
  return {'in progress', '', ''}
end
redis.call('HSET', KEYS[1], 'lease', int(now + lease_ms))
return {'retaken', job, int(at)}
