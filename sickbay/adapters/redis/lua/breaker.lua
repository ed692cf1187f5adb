-- The operations of the machine: `sickbay/breaker/machine.py`, line by line. Each returns its reply and changes `doc`.

local function admit(ask)
  if admits_all() then return 'normal', '' end
  advance_clock()
  if admits_all() then return 'normal', '' end
  if doc.ramp then
    if ramp_take(ask.released) then return 'ramp', '' end
  elseif doc.state == 'OPEN' and now >= next_probe_at() then
    grant_probe(ask.token, ask.worker, ask.job, patience(ask.usual_ms, ask.longest_ms))
    return 'probe', int(doc.probeUntil - now)
  end
  return 'refused', ''
end

local function reserve(wanted, arrivals)
  advance_clock()
  if not doc.ramp then return admits_all() and wanted or 0 end
  return ramp_reserve(wanted, arrivals)
end

local function is_stale(permit)
  if permit.epoch ~= doc.epoch or permit.token ~= doc.probeToken then return true end
  return doc.state == 'OPEN' or doc.state == 'FORCED_OPEN'
end

local function is_probe_under_hold(permit)
  return doc.state ~= 'HALF_OPEN' and permit.token ~= '' and permit.token == doc.probeToken
end

-- The success of a superseded probe closes the breaker as that of the current one does; nothing else counts.
local function settle_stale(permit, outcome)
  local _, position = superseded(permit.token)
  if position and outcome.kind == 'success' then
    close()
    return 'closed'
  elseif position then
    end_superseded(position)
  elseif is_probe_under_hold(permit) then
    clear_probe()
  end
  return 'stale'
end

local function settle_probe(outcome)
  if outcome.kind == 'success' then
    close()
    return 'closed'
  elseif outcome.counts then
    reopen(outcome, outcome.code)
    return 'reopened'
  end
  retry_probe()
  return 'inconclusive'
end

local LIMITED_SHARE = 100

local function record_success(watermark, share, slow)
  local run = after_watermark(doc.run, watermark)
  if #run == #doc.run and not doc.ramp then return 'nothing' end
  doc.run = run
  if doc.ramp then
    ramp_succeed(slow)
  elseif share >= LIMITED_SHARE and config.ramp == 1 and doc.state == 'CLOSED' then
    doc.ramp = ramp_measure(now)
  end
  with_changes()
  return 'reset'
end

local function record_failure(permit, outcome, share)
  local metrics_only = doc.state == 'METRICS_ONLY'
  if metrics_only and now < doc.probeAt then return 'nothing' end
  local recent = within_window(doc.run, config.failure_window_ms)
  local code, seq = fold_code(recent, outcome.code), doc.seq + 1
  local run = add_failure(recent, code, config.failure_threshold, seq, permit.job)
  doc.seq = seq
  local confirm_ms = doc.ramp and math.max(config.trip_confirm_ms, CONFIRM_MS) or config.trip_confirm_ms
  if not should_trip(run, code, config, confirm_ms, share) and not is_rate_limit(outcome) then
    doc.run = run
    if doc.ramp then ramp_fail() end
    with_changes()
    return 'counted'
  elseif metrics_only then
    doc.run, doc.wouldTrip, doc.probeAt = {}, doc.wouldTrip + 1, now + next_wait(outcome)
    with_changes()
    return 'would-trip'
  end
  trip(outcome, code, count(run, code))
  return 'tripped'
end

local function record_run(outcome, took_ms, earlier)
  local metrics_only = doc.state == 'METRICS_ONLY'
  if outcome.kind == 'cancelled' or (metrics_only and now < doc.probeAt) then return 'nothing' end
  local bad = is_bad(outcome, took_ms, config)
  if not bad and #earlier == 0 and not has_bad() then
    if #doc.run == 0 then return 'nothing' end
    doc.run = {}
    with_changes()
    return 'counted'
  end
  local calls = merged({doc.calls, earlier, {{start = now, good = bad and 0 or 1, bad = bad and 1 or 0}}}, config)
  if not outcome.counts then
    outcome = {kind = outcome.kind, code = SLOW_CALLS, message = 'a run took ' .. int(took_ms) .. ' ms', retry_after_ms = 0}
  end
  if not (bad and (is_reached(calls, config) or is_rate_limit(outcome))) then
    doc.calls, doc.run = calls, {}
    with_changes()
    return 'counted'
  elseif metrics_only then
    doc.calls, doc.run, doc.wouldTrip, doc.probeAt = {}, {}, doc.wouldTrip + 1, now + next_wait(outcome)
    with_changes()
    return 'would-trip'
  end
  local _, number = totals(calls)
  trip(outcome, outcome.code, number)
  return 'tripped'
end

local function settle(permit, outcome, watermark, share, took_ms, earlier, usual_ms)
  local says_nothing = #earlier == 0 and not is_bad(outcome, took_ms, config)
  if says_nothing and is_quiet() and outcome.kind == 'success' and permit.epoch == doc.epoch then return 'nothing' end
  advance_clock()
  if is_stale(permit) then return settle_stale(permit, outcome) end
  if doc.state == 'HALF_OPEN' then return settle_probe(outcome) end
  if config.rate > 0 and not doc.ramp and doc.state ~= 'DISABLED' then return record_run(outcome, took_ms, earlier) end
  if outcome.kind == 'success' then return record_success(watermark or doc.seq, share, is_slow(took_ms, usual_ms)) end
  if outcome.counts and doc.state ~= 'DISABLED' then return record_failure(permit, outcome, share) end
  if doc.ramp then
    ramp_ended_run(doc.ramp)
    with_changes()
  end
  return 'nothing'
end

local function renew(permit)
  advance_clock()
  local one = superseded(permit.token)
  if one then
    renew_superseded(one, permit.longest_ms)
    return 'renewed'
  end
  local is_mine = doc.state == 'HALF_OPEN' and not is_stale(permit)
  if not is_mine and not is_probe_under_hold(permit) then return 'lost' end
  renew_probe(permit.longest_ms)
  return 'renewed'
end

local function return_to_auto()
  if doc.state == 'FORCED_OPEN' then
    end_hold(now)
  elseif doc.state == 'DISABLED' or doc.state == 'METRICS_ONLY' then
    enter_state('CLOSED', {})
  end
end

local function make_probe_due()
  if doc.state == 'OPEN' and doc.probeAt > now then
    doc.probeAt = now
    with_changes()
  end
end

local function command(order)
  advance_clock()
  if order.action == 'reset' then
    local refuses = doc.state == 'OPEN' or doc.state == 'HALF_OPEN' or doc.state == 'FORCED_OPEN'
    local ramps_up = config.ramp == 1 and refuses and doc.tenant == 'default'
    enter_state('CLOSED', {ramp = ramps_up and ramp_begin(now) or nil})
  elseif order.action == 'auto' then
    return_to_auto()
  elseif order.action == 'probe' then
    make_probe_due()
  elseif order.action == 'force-open' then
    enter_state('FORCED_OPEN', probe_fields({
      openedAt = doc.openedAt ~= 0 and doc.openedAt or now, ['until'] = order.duration_ms and now + order.duration_ms or 0,
      trips = doc.trips, cooldownMs = doc.cooldownMs, by = order.by, why = order.why,
    }))
  else
    local state = order.action == 'disable' and 'DISABLED' or 'METRICS_ONLY'
    enter_state(state, {wouldTrip = doc.wouldTrip, by = order.by, why = order.why})
  end
  return 'done'
end
