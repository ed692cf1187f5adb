-- The trip rule: `sickbay/breaker/trip_rule.py`, line by line.

local MAX_CODES = 64
local OTHER = 'OTHER'

local function chosen(run, wanted)
  local some = {}
  for _, failed in ipairs(run) do
    if wanted(failed) then some[#some + 1] = failed end
  end
  return some
end

local function above(run, watermark)
  return chosen(run, function(failed) return failed.seq > watermark end)
end

local function within(run, window_ms)
  return chosen(run, function(failed) return now - failed.at <= window_ms end)
end

local function of(run, code)
  return chosen(run, function(failed) return failed.code == code end)
end

-- That the code is one at all was seen to by the caller.
local function folded(run, code)
  local codes, others = {}, 0
  for _, failed in ipairs(run) do
    if not codes[failed.code] then
      codes[failed.code] = true
      if failed.code ~= OTHER then others = others + 1 end
    end
  end
  if codes[code] or others < MAX_CODES then return code end
  return OTHER
end

local function added(run, code, keep, seq, job)
  local mine = of(run, code)
  local number = #mine > 0 and mine[#mine].number + 1 or 1
  if #mine > keep then
    run = chosen(run, function(failed) return failed ~= mine[2] end)
  end
  run[#run + 1] = {seq = seq, at = now, number = number, code = code, job = job}
  return run
end

local function count(run, code)
  local mine = of(run, code)
  return #mine > 0 and mine[#mine].number - mine[1].number + 1 or 0
end

local function is_complete(run, code, config)
  local mine = of(run, code)
  if #mine == 0 or count(run, code) < config.failure_threshold then return false end
  local jobs, distinct = {}, 0
  for _, failed in ipairs(mine) do
    if not jobs[failed.job] then
      jobs[failed.job] = true
      distinct = distinct + 1
    end
  end
  return distinct >= math.min(config.distinct_jobs, config.failure_threshold) and now - mine[1].at >= config.trip_confirm_ms
end
