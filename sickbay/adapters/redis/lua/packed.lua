-- Many values as one, in both directions: a client takes twenty times longer for thousands of them than Redis to join them.
--
-- KEYS[1]  breakers, the hash of all names and their failures in total
-- ARGV     `names`; or `overview`: names and failures in turn; or `some`, the sizes of names, separated by commas, and the names: first
--          the failures of all of them, then their documents
-- Reply: the sizes of all values, separated by commas (-1: none), a line feed, and the values; the first two are those of TIME.
-- That of `names`: the names alone, separated by line feeds, which no valid name contains.

if ARGV[1] == 'names' then return table.concat(redis.call('HKEYS', KEYS[1]), '\n') end

local time = redis.call('TIME')
local sizes, values, number = {#time[1], #time[2]}, {time[1], time[2]}, 2

local function add(found)
  for position = 1, #found do
    local value = found[position]
    number = number + 1
    sizes[number] = value and #value or -1
    values[number] = value or ''
  end
end

if ARGV[1] == 'overview' then
  add(redis.call('HGETALL', KEYS[1]))
else
  local names, documents, start, asked = {}, {}, 1, 0
  for size in string.gmatch(ARGV[2], '%d+') do
    local name = string.sub(ARGV[3], start, start + size - 1)
    start = start + size
    asked = asked + 1
    names[asked] = name
    documents[asked] = 'breaker:' .. name
  end
  add(redis.call('HMGET', KEYS[1], unpack(names)))
  add(redis.call('MGET', unpack(documents)))
end
return table.concat(sizes, ',') .. '\n' .. table.concat(values)
