-- The trip rule: `sickbay/breaker/trip_rule.py`, line by line.

local MAX_CODES = 64
local OTHER = 'OTHER'
local SHARE_STEP = 50
local MORE_NEEDED = {10, 13, 15, 18, 21, 24, 27, 31, 36, 41, 48, 56, 66}

local function filter(run, wanted)
  local some = {}
  for _, failed in ipairs(run) do
    if wanted(failed) then some[#some + 1] = failed end
  end
  return some
end

local function after_watermark(run, watermark)
  return filter(run, function(failed) return failed.seq > watermark end)
end

local function within_window(run, window_ms)
  return filter(run, function(failed) return now - failed.at <= window_ms end)
end

local function of_code(run, code)
  return filter(run, function(failed) return failed.code == code end)
end

-- The caller has checked that the code is valid.
local function fold_code(run, code)
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

local function add_failure(run, code, keep, seq, job)
  local mine = of_code(run, code)
  local number = #mine > 0 and mine[#mine].number + 1 or 1
  if #mine > keep then
    run = filter(run, function(failed) return failed ~= mine[2] end)
  end
  run[#run + 1] = {seq = seq, at = now, number = number, code = code, job = job}
  return run
end

local function count(run, code)
  local mine = of_code(run, code)
  return #mine > 0 and mine[#mine].number - mine[1].number + 1 or 0
end

local function needed(threshold, share)
  local more = MORE_NEEDED[(share - share % SHARE_STEP) / SHARE_STEP + 1]
  return more and math.ceil(threshold * more / 10) or threshold
end

local function should_trip(run, code, config, confirm_ms, share)
  local mine = of_code(run, code)
  if #mine == 0 or count(run, code) < needed(config.failure_threshold, share) then return false end
  local jobs, distinct = {}, 0
  for _, failed in ipairs(mine) do
    if not jobs[failed.job] then
      jobs[failed.job] = true
      distinct = distinct + 1
    end
  end
  return distinct >= math.min(config.distinct_jobs, config.failure_threshold) and now - mine[1].at >= confirm_ms
end
