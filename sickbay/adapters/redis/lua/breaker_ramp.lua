-- The ramp: `sickbay/breaker/ramp.py` and `ramp_judging.py`, line by line.

local FIRST_RATE = 10000
local KNOWN_PARTS = 75
local LEAST_RATE = 1000
local MOST_RATE = 10000000
local PERMIT = 1000
local LEAST_BURST = 2 * PERMIT
local BURST_PARTS = 10
local LONGEST_FILL_MS = 10000
local DOUBLING_STEP = 1000
local BURST_PARTS_PER_RUN = 4
local STEP = 20
local STEP_GROWS_AFTER_MS = 8000
local STEP_GROWS_EVERY_MS = 2000
local INTERVAL_MS = 500
local INTERVAL_RUNS = 20
local LONGEST_INTERVAL_MS = 5000
local FIRST_FAILURES = 2
local MORE_FAILURES = 30
local MORE_RUNS = 100
local LEAST_CUT = 200
local MOST_CUT = 500
local FIRST_SLOW = 10
local DRAINED = 70
local STILL_CROWDED = 85
local RETURNED = 97
local SMALL_SHARE = 20
local MARGIN = 50
local MOST_BORNE = 650
local MEASURED_SHARE = 50
local SUCCEEDED = 95
local UNUSED_MS = 5000
local USED_MS = 1000
local FORGOTTEN_MS = 60000
local RESERVED_MS = 1000
local MOST_LAPSES = 30
local SLOW_PARTS = 3
local LEAST_SLOWER_MS = 250
local CONFIRM_MS = 500

-- Whole numbers, as Python's //; neither is negative.
local function div(number, by)
  return (number - number % by) / by
end

function ramp_begin(at)
  return {
    rate = FIRST_RATE, permits = LEAST_BURST, at = at, target = 0, cut_at = 0, scarce_at = at, since = at, good = 0, bad = 0, running = 0,
    share = 0, borne = 0, reserved = 0, reserved_at = 0, slow = 0,
  }
end

local function ramp_measure(at)
  local ramp = ramp_begin(at)
  ramp.rate, ramp.permits = MOST_RATE, div(MOST_RATE, BURST_PARTS)
  return ramp
end

local function ramp_burst(ramp)
  return math.max(LEAST_BURST, div(ramp.rate, BURST_PARTS))
end

local function ramp_available(ramp)
  local saved = ramp.permits + div(ramp.rate * math.min(math.max(0, now - ramp.at), LONGEST_FILL_MS), 1000)
  return math.min(ramp_burst(ramp), saved)
end

-- How many may be released.
local function ramp_reserve(wanted, arrivals)
  local ramp, known = doc.ramp, div(arrivals * KNOWN_PARTS, 100)
  local grows = ramp.rate < known and known < MOST_RATE and ramp.cut_at == 0 and ramp.bad == 0 and ramp.borne == 0
  if grows then
    ramp.permits, ramp.at = ramp_available(ramp), math.max(now, ramp.at)
    ramp.rate = known
  end
  local lapsed = div(math.max(0, now - ramp.reserved_at), RESERVED_MS)
  local held = div(ramp.reserved, 2 ^ math.min(lapsed, MOST_LAPSES))
  local free = div(ramp_available(ramp), PERMIT) - held
  local granted = math.min(wanted, math.max(0, free, math.min(1, lapsed)))
  if granted > 0 then
    ramp.reserved = held + granted
    if held == 0 or lapsed > 0 then ramp.reserved_at = now end
  end
  if granted > 0 or grows then with_changes() end
  return granted
end

-- Whether there was a permit.
local function ramp_take(released)
  local ramp = doc.ramp
  local left = ramp_available(ramp)
  local scarce_at = 2 * left <= ramp_burst(ramp) and now or ramp.scarce_at
  if left < PERMIT then
    local held = math.max(ramp.reserved, math.min(ramp.reserved + 1, div(ramp_burst(ramp), 2 * PERMIT)))
    if released then held = math.max(0, ramp.reserved - 1) end
    if held ~= ramp.reserved or now - ramp.scarce_at >= INTERVAL_MS then
      ramp.reserved = held
      if now - ramp.scarce_at >= INTERVAL_MS then ramp.scarce_at = now end
      with_changes()
    end
    return false
  end
  if ramp.borne == 0 and now - math.max(scarce_at, ramp.reserved_at) >= UNUSED_MS then
    doc.ramp = nil
  else
    ramp.permits, ramp.at, ramp.scarce_at, ramp.running = left - PERMIT, now, scarce_at, ramp.running + 1
    if released then ramp.reserved = math.max(0, ramp.reserved - 1) end
  end
  with_changes()
  return true
end

local function ramp_has_ended(ramp)
  return now - math.max(ramp.at, ramp.scarce_at) >= FORGOTTEN_MS
end

local function ramp_ended_run(ramp)
  ramp.permits = ramp_available(ramp)
  ramp.running, ramp.at = math.max(0, ramp.running - 1), math.max(now, ramp.at)
end

local function ramp_measured(ramp)
  local number, lasted = ramp.good + ramp.bad, now - ramp.since
  if lasted < INTERVAL_MS or (number < INTERVAL_RUNS and lasted < LONGEST_INTERVAL_MS) then return end
  local share = div(1000 * ramp.bad, number)
  if number < INTERVAL_RUNS or share <= MEASURED_SHARE then
    doc.ramp = nil
    return
  end
  local rate = math.max(LEAST_RATE, math.min(MOST_RATE - 1, div(ramp.good * 10000 * SUCCEEDED, lasted)))
  local at = math.max(now, ramp.at)
  doc.ramp = ramp_begin(now)
  doc.ramp.rate, doc.ramp.permits, doc.ramp.at, doc.ramp.target, doc.ramp.cut_at, doc.ramp.share = rate, 0, at, rate, now, share
  doc.epoch = math.max(doc.epoch + 1, now)
end

local function ramp_cut(ramp, rate, target)
  if ramp.cut_at ~= now then doc.epoch = math.max(doc.epoch + 1, now) end
  ramp.rate, ramp.permits, ramp.at, ramp.target, ramp.cut_at, ramp.running = rate, 0, math.max(now, ramp.at), target, now, 0
end

local function ramp_drain(ramp, lasted)
  local rate, target
  if ramp.target == 0 then
    local served = lasted >= INTERVAL_MS and div(ramp.good * 1000000, lasted) or ramp.rate
    target = div(math.max(div(ramp.rate, 2), math.min(ramp.rate, served)) * SUCCEEDED, 100)
    rate = div(target * DRAINED, 100)
  elseif 100 * ramp.rate < RETURNED * ramp.target then
    target = div(ramp.target * RETURNED, 100)
    rate = math.max(div(target, 2), div(ramp.rate * STILL_CROWDED, 100))
  else
    target = div(ramp.rate * RETURNED, 100)
    rate = div(target * DRAINED, 100)
  end
  rate = math.max(LEAST_RATE, rate)
  ramp_cut(ramp, rate, math.max(rate, target))
  ramp.since, ramp.good, ramp.bad, ramp.slow, ramp.share = now, 0, 0, 0, 0
end

local function ramp_judge(ramp)
  local TELLING_FAILURES, PATIENT_MS, OBVIOUS_SHARE, FEW_BORNE = 6, 2000, 400, 150
  if ramp.rate >= MOST_RATE then return ramp_measured(ramp) end
  local number, lasted = ramp.good + ramp.bad, now - ramp.since
  local judges_slow = (number >= INTERVAL_RUNS and lasted >= INTERVAL_MS) or (ramp.target == 0 and ramp.slow >= FIRST_SLOW)
  if judges_slow and 2 * ramp.slow > number then return ramp_drain(ramp, lasted) end
  local bound = math.max(SMALL_SHARE, ramp.borne)
  local share = div(1000 * ramp.bad, number)
  local enough = ramp.borne == 0 and FIRST_FAILURES or MORE_FAILURES
  local doubling = ramp.target == 0 and ramp.bad >= enough and share > bound
  local overdue = ramp.borne == 0 and lasted >= LONGEST_INTERVAL_MS
  local few = number < (ramp.borne > 0 and MORE_RUNS or INTERVAL_RUNS)
  if not doubling and not overdue and (lasted < INTERVAL_MS or few) then return end
  local is_chance = ramp.share == 0 and ramp.borne == 0 and ramp.bad < FIRST_FAILURES
  if share > bound and ramp.borne == 0 then
    local is_early = lasted < PATIENT_MS and share <= math.min(2 * ramp.share, OBVIOUS_SHARE)
    if ramp.share > 0 and (ramp.bad < TELLING_FAILURES or is_early) then return end
    if is_chance and number < MORE_RUNS and not overdue then return end
  end
  local similar = 2 * share >= ramp.share and (ramp.borne > 0 or share <= 2 * ramp.share)
  ramp.since, ramp.good, ramp.bad, ramp.slow = now, 0, 0, 0
  if share <= bound or is_chance then
    ramp.share = 0
    if share <= SMALL_SHARE then ramp.borne = 0 end
  elseif ramp.share > 0 and (share < FEW_BORNE or similar) then
    ramp.rate = math.min(MOST_RATE - 1, div(ramp.rate * 100000, (1000 - math.min(ramp.share, 900)) * SUCCEEDED))
    ramp.target, ramp.share, ramp.borne = 0, 0, math.min(MOST_BORNE, div(share * 3, 2) + MARGIN)
    if share < FEW_BORNE then ramp.target, ramp.borne = ramp.rate, 2 * share end
  else
    local cut = doubling and math.min(MOST_CUT, math.max(share, LEAST_CUT)) or share
    local rate = math.max(LEAST_RATE, div(ramp.rate * (1000 - math.min(cut, 900)) * SUCCEEDED, 100000))
    local target = rate
    if ramp.rate < ramp.target then
      rate = math.max(rate, div(ramp.rate, 2))
      target = math.max(rate, div(ramp.target, 2))
    end
    ramp_cut(ramp, rate, target)
    ramp.share = doubling and 0 or share
  end
end

local function is_slow(took_ms, usual_ms)
  return usual_ms > 0 and took_ms >= math.max(SLOW_PARTS * usual_ms, usual_ms + LEAST_SLOWER_MS)
end

local function ramp_succeed(slow)
  local ramp = doc.ramp
  if ramp.rate >= MOST_RATE then
    ramp_ended_run(ramp)
    ramp.good = ramp.good + 1
    return ramp_judge(ramp)
  end
  local step = STEP * (1 + div(math.max(0, now - ramp.cut_at - STEP_GROWS_AFTER_MS), STEP_GROWS_EVERY_MS))
  if ramp.target == 0 or ramp.rate < ramp.target then
    step = math.max(STEP, math.min(DOUBLING_STEP, div(ramp.rate, math.max(1, BURST_PARTS_PER_RUN * ramp.running))))
  end
  local is_tested = ramp.share > 0 and ramp.borne == 0
  local rate = ramp.rate + (not slow and not is_tested and now - ramp.scarce_at < USED_MS and step or 0)
  if rate >= MOST_RATE then
    doc.ramp = nil
    return
  end
  ramp_ended_run(ramp)
  ramp.rate, ramp.good, ramp.slow = rate, ramp.good + 1, ramp.slow + (slow and 1 or 0)
  ramp_judge(ramp)
end

local function ramp_fail()
  ramp_ended_run(doc.ramp)
  doc.ramp.bad = doc.ramp.bad + 1
  ramp_judge(doc.ramp)
end
