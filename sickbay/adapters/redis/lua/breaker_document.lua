-- The document of one breaker and its flat JSON form: `document.py`, `document_json.py` and `packed_run.py` of `sickbay/breaker`, line by
-- line, with JSON's names for the fields.
-- The JSON is written by hand: cjson would print 1.7e+12 for a time and choose its own order of keys.

-- Sorted, as Python sorts them; true for the fields that are written even when empty.
local FIELDS = {
  {'by'}, {'cooldownMs'}, {'epoch', true}, {'expiries'}, {'inconclusive'}, {'jobType', true}, {'openedAt'}, {'probeAt'}, {'probeJob'},
  {'probeSince'}, {'probeToken'}, {'probeUntil'}, {'probeWorker'}, {'ramp'}, {'reasonCode'}, {'reasonCount'}, {'reasonMessage'},
  {'rev', true}, {'run'}, {'seq', true}, {'stableAt'}, {'state', true}, {'tenant'}, {'trips', true}, {'until'}, {'updatedAt', true},
  {'v', true}, {'why'}, {'wouldTrip'},
}
local TEXTS = {'by', 'probeJob', 'probeToken', 'probeWorker', 'reasonCode', 'reasonMessage', 'why'}
local NUMBERS = {
  'cooldownMs', 'epoch', 'expiries', 'inconclusive', 'openedAt', 'probeAt', 'probeSince', 'probeUntil', 'reasonCount', 'rev', 'seq',
  'stableAt', 'trips', 'until', 'updatedAt', 'wouldTrip',
}
local TIMES = {'openedAt', 'probeAt', 'probeSince', 'probeUntil', 'stableAt', 'until'}
local OPENING = {'trips', 'openedAt', 'cooldownMs', 'reasonCode', 'reasonCount', 'reasonMessage'}
local PROBE = {'probeToken', 'probeWorker', 'probeJob', 'probeSince', 'probeUntil'}
local RAMP = {
  'rate', 'permits', 'at', 'target', 'cut_at', 'scarce_at', 'since', 'good', 'bad', 'running', 'share', 'borne', 'reserved', 'reserved_at',
}
local RAMP_TIMES = {'at', 'cut_at', 'scarce_at', 'since', 'reserved_at'}
local STATES = {CLOSED = true, OPEN = true, HALF_OPEN = true, FORCED_OPEN = true, DISABLED = true, METRICS_ONLY = true}
local VERSION = 1
local BUCKET_CODE = 'CALLS'
local PATIENCE_CODE = 'PATIENCE'
local SUPERSEDED_CODE = 'SUPERSEDED'
local SLOW_CODE = 'SLOW'
local FIRST_EPOCH = 1

-- The machine works on these; `changed`: there is something to store.
local doc
local changed = false
local now
local ramp_begin

local function int(number)
  return string.format('%.0f', number)
end

local function packed_run()
  local words = {}
  for _, bucket in ipairs(doc.calls) do
    words[#words + 1] = table.concat({'0', int(bucket.start), '1', BUCKET_CODE, int(bucket.good) .. '/' .. int(bucket.bad)}, ' ')
  end
  if doc.hung > 0 or doc.patience_ms > 0 then
    words[#words + 1] = table.concat({'1 1 0', PATIENCE_CODE, int(doc.hung) .. '/' .. int(doc.patience_ms)}, ' ')
  end
  if doc.ramp and doc.ramp.slow > 0 then words[#words + 1] = table.concat({'1 1 0', SLOW_CODE, int(doc.ramp.slow)}, ' ') end
  for _, one in ipairs(doc.superseded) do
    words[#words + 1] = table.concat({int(one.since), int(one['until']), '0', SUPERSEDED_CODE, one.token}, ' ')
  end
  for _, failed in ipairs(doc.run) do
    words[#words + 1] = table.concat({int(failed.seq), int(failed.at), int(failed.number), failed.code, failed.job}, ' ')
  end
  return table.concat(words, ' ')
end

local function packed_ramp(ramp)
  if not ramp then return '' end
  local words = {}
  for position, name in ipairs(RAMP) do words[position] = int(ramp[name]) end
  return table.concat(words, ' ')
end

-- Only a document written by hand can have a control character.
local function quoted(text)
  text = string.gsub(text, '%c', ' ')
  text = string.gsub(text, '[\\"]', '\\%0')
  return '"' .. text .. '"'
end

local function to_json()
  local parts = {}
  for _, field in ipairs(FIELDS) do
    local name, always = field[1], field[2]
    local value = doc[name]
    if name == 'v' then value = VERSION end
    if name == 'run' then value = packed_run() end
    if name == 'ramp' then value = packed_ramp(doc.ramp) end
    if name == 'tenant' and value == 'default' then value = '' end
    if always or (value ~= '' and value ~= 0) then
      local shown = type(value) == 'number' and int(value) or quoted(value)
      parts[#parts + 1] = '"' .. name .. '":' .. shown
    end
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

local function unpack_run(found, text)
  found.run, found.calls, found.hung, found.patience_ms, found.superseded, found.slow = {}, {}, 0, 0, {}, 0
  for seq, at, number, code, job in string.gmatch(text, '(%d+) (%d+) (%d+) (%S+) (%S+)') do
    local first, second = string.match(job, '^(%d+)/(%d+)$')
    if tonumber(seq) == 0 then
      if first then found.calls[#found.calls + 1] = {start = tonumber(at), good = tonumber(first), bad = tonumber(second)} end
    elseif tonumber(number) ~= 0 then
      found.run[#found.run + 1] = {seq = tonumber(seq), at = tonumber(at), number = tonumber(number), code = code, job = job}
    elseif code == SLOW_CODE then
      found.slow = tonumber(job) or 0
    elseif code == PATIENCE_CODE then
      found.hung, found.patience_ms = tonumber(first or 0), tonumber(second or 0)
    else
      found.superseded[#found.superseded + 1] = {token = job, since = tonumber(seq), ['until'] = tonumber(at)}
    end
  end
end

-- Documents that were written before the ramp had a rate have four numbers, the last a time: it begins anew.
local function unpacked_ramp(text)
  local numbers = {}
  for number in string.gmatch(text, '%d+') do numbers[#numbers + 1] = tonumber(number) end
  if #numbers == 4 then return ramp_begin(numbers[4]) end
  if #numbers ~= #RAMP then return nil end
  local ramp = {}
  for position, name in ipairs(RAMP) do ramp[name] = numbers[position] end
  return ramp
end

-- Nil if it is not a document of this version: another program wrote it, and the breaker starts over.
local function from_json(text)
  local readable, found = pcall(cjson.decode, text)
  if not readable or type(found) ~= 'table' or found.v ~= VERSION or type(found.jobType) ~= 'string' or not STATES[found.state] then
    return nil
  end
  for _, name in ipairs(NUMBERS) do
    if found[name] == nil then found[name] = 0 end
    if type(found[name]) ~= 'number' then return nil end
  end
  for _, name in ipairs(TEXTS) do
    if found[name] == nil then found[name] = '' end
    if type(found[name]) ~= 'string' then return nil end
  end
  if type(found.tenant) ~= 'string' then found.tenant = 'default' end
  unpack_run(found, type(found.run) == 'string' and found.run or '')
  found.ramp = unpacked_ramp(type(found.ramp) == 'string' and found.ramp or '')
  if found.ramp then found.ramp.slow = found.slow end
  return found
end

local function blank(job_type, tenant, state)
  local fresh = {jobType = job_type, tenant = tenant, state = state, run = {}, calls = {}, hung = 0, patience_ms = 0, superseded = {}}
  for _, name in ipairs(NUMBERS) do fresh[name] = 0 end
  for _, name in ipairs(TEXTS) do fresh[name] = '' end
  fresh.updatedAt = now
  return fresh
end

local function new_document(job_type, tenant)
  doc = blank(job_type, tenant, 'CLOSED')
  doc.epoch, doc.rev = tenant == 'default' and now or FIRST_EPOCH, now
  changed = true
end

local function admits_all()
  if doc.state == 'CLOSED' then return not doc.ramp end
  return doc.state == 'DISABLED' or doc.state == 'METRICS_ONLY'
end

local function has_bad()
  for _, bucket in ipairs(doc.calls) do
    if bucket.bad > 0 then return true end
  end
  return false
end

local function is_quiet()
  return doc.state == 'CLOSED' and #doc.run == 0 and not doc.ramp and doc.stableAt == 0 and not has_bad()
end

local function is_forgettable()
  return doc.tenant ~= 'default' and is_quiet()
end

local function with_changes()
  doc.rev = math.max(doc.rev + 1, now)
  doc.updatedAt = now
  changed = true
end

-- Only `seq` and the named fields are kept.
local function enter_state(state, fields)
  local fresh = blank(doc.jobType, doc.tenant, state)
  fresh.epoch, fresh.rev, fresh.seq = math.max(doc.epoch + 1, now), math.max(doc.rev + 1, now), doc.seq
  for name, value in pairs(fields) do fresh[name] = value end
  doc = fresh
  changed = true
end

local function outage_fields(fields)
  for _, name in ipairs(OPENING) do
    if fields[name] == nil then fields[name] = doc[name] end
  end
  return fields
end

local function hanging_fields(fields)
  if fields.hung == nil then fields.hung = doc.hung end
  fields.superseded = doc.superseded
  return fields
end

local function after_clock_step()
  local back = doc.updatedAt - now
  for _, name in ipairs(TIMES) do
    if doc[name] ~= 0 then doc[name] = math.max(1, doc[name] - back) end
  end
  for _, failed in ipairs(doc.run) do failed.at = math.max(1, failed.at - back) end
  for _, bucket in ipairs(doc.calls) do bucket.start = math.max(1, bucket.start - back) end
  for _, one in ipairs(doc.superseded) do
    one.since, one['until'] = math.max(1, one.since - back), math.max(1, one['until'] - back)
  end
  for _, name in ipairs(doc.ramp and RAMP_TIMES or {}) do
    if doc.ramp[name] ~= 0 then doc.ramp[name] = math.max(1, doc.ramp[name] - back) end
  end
  with_changes()
end
