-- The transitions between states: `sickbay/breaker/transitions.py`, line by line. Those of the probe are in `breaker_probes.lua`.

local STABLE_COOLDOWNS = 2

local function end_hold(since)
  enter_state('OPEN', probe_fields(outage_fields({probeAt = since})))
end

local function advance_clock()
  if now < doc.updatedAt then after_clock_step() end
  if #doc.superseded > 0 then forget_ended() end
  if doc.state == 'HALF_OPEN' then return advance_probe() end
  if doc.state == 'FORCED_OPEN' and doc['until'] ~= 0 and now >= doc['until'] then end_hold(doc['until']) end
  if doc.probeToken ~= '' and now >= doc.probeUntil then return clear_probe() end
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

local function close()
  local ramp = config.ramp == 1 and ramp_begin(now) or nil
  local stable_at = now + STABLE_COOLDOWNS * math.min(most(), math.max(doc.cooldownMs, config.cooldown_ms))
  enter_state('CLOSED', {trips = doc.trips, cooldownMs = doc.cooldownMs, stableAt = stable_at, ramp = ramp})
end
