-- Cooldowns and the probe: `sickbay/breaker/cooldown.py` and `probes.py`, line by line.

local JITTER_SCALE = 10000
local MAX_DOUBLINGS = 20
local MAX_RETRY_AFTER_MS = 3600000
local RATE_LIMIT_CODES = {RATE_LIMITED = true, HTTP_429 = true}
local INCONCLUSIVE_WAIT_MS = 1000
local MAX_QUICK_PROBES = 10
local MAX_EXPIRIES = 3
local LEAST_PATIENCE_MS = 1000
local PATIENCE_PARTS = 4
local UNKNOWN_PATIENCE_MS = 15000
local MAX_SUPERSEDED = 3

local config
local jitter

local function most()
  return math.max(config.max_cooldown_ms, config.cooldown_ms)
end

local function next_cooldown()
  local grown = math.min(most(), config.cooldown_ms * 2 ^ math.min(doc.trips, MAX_DOUBLINGS))
  if doc.trips == 0 then return grown end
  local scaled = grown * jitter
  return math.min(most(), grown + (scaled - scaled % JITTER_SCALE) / JITTER_SCALE)
end

local function is_rate_limit(outcome)
  return RATE_LIMIT_CODES[outcome.code] and outcome.retry_after_ms > 0
end

local function asked_wait(outcome)
  return math.min(outcome.retry_after_ms, MAX_RETRY_AFTER_MS)
end

local function next_wait(outcome)
  local asked = asked_wait(outcome)
  return is_rate_limit(outcome) and asked or math.max(next_cooldown(), asked)
end

local function patience(usual_ms, longest_ms)
  local longest = usual_ms > 0 and math.max(LEAST_PATIENCE_MS, PATIENCE_PARTS * usual_ms) or UNKNOWN_PATIENCE_MS
  return longest_ms > 0 and math.min(longest, longest_ms) or longest
end

local function renewal_ms(patience_ms)
  return math.min(patience_ms * 2 ^ math.min(doc.hung, MAX_DOUBLINGS), math.max(patience_ms, most()))
end

local function grant_probe(token, worker, job, patience_ms)
  enter_state('HALF_OPEN', hanging_fields(outage_fields({
    probeToken = token, probeWorker = worker, probeJob = job, probeSince = now, probeAt = now + renewal_ms(patience_ms),
    probeUntil = now + math.min(config.probe_lease_ms, config.probe_max_ms),
    expiries = doc.expiries, inconclusive = doc.inconclusive, patience_ms = patience_ms,
  })))
end

local function reopen(outcome, code)
  local cooldown = next_wait(outcome)
  local has_hung = doc.patience_ms > 0 and now - doc.probeSince >= doc.patience_ms
  local probe_at = has_hung and math.max(now + asked_wait(outcome), doc.probeSince + cooldown) or now + cooldown
  enter_state('OPEN', hanging_fields(outage_fields({
    trips = doc.trips + 1, probeAt = probe_at, cooldownMs = cooldown, hung = has_hung and doc.hung + 1 or 0,
    reasonCode = code, reasonCount = code == doc.reasonCode and doc.reasonCount + 1 or 1, reasonMessage = outcome.message,
  })))
end

-- OPEN without anything proven.
local function open_again(probe_at, expiries, inconclusive)
  enter_state('OPEN', hanging_fields(outage_fields({probeAt = probe_at, expiries = expiries, inconclusive = inconclusive})))
end

local function retry_probe()
  local times = doc.inconclusive + 1
  local wait = times < MAX_QUICK_PROBES and INCONCLUSIVE_WAIT_MS or config.cooldown_ms
  open_again(now + wait, doc.expiries, times)
end

local function running(probes)
  local some = {}
  for _, one in ipairs(probes) do
    if one['until'] > now then some[#some + 1] = one end
  end
  return some
end

local function forget_ended()
  local rest = running(doc.superseded)
  if #rest == #doc.superseded then return end
  doc.superseded = rest
  with_changes()
end

local function superseded(token)
  for position, one in ipairs(doc.superseded) do
    if one.token == token then return one, position end
  end
end

-- One that has ended without a success only makes room for another.
local function end_superseded(position)
  table.remove(doc.superseded, position)
  with_changes()
end

-- At most until the end of the longest run, plus a little for its outcome to arrive.
local function renewed_until(since, longest_ms)
  local longest = math.max(config.probe_max_ms, longest_ms + 2 * config.probe_lease_ms)
  return math.min(now + config.probe_lease_ms, since + longest)
end

local function renew_superseded(one, longest_ms)
  local ends = renewed_until(one.since, longest_ms)
  if ends <= one['until'] then return end
  one['until'] = ends
  with_changes()
end

local function renew_probe(longest_ms)
  local ends = renewed_until(doc.probeSince, longest_ms)
  if ends <= doc.probeUntil then return end
  doc.probeUntil = ends
  with_changes()
end

-- The fields of a running probe, kept through a forced hold so that no second one runs beside it.
local function probe_fields(fields)
  if doc.probeToken ~= '' then
    for _, name in ipairs(PROBE) do fields[name] = doc[name] end
  end
  return fields
end

local function clear_probe()
  for _, name in ipairs(PROBE) do doc[name] = type(doc[name]) == 'string' and '' or 0 end
  with_changes()
end

local function next_probe_at()
  return math.max(doc.probeAt, doc.probeUntil)
end

local function supersede()
  doc.superseded[#doc.superseded + 1] = {token = doc.probeToken, since = doc.probeSince, ['until'] = doc.probeUntil}
  doc.hung, doc.superseded = doc.hung + 1, running(doc.superseded)
  open_again(doc.probeAt, doc.expiries, doc.inconclusive)
end

local function expire_probe()
  local times, lost_at = doc.expiries + 1, doc.probeUntil
  if times < MAX_EXPIRIES then return open_again(lost_at, times, doc.inconclusive) end
  local cooldown = next_cooldown()
  enter_state('OPEN', hanging_fields(outage_fields({trips = doc.trips + 1, cooldownMs = cooldown, probeAt = lost_at + cooldown})))
end

local function advance_probe()
  local renewable = doc.probeAt > 0 and doc.probeAt < doc.probeUntil and #doc.superseded < MAX_SUPERSEDED
  if renewable and doc.probeAt <= now then return supersede() end
  if now >= doc.probeUntil then expire_probe() end
end
