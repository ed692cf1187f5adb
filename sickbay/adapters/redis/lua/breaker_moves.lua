-- The transitions between states: `sickbay/breaker/transitions.py`, line by line.

local INCONCLUSIVE_WAIT_MS = 1000
local MAX_QUICK_PROBES = 10
local MAX_EXPIRIES = 3
local STABLE_COOLDOWNS = 2
local JITTER_SCALE = 10000
local MAX_DOUBLINGS = 20
local MAX_RETRY_AFTER_MS = 3600000
local RATE_LIMIT_CODES = {RATE_LIMITED = true, HTTP_429 = true}

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

local function next_wait(outcome)
  local asked = math.min(outcome.retry_after_ms, MAX_RETRY_AFTER_MS)
  return is_rate_limit(outcome) and asked or math.max(next_cooldown(), asked)
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

local function max_probe_ms(run_ms)
  return math.max(config.probe_max_ms, run_ms + 2 * config.probe_lease_ms)
end

local function end_hold(since)
  enter_state('OPEN', probe_fields(outage_fields({probeAt = since})))
end

local function expire_probe()
  local times, lost_at = doc.expiries + 1, doc.probeUntil
  if times < MAX_EXPIRIES then
    enter_state('OPEN', outage_fields({probeAt = lost_at, expiries = times, inconclusive = doc.inconclusive}))
  else
    local cooldown = next_cooldown()
    enter_state('OPEN', outage_fields({trips = doc.trips + 1, cooldownMs = cooldown, probeAt = lost_at + cooldown}))
  end
end

local function advance_clock()
  if now < doc.updatedAt then after_clock_step() end
  if doc.state == 'HALF_OPEN' and now >= doc.probeUntil then return expire_probe() end
  if doc.state == 'FORCED_OPEN' and doc['until'] ~= 0 and now >= doc['until'] then end_hold(doc['until']) end
  if doc.probeToken ~= '' and doc.state ~= 'HALF_OPEN' and now >= doc.probeUntil then return clear_probe() end
  if doc.ramp and ramp_has_ended(doc.ramp) then
    doc.ramp = nil
    with_changes()
  end
  if #doc.calls > 0 then
    local calls = recent(doc.calls, config)
    if not is_same(calls, doc.calls) then
      doc.calls = calls
      with_changes()
    end
  end
  if doc.stableAt ~= 0 and now >= doc.stableAt then
    doc.trips, doc.cooldownMs, doc.stableAt = 0, 0, 0
    with_changes()
  end
end

local function trip(outcome, code, number)
  local cooldown = next_wait(outcome)
  enter_state('OPEN', {
    trips = doc.trips + 1, openedAt = now, probeAt = now + cooldown, cooldownMs = cooldown,
    reasonCode = code, reasonCount = number, reasonMessage = outcome.message,
  })
end

local function reopen(outcome, code)
  local cooldown = next_wait(outcome)
  enter_state('OPEN', outage_fields({
    trips = doc.trips + 1, probeAt = now + cooldown, cooldownMs = cooldown,
    reasonCode = code, reasonCount = code == doc.reasonCode and doc.reasonCount + 1 or 1, reasonMessage = outcome.message,
  }))
end

local function grant_probe(token, worker, job)
  enter_state('HALF_OPEN', outage_fields({
    probeToken = token, probeWorker = worker, probeJob = job, probeSince = now,
    probeUntil = now + math.min(config.probe_lease_ms, config.probe_max_ms),
    expiries = doc.expiries, inconclusive = doc.inconclusive,
  }))
end

local function retry_probe()
  local times = doc.inconclusive + 1
  local wait = times < MAX_QUICK_PROBES and INCONCLUSIVE_WAIT_MS or config.cooldown_ms
  enter_state('OPEN', outage_fields({probeAt = now + wait, expiries = doc.expiries, inconclusive = times}))
end

local function close()
  local ramp = config.ramp == 1 and ramp_begin(now) or nil
  local stable_at = now + STABLE_COOLDOWNS * math.min(most(), math.max(doc.cooldownMs, config.cooldown_ms))
  enter_state('CLOSED', {trips = doc.trips, cooldownMs = doc.cooldownMs, stableAt = stable_at, ramp = ramp})
end
