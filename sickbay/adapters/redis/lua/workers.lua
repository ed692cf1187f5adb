-- The registry of workers: announce one, remove one, list those that are live.
--
-- KEYS[1]  workers, a hash: worker id -> when it was last seen (ms), a space, and its document (JSON)
-- ARGV     operation, now (empty: the time of Redis), time to live ms, worker id, document
-- Reply    {now, id, last seen, document, id, last seen, document, ...}; only `list` returns workers, and forgets those past their time

local operation = ARGV[1]
local now = tonumber(ARGV[2])
local ttl_ms = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function int(number) return string.format('%.0f', number) end

local reply = {int(now)}
if operation == 'announce' then
  redis.call('HSET', KEYS[1], ARGV[4], int(now) .. ' ' .. ARGV[5])
  redis.call('PEXPIRE', KEYS[1], int(ttl_ms)) -- when the last worker is gone, nothing remains
elseif operation == 'leave' then
  redis.call('HDEL', KEYS[1], ARGV[4])
else
  local kept = redis.call('HGETALL', KEYS[1])
  for index = 1, #kept, 2 do
    local seen, document = string.match(kept[index + 1], '^(%d+) (.*)$')
    -- one that was seen later than now was seen before the clock was set back
    if seen and math.abs(now - tonumber(seen)) < ttl_ms then
      reply[#reply + 1] = kept[index]
      reply[#reply + 1] = seen
      reply[#reply + 1] = document
    else
      redis.call('HDEL', KEYS[1], kept[index])
    end
  end
end
return reply
