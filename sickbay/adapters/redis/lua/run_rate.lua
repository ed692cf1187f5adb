-- The rate of runs of a job type: a token bucket, and the line of jobs that wait. The twin of sickbay/domain/run_rate.py.
--
-- KEYS     a string "debt at period until" in microseconds; without it the bucket is full, and there is no line
-- ARGV     now (empty: the time of Redis), the least time to keep it (ms); count, period (us), burst;
--          operation and number: run PAID_AT, hold WANTED, end WANTED, charge NUMBER;
--          how long a payment is good, a line lasts that a worker began, and one that the control plane renews (us)
-- Reply    granted, us until there is one more, now

local now, keep_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local count, period, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local operation, number = ARGV[6], tonumber(ARGV[7])
local valid, formed, held = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local function int(value) return string.format('%.0f', value) end
local function reply(granted, wait) return {int(granted), int(wait), int(now)} end

local debt, at, old, ends = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (%d+) (%d+)$')
debt, at, old, ends = tonumber(debt or 0), tonumber(at or now), tonumber(old or period), tonumber(ends or 0)

if operation == 'run' then
  if number > 0 and math.abs(now - number) <= valid then return reply(1, 0) end
  if number == 0 and ends > now then return reply(0, ends - now) end
end

local full = burst * period
if old ~= period then debt = math.ceil(debt / old * period) end
debt = math.min(debt, full)
local elapsed = math.min(math.max(0, now - at), math.ceil(debt / count))
debt = math.max(0, debt - elapsed * count)

local wanted = operation == 'run' and 1 or number
local granted = math.min(wanted, math.floor((full - debt) / period))
debt = debt + granted * period
local wait = math.max(0, math.ceil((debt + period - full) / count))

if operation == 'run' and granted == 0 then ends = math.max(ends, now + formed) end
if operation == 'hold' then ends = now + held end
if operation == 'end' then ends = 0 end
if operation == 'charge' then granted = number end

local keep = math.max(math.ceil(debt / count), ends - now, 0)
local ttl = math.max(keep_ms, math.ceil(keep / 1000) + 1)
redis.call('SET', KEYS[1], int(debt) .. ' ' .. int(now) .. ' ' .. int(period) .. ' ' .. int(ends), 'PX', int(ttl))
return reply(granted, wait)
