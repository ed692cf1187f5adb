-- The operations of the machine: `sickbay/breaker/machine.py`, line by line. Each gives its reply and moves `doc`.

local function admit(ask)
  if admits_all() then return 'normal', '' end
  advance_clock()
  if admits_all() then return 'normal', '' end
  if doc.ramp then
    if ramp_grants() then return 'ramp', '' end
  elseif doc.state == 'OPEN' and now >= free_at() then
    grant_probe(ask.token, ask.worker, ask.job)
    return 'probe', int(doc.probeUntil - now)
  end
  return 'refused', ''
end

local function is_stale(permit)
  if permit.epoch ~= doc.epoch or permit.token ~= doc.probeToken then return true end
  return doc.state == 'OPEN' or doc.state == 'FORCED_OPEN'
end

local function outlasts_a_hold(permit)
  return doc.state ~= 'HALF_OPEN' and permit.token ~= '' and permit.token == doc.probeToken
end

local function judged(outcome)
  if outcome.kind == 'success' then
    closed()
    return 'closed'
  elseif outcome.counts then
    reopened(outcome, outcome.code)
    return 'reopened'
  end
  probe_inconclusive()
  return 'inconclusive'
end

local function succeeded(watermark)
  local run = above(doc.run, watermark)
  if #run == #doc.run and not doc.ramp then return 'nothing' end
  doc.run = run
  if doc.ramp then ramp_succeeded() end
  with_changes()
  return 'reset'
end

local function failed(permit, outcome)
  local watching = doc.state == 'METRICS_ONLY'
  if watching and now < doc.probeAt then return 'nothing' end
  local recent = within(doc.run, config.failure_window_ms)
  local code, seq = folded(recent, outcome.code), doc.seq + 1
  local run = added(recent, code, config.failure_threshold, seq, permit.job)
  doc.seq = seq
  if doc.ramp then doc.ramp.failures = doc.ramp.failures + 1 end
  local ramp_failed = doc.ramp and doc.ramp.failures >= RAMP_FAILURES
  if not ramp_failed and not is_complete(run, code, config) and not is_rate_limit(outcome) then
    doc.run = run
    with_changes()
    return 'counted'
  elseif watching then
    doc.run, doc.wouldTrip, doc.probeAt = {}, doc.wouldTrip + 1, now + next_wait(outcome)
    with_changes()
    return 'would-trip'
  end
  tripped(outcome, code, count(run, code))
  return 'tripped'
end

local function settle(permit, outcome, watermark)
  if is_quiet() and outcome.kind == 'success' and permit.epoch == doc.epoch then return 'nothing' end
  advance_clock()
  if is_stale(permit) then
    if outlasts_a_hold(permit) then no_probe() end
    return 'stale'
  end
  if doc.state == 'HALF_OPEN' then return judged(outcome) end
  if outcome.kind == 'success' then return succeeded(watermark or doc.seq) end
  if outcome.counts and doc.state ~= 'DISABLED' then return failed(permit, outcome) end
  return 'nothing'
end

local function renew(permit)
  advance_clock()
  local is_mine = doc.state == 'HALF_OPEN' and not is_stale(permit)
  if not is_mine and not outlasts_a_hold(permit) then return 'lost' end
  local ends = math.min(now + config.probe_lease_ms, doc.probeSince + longest(permit.longest_ms))
  if ends > doc.probeUntil then
    doc.probeUntil = ends
    with_changes()
  end
  return 'renewed'
end

local function automatic()
  if doc.state == 'FORCED_OPEN' then
    probe_due(now)
  elseif doc.state == 'DISABLED' or doc.state == 'METRICS_ONLY' then
    enter_state('CLOSED', {})
  end
end

local function command(order)
  advance_clock()
  if order.action == 'reset' then
    enter_state('CLOSED', {})
  elseif order.action == 'auto' then
    automatic()
  elseif order.action == 'force-open' then
    enter_state('FORCED_OPEN', under_way({
      openedAt = doc.openedAt ~= 0 and doc.openedAt or now, ['until'] = order.duration_ms and now + order.duration_ms or 0,
      trips = doc.trips, cooldownMs = doc.cooldownMs, by = order.by, why = order.why,
    }))
  else
    local state = order.action == 'disable' and 'DISABLED' or 'METRICS_ONLY'
    enter_state(state, {wouldTrip = doc.wouldTrip, by = order.by, why = order.why})
  end
  return 'done'
end
