-- What workers announce of their code, the schemas of job types or schedules: announce some, renew some, list all.
--
-- KEYS[1]  a hash: the name of what is announced -> when it was renewed and announced (ms), and its document (JSON). jobtypes: job type,
--          a space, digest; codeschedules: digest
-- ARGV     operation, now (empty: the time of Redis), time to live ms, then
--          announce: key, document, key, document, ...
--          renew:    keys; the reply has those that are unknown
--          list:     keys whose documents need not be returned
-- Reply    {now, ...}; of `list`: key, when it was announced, document or '', for each that is in its time; others are forgotten

local operation = ARGV[1]
local now = tonumber(ARGV[2])
local ttl_ms = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function int(number) return string.format('%.0f', number) end
local function read(entry) return string.match(entry, '^(%d+) (%d+) (.*)$') end

local reply = {int(now)}
if operation == 'announce' then
  for index = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[index], int(now) .. ' ' .. int(now) .. ' ' .. ARGV[index + 1])
  end
elseif operation == 'renew' then
  for index = 4, #ARGV do
    local entry = redis.call('HGET', KEYS[1], ARGV[index])
    local renewed, announced, document = read(entry or '')
    if renewed and math.abs(now - tonumber(renewed)) < ttl_ms then
      redis.call('HSET', KEYS[1], ARGV[index], int(now) .. ' ' .. announced .. ' ' .. document)
    else
      reply[#reply + 1] = ARGV[index]
    end
  end
else
  local seen = {}
  for index = 4, #ARGV do seen[ARGV[index]] = true end
  local kept = redis.call('HGETALL', KEYS[1])
  for index = 1, #kept, 2 do
    local renewed, announced, document = read(kept[index + 1])
    -- one that was renewed later than now was renewed before the clock was set back
    if renewed and math.abs(now - tonumber(renewed)) < ttl_ms then
      reply[#reply + 1] = kept[index]
      reply[#reply + 1] = announced
      reply[#reply + 1] = seen[kept[index]] and '' or document
    else
      redis.call('HDEL', KEYS[1], kept[index])
    end
  end
end
if operation ~= 'list' then
  redis.call('PEXPIRE', KEYS[1], int(ttl_ms)) -- when the last worker has been gone for that long, nothing remains
end
return reply
