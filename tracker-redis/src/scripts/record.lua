-- Joins entries and progress; answers for each entry '1' or '0': whether it stands. Where rows were put aside that are not
-- whole, a list: the answer, then each as `e` and its id or `p` and its partition.
-- ARGV: `record` or `import`, how many rows of progress, each as partition and row, then each entry as id, first failure or
-- nothing, rank, captured bytes or nothing, and for `import` a resolution's value or nothing.
local whole = ARGV[1] == 'import'
local rows = tonumber(ARGV[2])
local width = whole and 5 or 4

local function united(ranges)
  table.sort(ranges, less)
  local answer, from, to = {}, nil, nil
  for _, range in ipairs(ranges) do
    local start, stop = sub(range, 1, 8), sub(range, 9, 16)
    if from and not less(to, start) then
      if less(to, stop) then to = stop end
    else
      if from then answer[#answer + 1] = from .. to end
      from, to = start, stop
    end
  end
  if from then answer[#answer + 1] = from .. to end
  return table.concat(answer)
end

-- A row: era, floor, received, committed, failed, succeeded, at (8 bytes each); its writer (term 8, attempt 16), which a row
-- of format 1 lacks; each gap's start and end (8 each); and, if any were missed, MISSED and those ranges.
local NOBODY, MISSED = string.rep('\0', 24), string.rep('\255', 16)

local function writer_of(row)
  if #row % 16 == 8 then return NOBODY, sub(row, 57) end
  return sub(row, 57, 80), sub(row, 81)
end

local function united_gaps(a, b)
  local gaps, missed = {}, {}
  for _, ranges in ipairs({ a, b }) do
    local into = gaps
    for i = 1, #ranges, 16 do
      local range = sub(ranges, i, i + 15)
      if range == MISSED then into = missed else into[#into + 1] = range end
    end
  end
  return united(gaps) .. (#missed > 0 and MISSED .. united(missed) or '')
end

local function joined(held, new)
  if held == new then return held end
  local before, era = sub(held, 1, 8), sub(new, 1, 8)
  if before ~= era then return less(before, era) and new or held end
  local parts = { era }
  for i = 9, 56, 8 do
    local a, b = sub(held, i, i + 7), sub(new, i, i + 7)
    local least = i == 9
    parts[#parts + 1] = (less(a, b) == least) and a or b
  end
  local earlier, old = writer_of(held)
  local writer, gaps = writer_of(new)
  if writer == earlier then
    gaps = united_gaps(old, gaps)
  elseif less(writer, earlier) then
    writer, gaps = earlier, old
  end
  return table.concat(parts) .. writer .. gaps
end

local function is_row(row) return #row >= 56 and #row % 8 == 0 and (#row % 16 == 8 or #row >= 80) end

local ids = {}
local base = 2 + rows * 2
for at = base + 1, #ARGV, width do ids[#ids + 1] = ARGV[at] end
local values, resolutions, damaged = load(ids)

-- What is not whole is kept beside, and the write lands as on nothing. What the index says of it cannot be worked out from
-- the value, so the whole index is looked through.
local answer, odd = {}, {}
local function set_aside(name, value)
  call('HSET', ASIDE, name, value)
  answer[#answer + 1] = name
end
for i, value in pairs(damaged) do
  set_aside('e' .. ids[i], value)
  odd[ids[i]] = true
end
if next(odd) then
  local cursor = '0'
  repeat
    local part = call('ZSCAN', INDEX, cursor, 'COUNT', CHUNK)
    cursor = part[1]
    local gone = {}
    for i = 1, #part[2], 2 do
      local member = part[2][i]
      local kind = sub(member, 1, 1)
      local id = kind == 'i' and sub(member, 3) or kind == 'g' and sub(member, 19) or sub(member, 11)
      if kind == 'a' and sub(member, 2, 2) == 'u' then id = sub(member, 11, -9) end
      if odd[id] then gone[#gone + 1] = member end
    end
    chunked('ZREM', INDEX, gone)
  until cursor == '0'
end

local put, stand, captured, uncaptured, resolved, add, drop = {}, {}, {}, {}, {}, {}, {}
for i, id in ipairs(ids) do
  local at = base + (i - 1) * width
  local first, rank, bytes = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  first = first ~= '' and first or nil
  bytes = bytes ~= '' and bytes or nil
  local held, resolution = values[i], resolutions[i]
  local has_bytes = bytes ~= nil
  local keep = bytes
  if held then
    local place = rank_at(held)
    local before = first_of(held)
    local had = has(byte(held, 1), 4)
    local old = sub(held, place)
    local old_era, era = sub(old, 1, 8), sub(rank, 1, 8)
    if old_era == era then
      if before and (not first or less(before, first)) then first = before end
      if keep and had and not less(call('HGET', CAPTURED, id) or '', keep) then keep = nil end
      has_bytes = had or has_bytes
    elseif less(old_era, era) then
      if had and not has_bytes then uncaptured[#uncaptured + 1] = id end
    else
      first, keep, has_bytes = before, nil, had
    end
    if not less(old, rank) then rank = old end
  end
  local after = resolution
  if whole and ARGV[at + 5] ~= '' then
    local held_revision = resolution and sub(resolution, 1, 8) or ZERO
    if not held or less(held_revision, sub(ARGV[at + 5], 1, 8)) then after = ARGV[at + 5] end
  end
  local value = value_of(first, after, has_bytes, rank)
  stand[i] = sub(rank, 1, 33) == sub(ARGV[at + 3], 1, 33) and '1' or '0'
  if keep then
    captured[#captured + 1] = id
    captured[#captured + 1] = keep
  end
  if after ~= resolution then
    resolved[#resolved + 1] = id
    resolved[#resolved + 1] = after
  end
  if value ~= held or after ~= resolution then
    put[#put + 1] = id
    put[#put + 1] = value
    local old = held and members_of(id, held, resolution) or {}
    difference(add, drop, old, members_of(id, value, after))
  end
end

local progress = {}
for i = 1, rows do
  local partition = ARGV[1 + i * 2]
  local held = progress[partition] or call('HGET', PROGRESS, partition)
  if held and not is_row(held) then
    set_aside('p' .. partition, held)
    held = false
  end
  progress[partition] = held and joined(held, ARGV[2 + i * 2]) or ARGV[2 + i * 2]
end

chunked('HSET', ENTRIES, put)
chunked('HSET', CAPTURED, captured)
chunked('HDEL', CAPTURED, uncaptured)
chunked('HSET', RESOLUTIONS, resolved)
chunked('ZREM', INDEX, drop)
chunked('ZADD', INDEX, add)
for partition, row in pairs(progress) do call('HSET', PROGRESS, partition, row) end
if #answer == 0 then return table.concat(stand) end
table.insert(answer, 1, table.concat(stand))
return answer
