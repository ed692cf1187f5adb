-- Many values as one, in both directions: a client takes twenty times longer for thousands of them than Redis to join them.
--
-- KEYS[1]  breakers, the hash of all names and their failures in total
-- ARGV     `names`; or `overview`: names and failures in turn; or `some` and names in MessagePack: the failures of all of them, then
--          their documents, false where there is none
-- Reply: that of `names` is the names, separated by line feeds, which no valid name contains; that of the others is MessagePack, the reply
--        of TIME first.

if ARGV[1] == 'names' then return table.concat(redis.call('HKEYS', KEYS[1]), '\n') end

local time = redis.call('TIME')
if ARGV[1] == 'overview' then return cmsgpack.pack({time, redis.call('HGETALL', KEYS[1])}) end

local names, documents = cmsgpack.unpack(ARGV[2]), {}
for position = 1, #names do
  documents[position] = 'breaker:' .. names[position]
end
return cmsgpack.pack({time, redis.call('HMGET', KEYS[1], unpack(names)), redis.call('MGET', unpack(documents))})
