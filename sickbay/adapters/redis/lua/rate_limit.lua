-- Token buckets: takes what is granted of several claims, in order. The twin of sickbay/domain/rate_limit.py.
--
-- KEYS     the buckets, each a string "debt at period" in microseconds; without one the bucket is full
-- ARGV     now (empty: the time of Redis), the least time to keep a bucket (ms);
--          for each bucket: count, period (us), burst;
--          for each claim: wanted, number of buckets, their places in KEYS
-- Reply    for each claim: granted, the place of the bucket that limits it (0: none), us until it has one more, us until it is full

local now, keep_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function int(number) return string.format('%.0f', number) end

local buckets, next_arg = {}, 3
local kept = redis.call('MGET', unpack(KEYS))
for place = 1, #KEYS do
  local bucket = {count = tonumber(ARGV[next_arg]), period = tonumber(ARGV[next_arg + 1]), debt = 0}
  bucket.full = tonumber(ARGV[next_arg + 2]) * bucket.period
  next_arg = next_arg + 3
  local debt, at, period = string.match(kept[place] or '', '^(%d+) (%d+) (%d+)$')
  if debt then
    debt, at, period = tonumber(debt), tonumber(at), tonumber(period)
    if period ~= bucket.period then debt = math.ceil(debt / period * bucket.period) end
    debt = math.min(debt, bucket.full)
    local elapsed = math.min(math.max(0, now - at), math.ceil(debt / bucket.count))
    bucket.debt = math.max(0, debt - elapsed * bucket.count)
  end
  buckets[place] = bucket
end

local reply = {}
while next_arg <= #ARGV do
  local granted, tightest, least = tonumber(ARGV[next_arg]), 0, nil
  local wanted, first, last = granted, next_arg + 2, next_arg + 1 + tonumber(ARGV[next_arg + 1])
  for arg = first, last do
    local place = tonumber(ARGV[arg])
    local room = math.floor((buckets[place].full - buckets[place].debt) / buckets[place].period)
    if not least or room < least then least, tightest = room, place end
  end
  granted = math.min(granted, least)
  for arg = first, last do
    local bucket = buckets[tonumber(ARGV[arg])]
    bucket.debt = bucket.debt + granted * bucket.period
  end
  local wait, reset = 0, 0
  if granted == wanted then
    tightest = 0
  else
    local bucket = buckets[tightest]
    wait = math.ceil((bucket.debt + bucket.period - bucket.full) / bucket.count)
    reset = math.ceil(bucket.debt / bucket.count)
  end
  for _, number in ipairs({granted, tightest, wait, reset}) do reply[#reply + 1] = int(number) end
  next_arg = last + 1
end

for place, bucket in ipairs(buckets) do
  local ttl = math.max(keep_ms, math.ceil(bucket.debt / bucket.count / 1000) + 1)
  redis.call('SET', KEYS[place], int(bucket.debt) .. ' ' .. int(now) .. ' ' .. int(bucket.period), 'PX', int(ttl))
end
return reply
